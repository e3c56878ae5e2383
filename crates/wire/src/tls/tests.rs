use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::control::{Remote, Role};
use crate::data::DataClient;
use crate::frame::Limits;
use crate::handshake::{Agreement, Banner, Label};
use crate::listen::refusing::Refusing;
use crate::transport::{Greeting, welcome};
use crate::{control, data};

/// What one side has: a certificate and its key, as text.
struct Pair {
    certificate: String,
    key: String,
}

/// As zrepl's documentation has people make them: self-signed, and an authority.
fn documented(name: &str) -> CertificateParams {
    let mut wanted = CertificateParams::new([name.to_owned()]).unwrap();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(DnType::CommonName, name);
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wanted
}

fn self_signed(wanted: &CertificateParams) -> Pair {
    let key = KeyPair::generate().unwrap();
    Pair { certificate: wanted.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn pair(name: &str) -> Pair {
    self_signed(&documented(name))
}

fn issued(wanted: &CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>) -> Pair {
    let key = KeyPair::generate().unwrap();
    Pair { certificate: wanted.signed_by(&key, issuer).unwrap().pem(), key: key.serialize_pem() }
}

fn authority(wanted: CertificateParams) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(wanted, KeyPair::generate().unwrap()).unwrap()
}

/// Not an authority.
fn leaf(name: &str) -> CertificateParams {
    let mut wanted = documented(name);
    wanted.is_ca = IsCa::NoCa;
    wanted
}

/// The files of both sides.
struct Lab {
    folder: tempfile::TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), told: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file as tools do that renew certificates: by a new one.
    fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path(name)).unwrap();
    }

    fn side(&self, name: &str, own: &Pair, trusted: &str) -> TlsOptions {
        self.write(&format!("{name}.crt"), &own.certificate);
        self.write(&format!("{name}.key"), &own.key);
        self.write(&format!("{name}.ca"), trusted);
        let file = |kind| self.path(&format!("{name}.{kind}"));
        let told = Arc::clone(&self.told);
        TlsOptions {
            files: TlsFiles { ca: file("ca"), cert: file("crt"), key: file("key") },
            key_log: None,
            tell: Arc::new(move |text| told.lock().unwrap().push(text)),
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn name(text: &str) -> ClientIdentity {
    ClientIdentity::parse(text).unwrap()
}

fn server_of(options: &TlsOptions) -> Server {
    Server::new(vec![name("laptop"), name("desktop")], Duration::from_secs(10), options)
}

fn client_of(options: &TlsOptions) -> Client {
    Client::new("server".to_owned(), options)
}

type Met = (Result<Connection, CallError>, Result<(Connection, ClientIdentity), Stranger>);

async fn meet(client: &Client, server: &Server) -> Met {
    let (here, there) = duplex(64 << 10);
    tokio::join!(client.secure(here, "server:8888"), server.secure(there))
}

/// The server and the client trust each other's certificates.
async fn meet_as(client_pair: &Pair, server_pair: &Pair) -> Met {
    meet_with(client_pair, &server_pair.certificate, server_pair, &client_pair.certificate).await
}

async fn meet_with(client_pair: &Pair, client_trusts: &str, server_pair: &Pair, server_trusts: &str) -> Met {
    let lab = Lab::new();
    let client_side = lab.side("client", client_pair, client_trusts);
    let server_side = lab.side("server", server_pair, server_trusts);
    meet(&client_of(&client_side), &server_of(&server_side)).await
}

async fn converse(client: &mut Connection, server: &mut Connection) {
    client.write_all(b"ask").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = Vec::new();
    server.read_to_end(&mut asked).await.unwrap();
    // Long after the client has closed its way out.
    let answer = vec![7; 300_000];
    let (sent, answered) = tokio::join!(
        async {
            server.write_all(&answer).await?;
            server.shutdown().await
        },
        async {
            let mut answered = Vec::new();
            client.read_to_end(&mut answered).await.map(|_| answered)
        }
    );
    sent.unwrap();
    assert_eq!((asked.as_slice(), answered.unwrap()), (b"ask".as_slice(), answer));
}

#[tokio::test]
async fn the_documented_pairs_are_accepted_and_each_way_closes_by_itself() {
    let (client, server) = meet_as(&pair("laptop"), &pair("server")).await;
    let (mut client, (mut server, identity)) = (client.unwrap(), server.unwrap());
    assert_eq!(identity, name("laptop"));
    converse(&mut client, &mut server).await;
}

/// Whatever the library knows can be agreed on, what costs least first.
#[test]
fn short_keys_come_first() {
    let names =
        |provider: &CryptoProvider| provider.cipher_suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>();
    let ours = names(&provider());
    let (first, rest) = ours.split_at(AES_128.len());
    assert!(first.iter().all(|suite| AES_128.contains(suite)), "{ours:?}");
    assert!(rest.contains(&CipherSuite::TLS13_AES_256_GCM_SHA384), "{ours:?}");
    let mut both = [ours.clone(), names(&aws_lc_rs::default_provider())];
    both.iter_mut().for_each(|names| names.sort_by_key(|suite| u16::from(*suite)));
    assert_eq!(both[0], both[1]);
}

#[tokio::test]
async fn certificates_of_an_authority_are_accepted_with_those_between() {
    let root = authority(documented("root"));
    let between = CertifiedIssuer::signed_by(documented("between"), KeyPair::generate().unwrap(), &root).unwrap();
    let mut laptop = issued(&leaf("laptop"), &between);
    laptop.certificate += &between.pem();
    let (client, server) = meet_with(&laptop, &root.pem(), &issued(&leaf("server"), &root), &root.pem()).await;
    let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
    converse(&mut client, &mut server).await;
    // One in the middle may be what is trusted; and what else is in the file does not matter.
    let trusted = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", between.pem());
    let laptop = issued(&leaf("laptop"), &between);
    let (_, server) = meet_with(&laptop, &root.pem(), &issued(&leaf("server"), &root), &trusted).await;
    assert!(server.is_ok());
}

/// What each side says when the server refuses the client.
async fn refused_client_says(client_pair: &Pair, server_trusts: &str) -> (String, String) {
    let server_pair = pair("server");
    let (client, server) = meet_with(client_pair, &server_pair.certificate, &server_pair, server_trusts).await;
    // With TLS 1.3 the client learns it when it reads.
    let read = client.unwrap().read_u8().await.unwrap_err();
    (server.err().unwrap().to_string(), read.to_string())
}

/// What the client says when it refuses the server.
async fn refused_server_says(server_pair: &Pair, client_trusts: &str) -> String {
    let client_pair = pair("laptop");
    let (client, server) = meet_with(&client_pair, client_trusts, server_pair, &client_pair.certificate).await;
    assert!(server.is_err());
    let refused = client.err().unwrap();
    assert_eq!(refused.class(), RetryClass::NeedsPerson);
    refused.to_string()
}

fn at(years: std::ops::Range<i32>, mut wanted: CertificateParams) -> CertificateParams {
    wanted.not_before = date_time_ymd(years.start, 1, 1);
    wanted.not_after = date_time_ymd(years.end, 1, 1);
    wanted
}

fn for_purpose(purpose: ExtendedKeyUsagePurpose, mut wanted: CertificateParams) -> CertificateParams {
    wanted.extended_key_usages = vec![purpose];
    wanted
}

#[tokio::test]
async fn a_refused_client_is_explained_on_both_sides() {
    let refused = async |wanted: CertificateParams| {
        let pair = self_signed(&wanted);
        refused_client_says(&pair, &pair.certificate).await
    };
    let (here, there) = refused(at(2001..2002, documented("laptop"))).await;
    assert!(here.contains("`CN=laptop` has expired: it was valid until 2002-01-01T00:00:00Z"), "{here}");
    assert!(there.contains("has expired or is not valid yet"), "{there}");
    let (here, _) = refused(at(3000..3001, documented("laptop"))).await;
    assert!(here.contains("is not valid before 3000-01-01T00:00:00Z (are the clocks"), "{here}");
    let (here, there) = refused(for_purpose(ExtendedKeyUsagePurpose::ServerAuth, documented("laptop"))).await;
    assert!(here.contains("is not for a client (its extended key usage lacks `clientAuth`)"), "{here}");
    assert!(there.contains("for another purpose"), "{there}");

    let (here, there) = refused_client_says(&pair("laptop"), &pair("laptop").certificate).await;
    assert!(here.contains("vouches for its certificate `CN=laptop`"), "{here}");
    assert!(here.contains("server.ca") && here.contains("another key"), "{here}");
    assert!(there.contains("in the peer's `ca` file?"), "{there}");
    let (here, _) = refused_client_says(&pair("laptop"), &pair("tablet").certificate).await;
    assert!(here.ends_with("`CN=laptop` has issued itself: it has to be in that file"), "{here}");
}

#[tokio::test]
async fn a_refused_server_is_explained() {
    let refused = async |wanted: CertificateParams| {
        let pair = self_signed(&wanted);
        refused_server_says(&pair, &pair.certificate).await
    };
    let said = refused(documented("other")).await;
    assert!(said.contains("`CN=other` is for `other`, not for `server` (change `server_cn`"), "{said}");
    let mut nameless = documented("server");
    nameless.subject_alt_names.clear();
    let said = refused(nameless).await;
    assert!(said.contains("make one with `-addext subjectAltName=DNS:server`"), "{said}");
    let said = refused(at(2001..2002, documented("server"))).await;
    assert!(said.contains("server:8888 is not trusted: its certificate `CN=server` has expired"), "{said}");
    let said = refused(for_purpose(ExtendedKeyUsagePurpose::ClientAuth, documented("server"))).await;
    assert!(said.contains("is not for a server"), "{said}");
    let said = refused_server_says(&pair("server"), &pair("other").certificate).await;
    assert!(said.contains("issued itself: it has to be in that file"), "{said}");
}

#[tokio::test]
async fn a_certificate_for_any_purpose_or_an_address_is_accepted() {
    let any = for_purpose(ExtendedKeyUsagePurpose::Any, documented("laptop"));
    let (client, server) = meet_as(&self_signed(&any), &pair("server")).await;
    assert!(client.is_ok() && server.is_ok());
    let lab = Lab::new();
    let (laptop, address) = (pair("laptop"), pair("192.0.2.1"));
    let here = Client::new("192.0.2.1".to_owned(), &lab.side("client", &laptop, &address.certificate));
    let (client, server) = meet(&here, &server_of(&lab.side("server", &address, &laptop.certificate))).await;
    assert!(client.is_ok() && server.is_ok());
    let nonsense = Client::new("back ups".to_owned(), &lab.side("client", &laptop, &address.certificate));
    let refused = nonsense.secure(duplex(1).0, "server:8888").await.err().unwrap().to_string();
    assert!(refused.contains("neither a DNS name nor an address"), "{refused}");
}

#[tokio::test]
async fn the_last_common_name_is_the_client_s() {
    let mut two = documented("desktop");
    two.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "laptop");
    let (_, server) = meet_as(&self_signed(&two), &pair("server")).await;
    assert_eq!(server.unwrap().1, name("laptop"));
}

#[tokio::test]
async fn a_common_name_that_is_not_allowed_ends_the_connection_in_order() {
    let (client, server) = meet_as(&pair("tablet"), &pair("server")).await;
    let refused = server.err().unwrap().to_string();
    let told = "unauthorized client common name \"tablet\" (`client_cns` allows \"laptop\", \"desktop\")";
    assert_eq!(refused, told);
    let mut heard = Vec::new();
    assert_eq!(client.unwrap().read_to_end(&mut heard).await.unwrap(), 0);

    let mut anonymous = documented("tablet");
    anonymous.distinguished_name = rcgen::DistinguishedName::new();
    anonymous.distinguished_name.push(DnType::OrganizationName, "laptop");
    let (_, server) = meet_as(&self_signed(&anonymous), &pair("server")).await;
    let refused = server.err().unwrap().to_string();
    assert_eq!(refused, "the certificate `O=laptop` has no common name, which says who a client is");
}

#[tokio::test]
async fn only_a_valid_authority_vouches_for_others() {
    // Somebody whose own certificate is trusted must not make others.
    let no_authority = authority(leaf("tablet"));
    let (here, _) = refused_client_says(&issued(&leaf("laptop"), &no_authority), &no_authority.pem()).await;
    assert!(here.ends_with("that one is there and is no authority (CA:FALSE)"), "{here}");
    let mut no_signer = documented("tablet");
    no_signer.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let no_signer = authority(no_signer);
    let (here, _) = refused_client_says(&issued(&leaf("laptop"), &no_signer), &no_signer.pem()).await;
    assert!(here.contains("no authority"), "{here}");
    let late = authority(at(2001..2002, documented("root")));
    let (here, _) = refused_client_says(&issued(&leaf("laptop"), &late), &late.pem()).await;
    assert!(here.ends_with("that one has expired, it was valid until 2002-01-01T00:00:00Z"), "{here}");
    let root = authority(documented("root"));
    let (here, _) = refused_client_says(&issued(&documented("laptop"), &root), &root.pem()).await;
    assert!(here.contains("`CN=laptop` is that of an authority (CA:TRUE)"), "{here}");
}

fn fixture(text: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
}

#[test]
fn old_kinds_of_certificates_are_named() {
    let version_1 = fixture(include_str!("fixtures/version-1.pem"));
    let (sha1, short) = (fixture(include_str!("fixtures/sha1.pem")), fixture(include_str!("fixtures/rsa-1024.pem")));
    let authority = fixture(include_str!("fixtures/authority.pem"));
    let trusted = vec![version_1.clone(), short.clone(), authority];
    let trust = Trust::new(Path::new("ca"), trusted, provider()).unwrap();
    let said = |der: &CertificateDer<'_>| trust.check_client(der, &[], UnixTime::now()).unwrap_err().to_string();
    assert!(said(&version_1).starts_with("its certificate `CN=old` is of X.509 version 1 (make"));
    assert!(said(&sha1).starts_with("its certificate `CN=old` is signed with SHA-1"));
    assert!(said(&short).starts_with("the RSA key of its certificate `CN=short` has 1024 bits"));
    assert_eq!(said(&vec![1, 2, 3].into()), "what it shows is no X.509 certificate");
}

#[tokio::test]
async fn peers_of_tls_1_2_are_served_and_reached() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let client_options = lab.side("client", &laptop, &there.certificate);
    let server = server_of(&lab.side("server", &there, &laptop.certificate));
    let own = |pair: &Pair| {
        let certificate = vec![fixture(&pair.certificate)];
        (certificate, rustls::pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap())
    };
    let trusting = |pair: &Pair| {
        let trust = Trust::new(Path::new("ca"), vec![fixture(&pair.certificate)], provider()).unwrap();
        Arc::new(Verifier::new(Arc::new(trust)))
    };
    let (certificate, key) = own(&laptop);
    let old = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS12]).unwrap();
    let old = old.dangerous().with_custom_certificate_verifier(trusting(&there));
    let old = TlsConnector::from(Arc::new(old.with_client_auth_cert(certificate, key).unwrap()));
    let (near, far) = duplex(64 << 10);
    let (client, served) = tokio::join!(old.connect("server".try_into().unwrap(), buffered(near)), server.secure(far));
    let (mut client, (mut served, _)) = (Box::new(Secured::new(client.unwrap())) as Connection, served.unwrap());
    converse(&mut client, &mut served).await;

    let (certificate, key) = own(&there);
    let old = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS12]).unwrap();
    let old = old.with_client_cert_verifier(trusting(&laptop)).with_single_cert(certificate, key).unwrap();
    let (near, far) = duplex(64 << 10);
    let client = client_of(&client_options);
    let (reached, served) =
        tokio::join!(client.secure(near, "server:8888"), Handshaker::from(Arc::new(old)).accept(buffered(far)));
    let mut served = Box::new(Secured::new(served.unwrap())) as Connection;
    converse(&mut reached.unwrap(), &mut served).await;
}

