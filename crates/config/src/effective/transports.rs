//! `connect` and `serve` as they take effect.

use super::text::{Value, list, map, path, text};
use crate::duration::sum_of_units;
use crate::types::{
    Connect, Listen, LocalConnect, LocalServe, Serve, SshConnect, StdinserverServe, TcpConnect, TcpServe, TlsConnect,
    TlsFiles, TlsServe,
};

pub(super) fn connect(connect: &Connect) -> Value {
    let section = map([("type", text(connect.transport()))]);
    match connect {
        Connect::Local(LocalConnect { listener_name, client_identity, dial_timeout }) => section
            .with("listener_name", Some(text(listener_name)))
            .with("client_identity", Some(text(client_identity)))
            .with("dial_timeout", Some(text(sum_of_units(*dial_timeout)))),
        Connect::Tcp(TcpConnect { address, dial_timeout }) => {
            section.with("address", Some(text(address))).with("dial_timeout", Some(text(sum_of_units(*dial_timeout))))
        }
        Connect::Tls(TlsConnect { address, files, server_cn, dial_timeout }) => {
            tls_files(section.with("address", Some(text(address))), files)
                .with("server_cn", Some(text(server_cn)))
                .with("dial_timeout", Some(text(sum_of_units(*dial_timeout))))
        }
        Connect::Ssh(SshConnect { host, user, port, identity_file, options, command, dial_timeout }) => section
            .with("host", Some(text(host)))
            .with("user", Some(text(user)))
            .with("port", Some(Value::Number(port.get().into())))
            .with("identity_file", Some(path(identity_file)))
            .with("options", Some(list(options, text)))
            .with("ssh_command", command.as_ref().map(text))
            .with("dial_timeout", Some(text(sum_of_units(*dial_timeout)))),
    }
}

pub(super) fn serve(serve: &Serve) -> Value {
    let section = map([("type", text(serve.transport()))]);
    match serve {
        Serve::Local(LocalServe { listener_name }) => section.with("listener_name", Some(text(listener_name))),
        Serve::Tcp(TcpServe { listen: at, clients }) => {
            let clients = clients.entries().map(|(network, identity)| (network, Value::Text(identity)));
            listen(section, at).with("clients", Some(Value::Map(clients.collect())))
        }
        Serve::Tls(TlsServe { listen: at, files, client_cns, handshake_timeout }) => {
            tls_files(listen(section, at), files)
                .with("client_cns", Some(list(client_cns, text)))
                .with("handshake_timeout", Some(text(sum_of_units(*handshake_timeout))))
        }
        Serve::Stdinserver(StdinserverServe { client_identities }) => {
            section.with("client_identities", Some(list(client_identities, text)))
        }
    }
}

pub(super) fn listen(section: Value, Listen { address, freebind }: &Listen) -> Value {
    section.with("listen", Some(text(address))).with("listen_freebind", Some(Value::Bool(*freebind)))
}

pub(super) fn tls_files(section: Value, TlsFiles { ca, cert, key }: &TlsFiles) -> Value {
    section.with("ca", Some(path(ca))).with("cert", Some(path(cert))).with("key", Some(path(key)))
}
