//! Data source names: how hooks say which database server they mean.
//!
//! Errors never contain the text itself, as there may be a password in it.

use std::path::PathBuf;

use thiserror::Error;

use crate::types::{MysqlAddress, MysqlDsn, MysqlTls, PostgresDsn, PostgresSsl};

const POSTGRES_PORT: u16 = 5432;
const MYSQL_PORT: u16 = 3306;
/// Where MySQL's own clients look.
const MYSQL_SOCKET: &str = "/tmp/mysql.sock";

/// A text that is no data source name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum DsnError {
    #[error("a word has no `=`: values with blanks need quotation marks")]
    NoValue,
    #[error("a quotation mark is missing")]
    Unclosed,
    #[error("`sslmode={0}` is not one of `disable`, `require`, `verify-ca`, `verify-full`")]
    SslMode(String),
    #[error("the port is no number between 0 and 65535")]
    Port,
    #[error("a `%` stands for nothing")]
    Percent,
    #[error("the `/` before the database is missing")]
    NoSlash,
    #[error("a `)` is missing")]
    NoParenthesis,
    #[error("unknown protocol: `tcp` and `unix` are possible")]
    Protocol,
    #[error("`tls={0}` is not one of `true`, `false`, `skip-verify`, `preferred`")]
    Tls(String),
}

/// What was read, and the names of parameters that have no effect.
pub(crate) type Parsed<T> = Result<(T, Vec<String>), DsnError>;

/// A `postgres://` URL, or `key=value` pairs with blanks between them.
pub(crate) fn parse_postgres(text: &str) -> Parsed<PostgresDsn> {
    let url = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let pairs = match url {
        Some(url) => postgres_url(url)?,
        None => postgres_pairs(text)?,
    };
    let mut dsn = PostgresDsn { host: "localhost".to_owned(), port: POSTGRES_PORT, ..PostgresDsn::default() };
    let mut ignored = Vec::new();
    for (key, value) in pairs {
        match key.as_str() {
            "host" => dsn.host = value,
            "port" => dsn.port = value.parse().map_err(|_| DsnError::Port)?,
            "user" => dsn.user = value,
            "password" => dsn.password = value,
            "dbname" => dsn.database = value,
            "sslmode" => dsn.ssl = ssl_mode(&value)?,
            "sslrootcert" => dsn.root_cert = path(value),
            "sslcert" => dsn.client_cert = path(value),
            "sslkey" => dsn.client_key = path(value),
            "application_name" | "fallback_application_name" | "connect_timeout" => {}
            _ => ignored.push(key),
        }
    }
    // PostgreSQL encrypts nothing there.
    if dsn.host.starts_with('/') {
        dsn.ssl = PostgresSsl::Disable;
    }
    if dsn.ssl == PostgresSsl::Disable {
        let files =
            [("sslrootcert", &mut dsn.root_cert), ("sslcert", &mut dsn.client_cert), ("sslkey", &mut dsn.client_key)];
        ignored.extend(files.into_iter().filter_map(|(key, path)| path.take().map(|_| key.to_owned())));
    }
    Ok((dsn, ignored))
}

fn path(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn ssl_mode(text: &str) -> Result<PostgresSsl, DsnError> {
    match text {
        "disable" => Ok(PostgresSsl::Disable),
        "" | "require" => Ok(PostgresSsl::Require),
        "verify-ca" => Ok(PostgresSsl::VerifyCa),
        "verify-full" => Ok(PostgresSsl::VerifyFull),
        other => Err(DsnError::SslMode(other.to_owned())),
    }
}

type Pairs = Vec<(String, String)>;

/// `user:password@host:port/database?key=value&…`
fn postgres_url(url: &str) -> Result<Pairs, DsnError> {
    let (rest, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (account, address) = server.rsplit_once('@').unwrap_or(("", server));
    let (user, password) = account.split_once(':').unwrap_or((account, ""));
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':').unwrap_or_default()),
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let parts = [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", database)];
    let parameters = parameters.split('&').filter(|part| !part.is_empty());
    let parameters = parameters.map(|part| part.split_once('=').unwrap_or((part, "")));
    let all = parts.into_iter().filter(|(_, value)| !value.is_empty()).chain(parameters);
    all.map(|(key, value)| Ok((unescaped(key)?, unescaped(value)?))).collect()
}

/// What `%20` and the like stand for.
fn unescaped(text: &str) -> Result<String, DsnError> {
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(DsnError::Percent)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| DsnError::Percent)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| DsnError::Percent)
}