#[tokio::test]
async fn renewed_files_are_used_and_broken_ones_are_told_once() {
    let (lab, laptop, first, second) = (Lab::new(), pair("laptop"), pair("server"), pair("server"));
    let client = client_of(&lab.side("client", &laptop, &first.certificate));
    let server = server_of(&lab.side("server", &first, &laptop.certificate));
    let works = async || {
        let (client, server) = meet(&client, &server).await;
        client.is_ok() && server.is_ok()
    };
    assert!(works().await);
    // The certificate first, the key a moment later: until then the old pair goes on.
    lab.write("server.crt", &second.certificate);
    assert!(works().await && works().await);
    let told = lab.told();
    assert!(told.len() == 1 && told[0].contains("do not belong together"), "{told:?}");
    assert!(told[0].ends_with("(what was there before goes on being used)"), "{told:?}");
    lab.write("server.key", &second.key);
    assert!(!works().await, "the new one is not trusted yet");
    lab.write("client.ca", &second.certificate);
    assert!(works().await);
    fs::remove_file(lab.path("client.ca")).unwrap();
    assert!(works().await && works().await);
    let told = lab.told();
    assert!(told.len() == 1 && told[0].contains("client.ca, the `ca`: No such file"), "{told:?}");
}

#[tokio::test]
async fn files_that_could_not_be_read_for_a_moment_are_read_again() {
    use std::sync::atomic::Ordering::Relaxed;
    let (lab, laptop, first, second) = (Lab::new(), pair("laptop"), pair("server"), pair("server"));
    let both = [first.certificate.as_str(), &second.certificate].concat();
    let client = client_of(&lab.side("client", &laptop, &both));
    let server = server_of(&lab.side("server", &first, &laptop.certificate));
    server.credentials.refuses.store(true, Relaxed);
    let (_, refused) = meet(&client, &server).await;
    assert!(refused.err().unwrap().to_string().contains("server.crt, the `cert`: Too many open files"));
    server.credentials.refuses.store(false, Relaxed);
    let shown = async || server.credentials.current().await.expect("nobody had to touch the files");
    let before = shown().await;
    assert!(meet(&client, &server).await.1.is_ok());

    // Renewed when there was no file descriptor to be had.
    lab.write("server.crt", &second.certificate);
    lab.write("server.key", &second.key);
    server.credentials.refuses.store(true, Relaxed);
    assert!(Arc::ptr_eq(&before, &shown().await) && Arc::ptr_eq(&before, &shown().await));
    assert_eq!(lab.told().len(), 1);
    server.credentials.refuses.store(false, Relaxed);
    assert!(!Arc::ptr_eq(&before, &shown().await), "the new one");
    assert!(meet(&client, &server).await.1.is_ok());
}

