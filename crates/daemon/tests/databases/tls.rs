//! Hooks against servers that are reached through TCP and speak TLS, with certificates made here.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use config::types::{HookKind, MysqlAddress, MysqlDsn, MysqlTls, PostgresDsn, PostgresSsl};
use daemon::hooks::Status;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::server::{Identity, Server};
use crate::{AMPLE, around, statuses};

/// The name that certificates of servers are for.
const HOST: &str = "localhost";
/// Another name of the same place.
const ADDRESS: &str = "127.0.0.1";

/// Nobody gets in without TLS.
const ENCRYPTED: &str = "hostssl all all 127.0.0.1/32 trust\n";
/// Nobody gets in without a certificate that the server's authority vouches for.
const WITH_CERTIFICATE: &str = "hostssl all all 127.0.0.1/32 cert\n";
/// Anybody gets in.
const CLEAR: &str = "host all all 127.0.0.1/32 trust\n";

/// An authority, and files of what it and others have signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        Self::called("an authority")
    }

    fn called(name: &str) -> Self {
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(wanted, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: TempDir::with_prefix("zrepl-tls-").unwrap() }
    }

    /// A certificate for a name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let mut wanted = CertificateParams::new([name.to_owned()]).unwrap();
        wanted.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (wanted.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self) -> Identity {
        let (certificate, key) = self.issue(HOST);
        Identity { certificate, key, authority: self.issuer.pem() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn certificate_file(&self) -> PathBuf {
        self.file("authority.crt", &self.issuer.pem())
    }
}

fn dsn(port: u16, ssl: PostgresSsl) -> PostgresDsn {
    let (user, database) = ("tester".to_owned(), "postgres".to_owned());
    PostgresDsn { host: HOST.to_owned(), port, user, database, ssl, ..PostgresDsn::default() }
}

/// Why there was no checkpoint; none if there was one.
async fn checkpoint(dsn: PostgresDsn) -> Option<String> {
    let outcome = around(HookKind::PostgresCheckpoint { dsn }, AMPLE, async { Ok(()) }).await;
    let error = outcome.steps[0].error.clone();
    assert_eq!(error.is_none(), statuses(&outcome) == [Status::Ok; 3], "{outcome}");
    error
}

#[track_caller]
fn says(error: Option<String>, words: &str) {
    let error = error.unwrap_or_else(|| panic!("it worked, and should say `{words}`"));
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn postgres_is_encrypted_without_a_check_unless_an_authority_is_named() {
    let authority = Authority::new();
    let server = Server::postgres_at_port(Some(&authority.server()), ENCRYPTED);
    says(checkpoint(dsn(server.port, PostgresSsl::Disable)).await, "no encryption");
    assert_eq!(checkpoint(dsn(server.port, PostgresSsl::Require)).await, None);

    let required = dsn(server.port, PostgresSsl::Require);
    let at_address = PostgresDsn { host: ADDRESS.to_owned(), ..required.clone() };
    assert_eq!(checkpoint(PostgresDsn { root_cert: Some(authority.certificate_file()), ..at_address }).await, None);
    let stranger = Authority::called("a stranger");
    let distrustful = PostgresDsn { root_cert: Some(stranger.certificate_file()), ..required.clone() };
    says(checkpoint(distrustful).await, "UnknownIssuer");
    let lost = PostgresDsn { root_cert: Some(PathBuf::from("/nowhere/root.crt")), ..required.clone() };
    says(checkpoint(lost).await, "cannot read /nowhere/root.crt, the `sslrootcert` of `dsn`: No such file");
    let empty = PostgresDsn { root_cert: Some(authority.file("empty", "")), ..required };
    says(checkpoint(empty).await, "it contains no certificate");
}

#[tokio::test]
async fn the_certificate_of_postgres_is_checked_as_far_as_sslmode_says() {
    let authority = Authority::new();
    let server = Server::postgres_at_port(Some(&authority.server()), ENCRYPTED);
    let trusting = |ssl, host: &str| PostgresDsn {
        host: host.to_owned(),
        root_cert: Some(authority.certificate_file()),
        ..dsn(server.port, ssl)
    };
    assert_eq!(checkpoint(trusting(PostgresSsl::VerifyFull, HOST)).await, None);
    assert_eq!(checkpoint(trusting(PostgresSsl::VerifyCa, HOST)).await, None);
    assert_eq!(checkpoint(trusting(PostgresSsl::VerifyCa, ADDRESS)).await, None);
    says(checkpoint(trusting(PostgresSsl::VerifyFull, ADDRESS)).await, "certificate not valid for name \"127.0.0.1\"");
    let stranger = Authority::called("a stranger");
    for ssl in [PostgresSsl::VerifyCa, PostgresSsl::VerifyFull] {
        let distrustful = PostgresDsn { root_cert: Some(stranger.certificate_file()), ..dsn(server.port, ssl) };
        says(checkpoint(distrustful).await, "UnknownIssuer");
    }
}

#[tokio::test]
async fn a_certificate_of_postgres_that_is_its_own_authority_is_accepted_until_it_expires() {
    let own = |name: &str, last_year: i32| {
        let mut wanted = CertificateParams::new([name.to_owned()]).unwrap();
        // As `openssl req -x509` makes them.
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.self_signed(&key).unwrap().pem();
        Identity { authority: certificate.clone(), certificate, key: key.serialize_pem() }
    };
    let files = Authority::new();
    for (last_year, complaint) in [(2999, None), (2001, Some("Expired"))] {
        let identity = own(HOST, last_year);
        let server = Server::postgres_at_port(Some(&identity), ENCRYPTED);
        let root_cert = Some(files.file("own.crt", &identity.certificate));
        let error = checkpoint(PostgresDsn { root_cert, ..dsn(server.port, PostgresSsl::VerifyFull) }).await;
        match complaint {
            Some(words) => says(error, words),
            None => assert_eq!(error, None),
        }
        // Nobody looks.
        assert_eq!(checkpoint(dsn(server.port, PostgresSsl::Require)).await, None);
    }
}

#[tokio::test]
async fn postgres_can_ask_for_a_certificate() {
    let authority = Authority::new();
    let server = Server::postgres_at_port(Some(&authority.server()), WITH_CERTIFICATE);
    says(checkpoint(dsn(server.port, PostgresSsl::Require)).await, "certificate");
    let with_certificate_of = |name: &str| {
        let (certificate, key) = authority.issue(name);
        PostgresDsn {
            client_cert: Some(authority.file("client.crt", &certificate)),
            client_key: Some(authority.file("client.key", &key)),
            ..dsn(server.port, PostgresSsl::Require)
        }
    };
    assert_eq!(checkpoint(with_certificate_of("tester")).await, None);
    says(checkpoint(with_certificate_of("somebody")).await, "certificate authentication failed for user \"tester\"");
    let other_key = Some(authority.file("other.key", &authority.issue("tester").1));
    let mixed_up = PostgresDsn { client_key: other_key, ..with_certificate_of("tester") };
    says(checkpoint(mixed_up).await, "cannot use TLS: ");
}

#[tokio::test]
async fn postgres_without_tls_is_not_asked_in_the_clear() {
    let authority = Authority::new();
    let server = Server::postgres_at_port(None, CLEAR);
    says(checkpoint(dsn(server.port, PostgresSsl::Require)).await, "the server does not offer TLS");
    for ssl in [PostgresSsl::VerifyCa, PostgresSsl::VerifyFull] {
        let root_cert = Some(authority.certificate_file());
        says(checkpoint(PostgresDsn { root_cert, ..dsn(server.port, ssl) }).await, "the server does not offer TLS");
    }
    assert_eq!(checkpoint(dsn(server.port, PostgresSsl::Disable)).await, None);
}

/// Why the tables were not locked; none if they were.
async fn lock(port: u16, host: &str, tls: MysqlTls) -> Option<String> {
    let (user, password, database) = ("tester".to_owned(), "se cret".to_owned(), String::new());
    let address = MysqlAddress::Tcp(host.to_owned(), port);
    let dsn = MysqlDsn { user, password, address, database, tls };
    let outcome = around(HookKind::MysqlLockTables { dsn }, AMPLE, async { Ok(()) }).await;
    let error = outcome.steps[0].error.clone();
    assert_eq!(error.is_none(), statuses(&outcome) == [Status::Ok; 3], "{outcome}");
    error
}

/// Lets nobody in who does not encrypt.
async fn require_encryption(server: &Server) {
    use mysql_async::prelude::Queryable;
    let socket = crate::socket(server).display().to_string();
    let options = mysql_async::OptsBuilder::default().socket(Some(socket)).user(Some("tester")).pass(Some("se cret"));
    let mut session = mysql_async::Conn::new(options).await.unwrap();
    session.query_drop("SET GLOBAL require_secure_transport = ON").await.unwrap();
}

#[tokio::test]
async fn mariadb_is_encrypted_as_asked_for() {
    let authority = Authority::new();
    let server = Server::mariadb_at_port(Some(&authority.server()));
    assert_eq!(lock(server.port, HOST, MysqlTls::Off).await, None);
    require_encryption(&server).await;
    says(lock(server.port, HOST, MysqlTls::Off).await, "Access denied");
    for tls in [MysqlTls::SkipVerify, MysqlTls::Preferred] {
        assert_eq!(lock(server.port, HOST, tls).await, None, "{tls:?}");
        assert_eq!(lock(server.port, ADDRESS, tls).await, None, "{tls:?}");
    }
}

#[tokio::test]
async fn mariadb_without_tls_is_asked_in_the_clear_only_if_that_is_said() {
    let server = Server::mariadb_at_port(None);
    says(lock(server.port, HOST, MysqlTls::SkipVerify).await, "the server does not offer TLS");
    for tls in [MysqlTls::Preferred, MysqlTls::Off] {
        assert_eq!(lock(server.port, HOST, tls).await, None, "{tls:?}");
    }
}

/// Where the servers of the test below are, when it is in a process of its own: whom a system trusts is
/// found out from the environment.
const PORTS: &str = "ZREPL_TEST_PORTS";

#[tokio::test]
async fn servers_are_checked_against_the_authorities_that_the_system_trusts() {
    if let Ok(ports) = std::env::var(PORTS) {
        let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().unwrap()).collect();
        let postgres = checkpoint(dsn(ports[0], PostgresSsl::VerifyFull)).await;
        let mariadb = lock(ports[1], HOST, MysqlTls::Verify).await;
        println!("POSTGRES {postgres:?}\nMARIADB {mariadb:?}");
        let elsewhere = lock(ports[1], ADDRESS, MysqlTls::Verify).await;
        println!("ELSEWHERE {elsewhere:?}");
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::called("a stranger"));
    let postgres = Server::postgres_at_port(Some(&authority.server()), ENCRYPTED);
    let mariadb = Server::mariadb_at_port(Some(&authority.server()));
    let with_authorities = |file: PathBuf| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture"]);
        child.arg("tls::servers_are_checked_against_the_authorities_that_the_system_trusts");
        child.env(PORTS, format!("{} {}", postgres.port, mariadb.port));
        child.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        let output = child.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        ["POSTGRES", "MARIADB", "ELSEWHERE"].map(line)
    };
    let [postgres_said, mariadb_said, elsewhere] = with_authorities(authority.certificate_file());
    assert!(postgres_said.ends_with("POSTGRES None"), "{postgres_said}");
    assert_eq!(mariadb_said, "MARIADB None");
    assert!(elsewhere.contains("certificate not valid for name"), "{elsewhere}");
    let said = with_authorities(stranger.certificate_file());
    assert!(said.iter().all(|line| line.contains("UnknownIssuer")), "{said:?}");
    let said = with_authorities(authority.file("nobody.crt", ""));
    assert!(
        said.iter().all(|line| line.contains("there are no certificates of authorities on this system")),
        "{said:?}"
    );
}
