//! `connect` and `serve`: how two sides of a replication find each other.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use model::ClientIdentity;

use crate::address::HostPort;
use crate::clients::{Client, ClientError, ClientMap};
use crate::decode::{Field, Section, all};
use crate::files::Role;
use crate::suggest::shown;
use crate::types::{
    Connect, Listen, LocalConnect, LocalServe, Serve, SshConnect, StdinserverServe, TcpConnect, TcpServe, TlsConnect,
    TlsFiles, TlsServe,
};
use crate::values::{boolean, brief, client_identity, integer, positive_timeout, text, timeout};

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const LOCAL_DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The two sides have different names for SSH.
const SSH: &str = "ssh+stdinserver";

pub(crate) fn connect(field: &Field<'_>) -> Option<Connect> {
    let (section, kind) = field.tagged(&["local", "tcp", "tls", SSH])?;
    match kind.as_str() {
        "local" => local_connect(section).map(Connect::Local),
        "tcp" => tcp_connect(section).map(Connect::Tcp),
        "tls" => tls_connect(section).map(Connect::Tls),
        _ => ssh_connect(section).map(Connect::Ssh),
    }
}

fn local_connect(mut section: Section<'_>) -> Option<LocalConnect> {
    let listener_name = section.required("listener_name", text);
    let client_identity = section.required("client_identity", client_identity);
    let dial_timeout = section.optional("dial_timeout", LOCAL_DIAL_TIMEOUT, timeout);
    section.finish()?;
    Some(LocalConnect { listener_name: listener_name?, client_identity: client_identity?, dial_timeout: dial_timeout? })
}

fn tcp_connect(mut section: Section<'_>) -> Option<TcpConnect> {
    let address = section.required("address", remote_address);
    let dial_timeout = section.optional("dial_timeout", DIAL_TIMEOUT, timeout);
    section.finish()?;
    Some(TcpConnect { address: address?, dial_timeout: dial_timeout? })
}

fn tls_connect(mut section: Section<'_>) -> Option<TlsConnect> {
    let address = section.required("address", remote_address);
    let files = tls_files(&mut section);
    let server_cn = section.required("server_cn", text);
    let dial_timeout = section.optional("dial_timeout", DIAL_TIMEOUT, timeout);
    section.finish()?;
    Some(TlsConnect { address: address?, files: files?, server_cn: server_cn?, dial_timeout: dial_timeout? })
}

fn ssh_connect(mut section: Section<'_>) -> Option<SshConnect> {
    let host = section.required("host", text);
    let user = section.required("user", text);
    let port = section.required("port", port);
    let identity_file = section.required("identity_file", text);
    let options = section.list("options", text);
    let command = section.take("ssh_command").filter(|field| !field.is_empty());
    let command = command.map_or(Some(None), |field| text(&field).map(Some));
    let open_command = section.list("transport_open_command", text);
    if let Some(field) = section.take("transport_open_command").filter(|field| !field.is_empty()) {
        field.warn("`transport_open_command` has no effect", "remove it; `ssh_command` is the program that is run");
    }
    let dial_timeout = section.optional("dial_timeout", DIAL_TIMEOUT, positive_timeout);
    section.finish()?;
    open_command?;
    Some(SshConnect {
        host: host?,
        user: user?,
        port: port?,
        identity_file: PathBuf::from(identity_file?),
        options: options?,
        command: command?,
        dial_timeout: dial_timeout?,
    })
}

pub(crate) fn serve(field: &Field<'_>) -> Option<Serve> {
    let (section, kind) = field.tagged(&["local", "tcp", "tls", "stdinserver"])?;
    match kind.as_str() {
        "local" => local_serve(section).map(Serve::Local),
        "tcp" => tcp_serve(section).map(Serve::Tcp),
        "tls" => tls_serve(section).map(Serve::Tls),
        _ => stdinserver_serve(section).map(Serve::Stdinserver),
    }
}

fn local_serve(mut section: Section<'_>) -> Option<LocalServe> {
    let listener_name = section.required("listener_name", text);
    section.finish()?;
    Some(LocalServe { listener_name: listener_name? })
}

fn tcp_serve(mut section: Section<'_>) -> Option<TcpServe> {
    let listen = listen(&mut section);
    let clients = section.required("clients", clients);
    section.finish()?;
    Some(TcpServe { listen: listen?, clients: clients? })
}