#[test]
fn files_that_nobody_answers_for_cost_one_thread_and_the_usual_time() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // One for either side, and one.
    runtime.enable_all().start_paused(true).max_blocking_threads(3);
    runtime.build().unwrap().block_on(nobody_answers());
}

async fn nobody_answers() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let server = Arc::new(server_of(&lab.side("server", &there, &laptop.certificate)));
    let client = Arc::new(client_of(&lab.side("client", &laptop, &there.certificate)));
    // To open it waits until somebody writes.
    for cert in ["server.crt", "client.crt"] {
        fs::remove_file(lab.path(cert)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, lab.path(cert), rustix::fs::Mode::RWXU).unwrap();
    }
    let mut waiting = tokio::task::JoinSet::new();
    let (near, _far) = duplex(1000);
    waiting.spawn(async move { client.secure(near, "server:8888").await.err().unwrap().to_string() });
    for _ in 0..100 {
        let server = Arc::clone(&server);
        waiting.spawn(async move { server.secure(duplex(1000).0).await.err().unwrap().to_string() });
    }
    // Until every one of them has begun: time stands still while a thread is busy, and would never come to an end
    // for one that begins later.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(|| ()).await.expect("a thread is left");
    tokio::time::advance(HANDSHAKE + Duration::from_secs(1)).await;
    let told = waiting.join_all().await;
    assert!(told.iter().all(|why| why.contains("took longer than")), "{told:?}");
    // The readers may end.
    for cert in ["server.crt", "client.crt"] {
        drop(fs::OpenOptions::new().write(true).open(lab.path(cert)).unwrap());
    }
}

