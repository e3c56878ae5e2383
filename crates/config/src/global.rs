//! The `global` section: what concerns the daemon itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::decode::{Field, Section, all};
use crate::place::Place;
use crate::transports::{listen, remote_address, tls_files};
use crate::types::{
    Global, JournaldOutlet, LogFormat, LogNet, Monitoring, Outlet, StdoutOutlet, SyslogFacility, SyslogOutlet,
    TcpOutlet,
};
use crate::values::{boolean, choice, positive_timeout, text};

const RETRY_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) fn global(mut section: Section<'_>) -> Option<Global> {
    let default = Global::default();
    let outlets = section.take("logging").filter(|field| !field.is_null());
    let outlets = outlets.map_or(Some(default.logging), |field| logging(&field));
    let monitoring = section.take("monitoring").map_or(Some(None), |field| monitoring(&field));
    let control = section.subsection("control", default.control_socket, |mut section| {
        let path = section.optional("sockpath", Global::default().control_socket, socket);
        section.finish()?;
        path
    });
    let sockets = section.subsection("serve", default.stdinserver_sockets, serve);
    section.finish()?;
    Some(Global { logging: outlets?, monitoring: monitoring?, control_socket: control?, stdinserver_sockets: sockets? })
}

fn socket(field: &Field<'_>) -> Option<Option<PathBuf>> {
    let path = text(field)?;
    if path.is_empty() {
        let hint = "`zrepl status` and `zrepl signal` need it; remove the key for the default path";
        field.warn("the daemon will have no control socket", hint);
        return Some(None);
    }
    Some(Some(PathBuf::from(path)))
}

fn serve(mut section: Section<'_>) -> Option<PathBuf> {
    let default = Global::default().stdinserver_sockets;
    let folder = section.subsection("stdinserver", default.clone(), |mut section| {
        let folder = section.optional("sockdir", default, |field| match text(field)?.as_str() {
            "" => field.fail("the path of a folder is missing", Some("remove the key for the default path".to_owned())),
            path => Some(PathBuf::from(path)),
        });
        section.finish()?;
        folder
    });
    section.finish()?;
    folder
}

fn monitoring(field: &Field<'_>) -> Option<Option<Monitoring>> {
    let mut first: Option<Place> = None;
    let found = all(field.items()?, |item| {
        let (mut section, _) = item.tagged(&["prometheus"])?;
        let listen = listen(&mut section);
        section.finish()?;
        let monitoring = Monitoring { listen: listen? };
        only_one(item, &mut first, "prometheus").map(|()| monitoring)
    })?;
    Some(found.into_iter().next())
}

/// Reports all but the first of its kind.
fn only_one(item: &Field<'_>, first: &mut Option<Place>, kind: &str) -> Option<()> {
    if let Some(first) = first {
        let hint = format!("the first one is at {}", first.line());
        return item.fail(format!("can only define one `{kind}` {}", noun(kind)), Some(hint));
    }
    *first = Some(item.place());
    Some(())
}

fn noun(kind: &str) -> &'static str {
    if kind == "prometheus" { "entry" } else { "outlet" }
}

fn logging(field: &Field<'_>) -> Option<Vec<Outlet>> {
    let items = field.items()?;
    if items.is_empty() {
        field.warn("without outlets, the log goes to stdout", "write an outlet, or remove the key");
        return Some(Global::default().logging);
    }
    let (mut stdout, mut syslog, mut journald) = (None, None, None);
    all(items, |item| {
        let outlet = outlet(item)?;
        match outlet {
            Outlet::Stdout(_) => only_one(item, &mut stdout, "stdout")?,
            Outlet::Syslog(_) => only_one(item, &mut syslog, "syslog")?,
            Outlet::Journald(_) => only_one(item, &mut journald, "journald")?,
            Outlet::Tcp(_) => {}
        }
        Some(outlet)
    })
}

fn outlet(field: &Field<'_>) -> Option<Outlet> {
    let (section, kind) = field.tagged(&["stdout", "syslog", "tcp", "journald"])?;
    match kind.as_str() {
        "stdout" => stdout(section).map(Outlet::Stdout),
        "syslog" => syslog(section).map(Outlet::Syslog),
        "journald" => journald(section).map(Outlet::Journald),
        _ => tcp(section).map(Outlet::Tcp),
    }
}

fn stdout(mut section: Section<'_>) -> Option<StdoutOutlet> {
    let default = StdoutOutlet::default();
    let level = section.required("level", choice);
    let format = section.required("format", choice);
    let time = section.optional("time", default.time, boolean);
    let color = section.optional("color", default.color, boolean);
    section.finish()?;
    Some(StdoutOutlet { level: level?, format: format?, time: time?, color: color? })
}

fn syslog(mut section: Section<'_>) -> Option<SyslogOutlet> {
    let level = section.required("level", choice);
    let format = section.required("format", choice);
    let facility = section.optional("facility", SyslogFacility::DEFAULT, choice);
    let retry_interval = section.optional("retry_interval", RETRY_INTERVAL, positive_timeout);
    section.finish()?;
    Some(SyslogOutlet { level: level?, format: format?, facility: facility?, retry_interval: retry_interval? })
}

fn journald(mut section: Section<'_>) -> Option<JournaldOutlet> {
    let level = section.required("level", choice);
    let format = section.optional("format", LogFormat::Human, choice);
    let retry_interval = section.optional("retry_interval", RETRY_INTERVAL, positive_timeout);
    section.finish()?;
    Some(JournaldOutlet { level: level?, format: format?, retry_interval: retry_interval? })
}

fn tcp(mut section: Section<'_>) -> Option<TcpOutlet> {
    let level = section.required("level", choice);
    let format = section.required("format", choice);
    let address = section.required("address", remote_address);
    let net = section.optional("net", LogNet::Tcp, choice);
    let retry_interval = section.optional("retry_interval", RETRY_INTERVAL, positive_timeout);
    let tls = section.subsection("tls", None, |mut section| {
        let files = tls_files(&mut section);
        section.finish()?;
        files.map(Some)
    });
    section.finish()?;
    Some(TcpOutlet {
        level: level?,
        format: format?,
        address: address?,
        net: net?,
        retry_interval: retry_interval?,
        tls: tls?,
    })
}
