//! The `global` section as it takes effect.

use std::path::Path;

use super::text::{Value, list, map, text};
use super::transports::{listen, tls_files};
use crate::duration;
use crate::types::{
    Global, LogFormat, LogLevel, Monitoring, Outlet, StdoutOutlet, SyslogFacility, SyslogOutlet, TcpOutlet,
};

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

/// Paths were read from text, so that nothing of them is lost.
pub(super) fn path(path: &Path) -> Value {
    text(path.display())
}

fn monitoring(Monitoring { listen: at }: &Monitoring) -> Value {
    listen(map([("type", text("prometheus"))]), at)
}

pub(super) fn logging(outlets: &[Outlet]) -> Value {
    list(outlets, |outlet| match outlet {
        Outlet::Stdout(outlet) => stdout(outlet),
        Outlet::Syslog(outlet) => syslog(outlet),
        Outlet::Tcp(outlet) => tcp(outlet),
    })
}

fn stdout(outlet: &StdoutOutlet) -> Value {
    let StdoutOutlet { level, format, time, color } = outlet;
    map([
        ("type", text("stdout")),
        ("level", self::level(*level)),
        ("format", self::format(*format)),
        ("time", Value::Bool(*time)),
        ("color", Value::Bool(*color)),
    ])
}

fn syslog(outlet: &SyslogOutlet) -> Value {
    let SyslogOutlet { level, format, facility, retry_interval } = outlet;
    map([
        ("type", text("syslog")),
        ("level", self::level(*level)),
        ("format", self::format(*format)),
        ("retry_interval", text(duration::sum_of_units(*retry_interval))),
    ])
    .with("facility", self::facility(*facility))
}

/// None for those that cannot be configured.
fn facility(facility: SyslogFacility) -> Option<Value> {
    SyslogFacility::NAMES.into_iter().find(|(_, code)| *code == facility.code).map(|(name, _)| text(name))
}

fn tcp(outlet: &TcpOutlet) -> Value {
    let TcpOutlet { level, format, address, net, retry_interval, tls } = outlet;
    map([
        ("type", text("tcp")),
        ("level", self::level(*level)),
        ("format", self::format(*format)),
        ("address", text(address)),
        ("net", text(net.word())),
        ("retry_interval", text(duration::sum_of_units(*retry_interval))),
    ])
    .with("tls", tls.as_ref().map(|files| tls_files(map([]), files)))
}

fn level(level: LogLevel) -> Value {
    text(match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    })
}

fn format(format: LogFormat) -> Value {
    text(match format {
        LogFormat::Human => "human",
        LogFormat::Logfmt => "logfmt",
        LogFormat::Json => "json",
    })
}