#[tokio::test]
async fn files_that_never_worked_are_told_to_whoever_connects() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let client_options = lab.side("client", &laptop, &there.certificate);
    let server_options = lab.side("server", &there, &laptop.certificate);
    let (client, server) = (client_of(&client_options), server_of(&server_options));
    lab.write("server.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    lab.write("client.ca", "nothing");
    let (here, there) = meet(&client, &server).await;
    let (here, there) = (here.err().unwrap(), there.err().unwrap().to_string());
    assert!(
        there.contains("server.key, the `key`, cannot be used: it contains no private key without pass"),
        "{there}"
    );
    assert_eq!(here.class(), RetryClass::NeedsPerson);
    assert!(here.to_string().contains("client.ca, the `ca`, cannot be used: it contains no certificate"), "{here}");
    assert_eq!(lab.told(), Vec::<String>::new());
}

/// Connects with what a client uses, and gives what kind of handshake that was.
async fn kind(client: &Client, server: &Server) -> HandshakeKind {
    let side = client.credentials.current().await.unwrap();
    let (near, far) = duplex(64 << 10);
    let connecting = TlsConnector::from(Arc::clone(&side.config)).connect("server".try_into().unwrap(), near);
    let (here, there) = tokio::join!(connecting, server.secure(far));
    let (mut here, (mut there, identity)) = (here.unwrap(), there.unwrap());
    assert_eq!(identity, name("laptop"));
    there.write_all(b"!").await.unwrap();
    there.flush().await.unwrap();
    // The tickets come before it.
    here.read_u8().await.unwrap();
    here.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn sessions_are_resumed_until_the_files_change() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let client = client_of(&lab.side("client", &laptop, &there.certificate));
    let server = server_of(&lab.side("server", &there, &laptop.certificate));
    assert_eq!(kind(&client, &server).await, HandshakeKind::Full);
    assert_eq!(kind(&client, &server).await, HandshakeKind::Resumed);
    lab.write("server.ca", &format!("{}{}", laptop.certificate, pair("desktop").certificate));
    assert_ne!(kind(&client, &server).await, HandshakeKind::Resumed);
}

