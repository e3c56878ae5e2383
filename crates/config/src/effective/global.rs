//! The `global` section as it takes effect.

use std::path::Path;

use super::text::{Value, list, map, path, text, word};
use super::transports::{listen, tls_files};
use crate::duration;
use crate::types::{Global, JournaldOutlet, Monitoring, Outlet, StdoutOutlet, SyslogOutlet, TcpOutlet};
use crate::words::Words as _;

pub(super) fn global(global: &Global) -> Value {
    let Global { logging, monitoring, control_socket, stdinserver_sockets } = global;
    let socket = control_socket.as_deref().unwrap_or(Path::new(""));
    map([
        ("logging", self::logging(logging)),
        ("monitoring", list(monitoring, self::monitoring)),
        ("control", map([("sockpath", path(socket))])),
        ("serve", map([("stdinserver", map([("sockdir", path(stdinserver_sockets))]))])),
    ])
}

fn monitoring(Monitoring { listen: at }: &Monitoring) -> Value {
    listen(map([("type", text("prometheus"))]), at)
}

pub(super) fn logging(outlets: &[Outlet]) -> Value {
    list(outlets, |outlet| match outlet {
        Outlet::Stdout(outlet) => stdout(outlet),
        Outlet::Syslog(outlet) => syslog(outlet),
        Outlet::Tcp(outlet) => tcp(outlet),
        Outlet::Journald(outlet) => journald(outlet),
    })
}

fn stdout(outlet: &StdoutOutlet) -> Value {
    let StdoutOutlet { level, format, time, color } = outlet;
    map([
        ("type", text("stdout")),
        ("level", word(*level)),
        ("format", word(*format)),
        ("time", Value::Bool(*time)),
        ("color", Value::Bool(*color)),
    ])
}

fn syslog(outlet: &SyslogOutlet) -> Value {
    let SyslogOutlet { level, format, facility, retry_interval } = outlet;
    map([
        ("type", text("syslog")),
        ("level", word(*level)),
        ("format", word(*format)),
        ("retry_interval", text(duration::sum_of_units(*retry_interval))),
    ])
    .with("facility", facility.word().map(text))
}

fn journald(outlet: &JournaldOutlet) -> Value {
    let JournaldOutlet { level, format, retry_interval } = outlet;
    map([
        ("type", text("journald")),
        ("level", word(*level)),
        ("format", word(*format)),
        ("retry_interval", text(duration::sum_of_units(*retry_interval))),
    ])
}

fn tcp(outlet: &TcpOutlet) -> Value {
    let TcpOutlet { level, format, address, net, retry_interval, tls } = outlet;
    map([
        ("type", text("tcp")),
        ("level", word(*level)),
        ("format", word(*format)),
        ("address", text(address)),
        ("net", word(*net)),
        ("retry_interval", text(duration::sum_of_units(*retry_interval))),
    ])
    .with("tls", tls.as_ref().map(|files| tls_files(map([]), files)))
}