fn tls_serve(mut section: Section<'_>) -> Option<TlsServe> {
    let listen = listen(&mut section);
    let files = tls_files(&mut section);
    let client_cns = section.required("client_cns", identities);
    let handshake_timeout = section.optional("handshake_timeout", HANDSHAKE_TIMEOUT, positive_timeout);
    section.finish()?;
    Some(TlsServe { listen: listen?, files: files?, client_cns: client_cns?, handshake_timeout: handshake_timeout? })
}

fn stdinserver_serve(mut section: Section<'_>) -> Option<StdinserverServe> {
    let client_identities = section.required("client_identities", identities);
    section.finish()?;
    Some(StdinserverServe { client_identities: client_identities? })
}

/// Each once.
fn identities(field: &Field<'_>) -> Option<Vec<ClientIdentity>> {
    let mut known: Vec<ClientIdentity> = Vec::new();
    let found = all(field.items()?, client_identity)?;
    for identity in found {
        if !known.contains(&identity) {
            known.push(identity);
        }
    }
    Some(known)
}

fn clients(field: &Field<'_>) -> Option<ClientMap> {
    let entries = field.entries("a mapping such as `{\"192.0.2.1\": \"name\"}`")?;
    let clients: Vec<Option<Client>> = entries.iter().map(|(key, field)| client(key, field)).collect();
    Some(ClientMap::new(clients.into_iter().collect::<Option<_>>()?))
}

fn client(key: &str, field: &Field<'_>) -> Option<Client> {
    field.describe("a client identity, or a pattern for one");
    let identity = &field.scalar("a client identity")?.text;
    let error = match Client::parse(key, identity) {
        Ok(client) => return Some(client),
        Err(error) => error,
    };
    let diagnostic = match &error {
        ClientError::Address | ClientError::ZoneBeforePrefix => field
            .key_place()
            .error(format!("bad address `{}`: {error}", shown(key)))
            .with_hint("write an address or a network, such as `192.0.2.1`, `192.0.2.0/24`, `fe80::/64%eth0`"),
        ClientError::StarForAddress => {
            field.place().error(error.to_string()).with_hint("it stands for the address of a client of a network")
        }
        ClientError::NoStarForNetwork => field
            .place()
            .error(error.to_string())
            .with_hint("the client's address stands for it, so that clients have different identities"),
        ClientError::Identity(name) => field.place().error(brief(name)),
    };
    field.report(diagnostic);
    None
}

/// `listen` and `listen_freebind`.
pub(crate) fn listen(section: &mut Section<'_>) -> Option<Listen> {
    let address = section.required("listen", host_port);
    let freebind = section.optional("listen_freebind", false, boolean);
    Some(Listen { address: address?, freebind: freebind? })
}

/// `ca`, `cert` and `key`.
pub(crate) fn tls_files(section: &mut Section<'_>) -> Option<TlsFiles> {
    let pair = section.field.file.named_files.pair();
    let mut file = |key, role| {
        section.required(key, |field| {
            let path = PathBuf::from(text(field)?);
            field.file.named_files.add(&path, role, pair, field.place());
            Some(path)
        })
    };
    let (ca, cert, key) = (file("ca", Role::Authorities), file("cert", Role::Certificate), file("key", Role::Key));
    Some(TlsFiles { ca: ca?, cert: cert?, key: key? })
}

pub(crate) fn host_port(field: &Field<'_>) -> Option<HostPort> {
    let text = &field.scalar("an address with a port")?.text;
    HostPort::parse(text).map_or_else(
        |error| {
            let hint = "write `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`";
            field.fail(format!("bad address `{}`: {error}", shown(text)), Some(hint.to_owned()))
        },
        Some,
    )
}

/// An address that is connected to.
pub(crate) fn remote_address(field: &Field<'_>) -> Option<HostPort> {
    let address = host_port(field)?;
    if address.port == crate::address::Port::Number(0) {
        field.warn(format!("nobody can be reached at `{address}`"), "write the port of the other side");
    }
    Some(address)
}

fn port(field: &Field<'_>) -> Option<NonZeroU16> {
    field.describe("a port");
    let number = integer(field)?;
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.or_else(|| field.fail(format!("`{number}` is no port"), Some("ports are 1 to 65535".to_owned())))
}