/// The way to a listener in this process.
struct Near {
    client: Client,
    server: Arc<Server>,
}

#[async_trait]
impl Dialer for Near {
    async fn dial(&self) -> Result<Connection, CallError> {
        let (near, far) = duplex(64 << 10);
        let server = Arc::clone(&self.server);
        tokio::spawn(async move {
            let (mut io, client) = server.secure(far).await.unwrap();
            let (_, label) = welcome(&mut io, &version_seven()).await.unwrap();
            let endpoint = Arc::new(Refusing(CallError::permanent(format!("nothing for {client:?}"))));
            match label {
                Label::Control => control::serve(io, endpoint, Agreement::default(), Box::new(drop)).await.unwrap(),
                Label::Data => {
                    data::serve(io, endpoint, Limits::default(), Agreement::default(), data::Closing::default())
                        .await
                        .unwrap()
                }
            }
        });
        self.client.secure(near, "near").await
    }
}

/// As a zrepl peer, which wants a connection for each request.
fn version_seven() -> Greeting {
    Banner::with_extensions(vec![]).into()
}

#[tokio::test]
async fn a_job_shakes_hands_in_full_once() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let client = client_of(&lab.side("client", &laptop, &there.certificate));
    let server = Arc::new(server_of(&lab.side("server", &there, &laptop.certificate)));
    let near = Arc::new(Near { client, server });
    let data = DataClient::new(Arc::clone(&near) as _, version_seven(), Limits::default());
    for invocation in 1..=2 {
        let decode = |_: &str| Err(String::new());
        let remote = Remote::connect(&*near, &version_seven(), data.anew(), Role::Sender, decode).await.unwrap();
        for _ in 0..3 {
            assert_eq!(remote.ping("there?").await, Ok(()));
        }
        // Several steps at the same time, too.
        let both = tokio::join!(data.ping("one"), data.ping("two"));
        assert_eq!(both, (Ok(()), Ok(())));
        let kinds = near.client.handshakes.lock().await;
        let full = kinds.iter().filter(|kind| **kind != HandshakeKind::Resumed).count();
        assert_eq!((kinds.len(), full), (6 * invocation, 1), "{kinds:?}");
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_told_what_is_missing() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let server = server_of(&lab.side("server", &there, &laptop.certificate));
    let trust = Trust::new(Path::new("ca"), vec![fixture(&there.certificate)], provider()).unwrap();
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(Arc::new(trust))));
    let config = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let (near, far) = duplex(64 << 10);
    let (client, server) =
        tokio::join!(config.connect("server".try_into().unwrap(), buffered(near)), server.secure(far));
    let refused = server.err().unwrap().to_string();
    assert!(refused.contains("the peer shows no certificate"), "{refused}");
    let read = Secured::new(client.unwrap()).read_u8().await.unwrap_err().to_string();
    assert!(read.contains("it got no certificate"), "{read}");
}

