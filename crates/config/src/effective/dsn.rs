//! Database servers as one text, as the hooks have them.

use std::path::PathBuf;

use super::Secrets;
use crate::types::{MysqlAddress, MysqlDsn, MysqlTls, PostgresDsn, PostgresSsl};

const MASK: &str = "***";

fn password(password: &str, secrets: Secrets) -> &str {
    match secrets {
        Secrets::Masked if !password.is_empty() => MASK,
        Secrets::Masked | Secrets::Shown => password,
    }
}

/// `key=value` pairs; what is empty is left out, but for the host, which has a default.
pub(super) fn postgres(dsn: &PostgresDsn, secrets: Secrets) -> String {
    let PostgresDsn { host, port, user, password, database, ssl, root_cert, client_cert, client_key } = dsn;
    let ssl = match ssl {
        PostgresSsl::Disable => "disable",
        PostgresSsl::Require => "require",
        PostgresSsl::VerifyCa => "verify-ca",
        PostgresSsl::VerifyFull => "verify-full",
    };
    let port = port.to_string();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let (root_cert, client_cert, client_key) = (path(root_cert), path(client_cert), path(client_key));
    let pairs = [
        ("host", host.as_str()),
        ("port", &port),
        ("user", user),
        ("password", self::password(password, secrets)),
        ("dbname", database),
        ("sslmode", ssl),
        ("sslrootcert", &root_cert),
        ("sslcert", &client_cert),
        ("sslkey", &client_key),
    ];
    let given = pairs.iter().filter(|(key, value)| *key == "host" || !value.is_empty());
    given.map(|(key, value)| format!("{key}={}", postgres_value(value))).collect::<Vec<_>>().join(" ")
}

fn postgres_value(value: &str) -> String {
    if !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && c != '\'' && c != '\\') {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `user:password@tcp(host:port)/database?tls=…`
pub(super) fn mysql(dsn: &MysqlDsn, secrets: Secrets) -> String {
    let MysqlDsn { user, password, address, database, tls } = dsn;
    let account = match (user.as_str(), self::password(password, secrets)) {
        ("", "") => String::new(),
        (user, "") => format!("{user}@"),
        (user, password) => format!("{user}:{password}@"),
    };
    let address = match address {
        MysqlAddress::Tcp(host, port) if host.contains(':') => format!("tcp([{host}]:{port})"),
        MysqlAddress::Tcp(host, port) => format!("tcp({host}:{port})"),
        MysqlAddress::Unix(path) => format!("unix({})", path.display()),
    };
    let tls = match tls {
        MysqlTls::Off => "",
        MysqlTls::Preferred => "?tls=preferred",
        MysqlTls::SkipVerify => "?tls=skip-verify",
        MysqlTls::Verify => "?tls=true",
    };
    format!("{account}{address}/{}{tls}", escaped(database))
}

/// With `%2f` and the like for what would end the name.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsn::{parse_mysql, parse_postgres};

    #[test]
    fn servers_are_written_as_they_are_read() {
        for text in [
            "",
            "host=''",
            r"host=db port=1 user='' password=' it\'s \\' dbname=x sslmode=verify-ca",
            "postgres://me:a%27b%20c@[::1]:5433/x?sslmode=disable",
            "sslmode=verify-full sslrootcert='/a b' sslcert=/c sslkey=/d",
        ] {
            let (dsn, _) = parse_postgres(text).unwrap();
            let (again, ignored) = parse_postgres(&postgres(&dsn, Secrets::Shown)).unwrap();
            assert!(again == dsn && ignored.is_empty(), "{text}: {dsn:?} {again:?}");
        }
        for text in [
            "/",
            "root:p@/w:d@tcp(db:3307)/x",
            ":only-a-password@tcp(:1)/",
            "u@unix(/a(b)/c)/a%20b%2Fc%3f%25%c3%a4?tls=false",
            "u@tcp(::1)/",
            "u@unix/",
            "u@tcp(db)/?tls=1",
            "u@tcp(db)/x?tls=skip-verify",
            "u@tcp(db)/?tls=Preferred&parseTime=true",
        ] {
            let (dsn, _) = parse_mysql(text).unwrap();
            let (again, ignored) = parse_mysql(&mysql(&dsn, Secrets::Shown)).unwrap();
            assert!(again == dsn && ignored.is_empty(), "{text}: {dsn:?} {again:?}");
        }
    }

    #[test]
    fn passwords_are_shown_only_when_asked_for() {
        let mut dsn = PostgresDsn {
            host: "db".to_owned(),
            port: 5432,
            user: "zrepl".to_owned(),
            password: r"it's a \ secret".to_owned(),
            database: String::new(),
            ssl: PostgresSsl::VerifyFull,
            ..PostgresDsn::default()
        };
        let shown = r"host=db port=5432 user=zrepl password='it\'s a \\ secret' sslmode=verify-full";
        assert_eq!(postgres(&dsn, Secrets::Shown), shown);
        let masked = "host=db port=5432 user=zrepl password=*** sslmode=verify-full";
        assert_eq!(postgres(&dsn, Secrets::Masked), masked);
        dsn.password.clear();
        assert!(!postgres(&dsn, Secrets::Masked).contains("password"));
    }

    #[test]
    fn mysql_servers_are_found_by_address_or_socket() {
        let mut dsn = MysqlDsn {
            user: "root".to_owned(),
            password: "secret".to_owned(),
            address: MysqlAddress::Tcp("::1".to_owned(), 3306),
            database: "a".to_owned(),
            tls: MysqlTls::Off,
        };
        assert_eq!(mysql(&dsn, Secrets::Shown), "root:secret@tcp([::1]:3306)/a");
        assert_eq!(mysql(&dsn, Secrets::Masked), "root:***@tcp([::1]:3306)/a");
        dsn.address = MysqlAddress::Unix("/run/mysql.sock".into());
        dsn.password.clear();
        assert_eq!(mysql(&dsn, Secrets::Masked), "root@unix(/run/mysql.sock)/a");
    }
}