/// `key = 'value' …`
fn postgres_pairs(text: &str) -> Result<Pairs, DsnError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(after) = after.trim_start().strip_prefix('=') else {
            // What stands here may be a part of a password with a blank in it.
            return Err(DsnError::NoValue);
        };
        let (value, after) = postgres_value(after.trim_start())?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A value, quoted or not, in which `\` takes away the meaning of what follows; and the rest.
fn postgres_value(text: &str) -> Result<(String, &str), DsnError> {
    let (quoted, body) = text.strip_prefix('\'').map_or((false, text), |body| (true, body));
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, body.get(at + 1..).unwrap_or_default())),
            blank if !quoted && blank.is_whitespace() => return Ok((value, body.get(at..).unwrap_or_default())),
            other => value.push(other),
        }
    }
    if quoted { Err(DsnError::Unclosed) } else { Ok((value, "")) }
}

/// `[user[:password]@][protocol[(address)]]/database[?parameters]`
pub(crate) fn parse_mysql(text: &str) -> Parsed<MysqlDsn> {
    // Passwords and paths of sockets may contain a `/`, names of databases may not.
    let (server, rest) = text.rsplit_once('/').ok_or(DsnError::NoSlash)?;
    let (database, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (account, network) = server.rsplit_once('@').unwrap_or(("", server));
    let (user, password) = account.split_once(':').unwrap_or((account, ""));
    let (mut tls, mut ignored) = (MysqlTls::Off, Vec::new());
    for (key, value) in parameters.split('&').filter_map(|part| part.split_once('=')) {
        match key {
            "tls" => tls = mysql_tls(value)?,
            "timeout" | "readTimeout" | "writeTimeout" | "allowFallbackToPlaintext" => ignored.push(key.to_owned()),
            // The rest is about how a program gets its results, and this one gets none.
            _ => {}
        }
    }
    let address = mysql_address(network)?;
    // What goes through a socket does not leave the machine.
    if tls != MysqlTls::Off && matches!(address, MysqlAddress::Unix(_)) {
        tls = MysqlTls::Off;
        ignored.push("tls".to_owned());
    }
    let (user, password, database) = (user.to_owned(), password.to_owned(), unescaped(database)?);
    Ok((MysqlDsn { user, password, address, database, tls }, ignored))
}

fn mysql_tls(text: &str) -> Result<MysqlTls, DsnError> {
    match text {
        "" | "0" | "false" | "False" | "FALSE" => Ok(MysqlTls::Off),
        "1" | "true" | "True" | "TRUE" => Ok(MysqlTls::Verify),
        _ if text.eq_ignore_ascii_case("preferred") => Ok(MysqlTls::Preferred),
        _ if text.eq_ignore_ascii_case("skip-verify") => Ok(MysqlTls::SkipVerify),
        _ => Err(DsnError::Tls(text.to_owned())),
    }
}

fn mysql_address(text: &str) -> Result<MysqlAddress, DsnError> {
    let (protocol, address) = match text.split_once('(') {
        Some((protocol, address)) => (protocol, address.strip_suffix(')').ok_or(DsnError::NoParenthesis)?),
        None => (text, ""),
    };
    match protocol {
        "unix" if address.is_empty() => Ok(MysqlAddress::Unix(PathBuf::from(MYSQL_SOCKET))),
        "unix" => Ok(MysqlAddress::Unix(PathBuf::from(address))),
        "" | "tcp" if address.is_empty() => Ok(MysqlAddress::Tcp("127.0.0.1".to_owned(), MYSQL_PORT)),
        "" | "tcp" => mysql_host(address),
        _ => Err(DsnError::Protocol),
    }
}

fn mysql_host(address: &str) -> Result<MysqlAddress, DsnError> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => match address.rsplit_once(':') {
            // Several colons without brackets are an IPv6 address without a port.
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (address, None),
        },
    };
    let port = match port {
        None | Some("") => MYSQL_PORT,
        Some(port) => port.parse().map_err(|_| DsnError::Port)?,
    };
    Ok(MysqlAddress::Tcp(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(text: &str) -> PostgresDsn {
        parse_postgres(text).unwrap().0
    }

    #[test]
    fn postgres_servers_are_read_from_pairs_and_urls() {
        let full = PostgresDsn {
            host: "db".to_owned(),
            port: 5433,
            user: "me".to_owned(),
            password: "it's a \\secret".to_owned(),
            database: "x".to_owned(),
            ssl: PostgresSsl::Disable,
            ..PostgresDsn::default()
        };
        let pairs = r"host=db port = 5433 user='me' password='it\'s a \\secret' dbname=x sslmode=disable";
        assert_eq!(postgres(pairs), full);
        let url = "postgres://me:it%27s%20a%20%5Csecret@db:5433/x?sslmode=disable";
        assert_eq!(postgres(url), full);
        assert_eq!(postgres(&url.replace("postgres:", "postgresql:")), full);
        let default = postgres("");
        assert_eq!((default.host.as_str(), default.port, default.ssl), ("localhost", 5432, PostgresSsl::Require));
        assert_eq!(postgres("host=/run/postgresql").host, "/run/postgresql");
        assert_eq!(postgres("postgres://[::1]:1/").host, "::1");
        assert_eq!(postgres("postgres:///x?host=/run/postgresql").host, "/run/postgresql");
        assert_eq!(parse_postgres("search_path=a connect_timeout=1").unwrap().1, ["search_path"]);
    }

    #[test]
    fn how_postgres_is_encrypted_is_read() {
        let file = |name: &str| Some(PathBuf::from(name));
        let dsn = postgres("sslmode=verify-full sslrootcert=/a sslcert=/b sslkey=/c");
        assert_eq!(dsn.ssl, PostgresSsl::VerifyFull);
        assert_eq!((dsn.root_cert, dsn.client_cert, dsn.client_key), (file("/a"), file("/b"), file("/c")));
        let dsn = postgres("postgres://db/?sslmode=verify-ca&sslrootcert=%2Fa");
        assert_eq!((dsn.ssl, dsn.root_cert), (PostgresSsl::VerifyCa, file("/a")));
        assert_eq!(postgres("sslrootcert=''").root_cert, None);
        let (dsn, ignored) = parse_postgres("sslmode=disable sslrootcert=/a sslkey=/c").unwrap();
        assert_eq!((dsn.root_cert, dsn.client_key), (None, None));
        assert_eq!(ignored, ["sslrootcert", "sslkey"]);
        let (dsn, ignored) = parse_postgres("host=/run/postgresql sslrootcert=/a").unwrap();
        assert_eq!((dsn.ssl, ignored), (PostgresSsl::Disable, vec!["sslrootcert".to_owned()]));
    }

    #[test]
    fn what_is_no_postgres_server_is_refused() {
        for (text, error) in [
            ("host", DsnError::NoValue),
            ("password=a SECRET", DsnError::NoValue),
            ("password='a", DsnError::Unclosed),
            ("sslmode=maybe", DsnError::SslMode("maybe".to_owned())),
            ("port=x", DsnError::Port),
            ("postgres://db:99999/x", DsnError::Port),
            ("postgres://a%2/x", DsnError::Percent),
            ("postgres://a%é/x", DsnError::Percent),
        ] {
            assert_eq!(parse_postgres(text), Err(error), "{text}");
        }
    }

    #[test]
    fn mysql_servers_are_read() {
        let tcp = |host: &str, port| MysqlAddress::Tcp(host.to_owned(), port);
        let unix = |path: &str| MysqlAddress::Unix(PathBuf::from(path));
        for (text, user, password, address, database) in [
            ("root:p@/w:d@tcp(db:3307)/x", "root", "p@/w:d", tcp("db", 3307), "x"),
            ("root@unix(/run/mysqld/mysqld.sock)/", "root", "", unix("/run/mysqld/mysqld.sock"), ""),
            ("/", "", "", tcp("127.0.0.1", 3306), ""),
            ("u@tcp/db?parseTime=true", "u", "", tcp("127.0.0.1", 3306), "db"),
            ("u@tcp(db)/", "u", "", tcp("db", 3306), ""),
            ("u@tcp([::1]:1)/", "u", "", tcp("::1", 1), ""),
            ("u@tcp(::1)/", "u", "", tcp("::1", 3306), ""),
            ("u@unix/a%20b?tls=false", "u", "", unix("/tmp/mysql.sock"), "a b"),
        ] {
            let (user, password, database) = (user.to_owned(), password.to_owned(), database.to_owned());
            let dsn = MysqlDsn { user, password, address, database, tls: MysqlTls::Off };
            assert_eq!(parse_mysql(text), Ok((dsn, Vec::new())), "{text}");
        }
        assert_eq!(parse_mysql("/?timeout=1s").unwrap().1, ["timeout"]);
    }

    #[test]
    fn how_mysql_is_encrypted_is_read() {
        for (text, tls) in [
            ("/?tls=", MysqlTls::Off),
            ("/?tls=False", MysqlTls::Off),
            ("/?tls=true", MysqlTls::Verify),
            ("/?parseTime=true&tls=1", MysqlTls::Verify),
            ("/?tls=Skip-Verify", MysqlTls::SkipVerify),
            ("/?tls=preferred", MysqlTls::Preferred),
        ] {
            let (dsn, ignored) = parse_mysql(text).unwrap();
            assert_eq!((dsn.tls, ignored), (tls, Vec::new()), "{text}");
        }
        let (dsn, ignored) = parse_mysql("u@unix/?tls=true").unwrap();
        assert_eq!((dsn.tls, ignored), (MysqlTls::Off, vec!["tls".to_owned()]));
    }

    #[test]
    fn what_is_no_mysql_server_is_refused() {
        for (text, error) in [
            ("", DsnError::NoSlash),
            ("root@tcp(db)", DsnError::NoSlash),
            ("root@tcp(db/x", DsnError::NoParenthesis),
            ("root@pipe(x)/", DsnError::Protocol),
            ("root@tcp(db:x)/", DsnError::Port),
            ("/?tls=custom", DsnError::Tls("custom".to_owned())),
        ] {
            assert_eq!(parse_mysql(text), Err(error), "{text}");
        }
    }
}