#[tokio::test(start_paused = true)]
async fn silent_and_plain_peers_are_given_up() {
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    let client = client_of(&lab.side("client", &laptop, &there.certificate));
    let server = server_of(&lab.side("server", &there, &laptop.certificate));
    let (_silent, far) = duplex(64);
    let refused = server.secure(far).await.err().unwrap().to_string();
    assert!(refused.ends_with("longer than the `handshake_timeout` of 10s"), "{refused}");
    let (near, _silent) = duplex(64 << 10);
    let refused = client.secure(near, "server:8888").await.err().unwrap();
    assert_eq!(refused.to_string(), "the TLS handshake with server:8888 took longer than 10s");
    assert_eq!(refused.class(), RetryClass::Transient);

    let said = plain(|far: DuplexStream| async move { server.secure(far).await.err().unwrap().to_string() }).await;
    assert!(said.contains("the peer does not speak TLS"), "{said}");
    let said =
        plain(|far: DuplexStream| async move { client.secure(far, "server:8888").await.err().unwrap().to_string() })
            .await;
    assert!(said.contains("no TLS connection to server:8888: the peer does not speak TLS"), "{said}");
}

/// What is said about a peer that sends zrepl's banner without TLS.
async fn plain<F: Future<Output = String>>(meet: impl FnOnce(DuplexStream) -> F) -> String {
    let (mut near, far) = duplex(64 << 10);
    near.write_all(b"0000000056 ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0000\n").await.unwrap();
    meet(far).await
}

#[tokio::test]
async fn a_connection_that_is_cut_is_no_end() {
    let (client, server) = meet_as(&pair("laptop"), &pair("server")).await;
    let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
    server.write_all(b"half").await.unwrap();
    server.flush().await.unwrap();
    drop(server);
    let mut heard = Vec::new();
    let cut = client.read_to_end(&mut heard).await.unwrap_err();
    assert_eq!((heard.as_slice(), cut.kind()), (b"half".as_slice(), io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn secrets_are_written_where_only_the_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let (lab, laptop, there) = (Lab::new(), pair("laptop"), pair("server"));
    fs::write(lab.path("keys"), "of before").unwrap();
    let mut options = lab.side("client", &laptop, &there.certificate);
    options.key_log = Some(Arc::new(KeyLogFile::create(&lab.path("keys")).unwrap()));
    let (client, server) =
        meet(&client_of(&options), &server_of(&lab.side("server", &there, &laptop.certificate))).await;
    assert!(client.is_ok() && server.is_ok());
    let keys = fs::read_to_string(lab.path("keys")).unwrap();
    assert!(keys.starts_with("CLIENT_HANDSHAKE_TRAFFIC_SECRET "), "{keys}");
    let words: Vec<usize> = keys.lines().next().unwrap().split(' ').map(str::len).collect();
    assert!(words[1] == 64 && words[2] >= 64);
    assert_eq!(fs::metadata(lab.path("keys")).unwrap().permissions().mode() & 0o777, 0o600);
}
