//! A whole file: `global`, `jobs`, `include`.

use std::path::PathBuf;

use crate::decode::{Field, File, Place};
use crate::jobs::{Claims, jobs};
use crate::tree;
use crate::types::{Global, Job, LogFormat, LogLevel, Outlet, StdoutOutlet};
use crate::values::{boolean, text};

/// What one file says.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) global: Global,
    /// Where `global` is, if the file has it.
    pub(crate) global_place: Option<Place>,
    pub(crate) jobs: Vec<Job>,
    /// Paths of further files.
    pub(crate) include: Vec<(String, Place)>,
}

/// Reads a file's text; what could not be read was reported and is left out.
pub(crate) fn read(file: File<'_>, claims: &Claims) -> Document {
    let Some(root) = tree::read_first_document(&file) else { return Document::default() };
    document(&Field::root(file, root), claims).unwrap_or_default()
}

fn document(root: &Field<'_>, claims: &Claims) -> Option<Document> {
    let mut section = root.section()?;
    let mut global_place = None;
    let global = section.subsection("global", Global::default(), |section| {
        global_place = Some(section.field.place());
        global(section)
    });
    let jobs = section.take("jobs").map_or(Some(Vec::new()), |field| jobs(&field, claims));
    let include = section.take("include").and_then(|field| field.items()).unwrap_or_default();
    let include = include.iter().filter_map(|field| Some((path(field)?, field.place()))).collect();
    section.finish();
    Some(Document { global: global.unwrap_or_default(), global_place, jobs: jobs.unwrap_or_default(), include })
}

fn path(field: &Field<'_>) -> Option<String> {
    match field.scalar("the path of a file")?.text.as_str() {
        "" => field.fail("the path of a file is missing", None),
        path => Some(path.to_owned()),
    }
}

fn global(mut section: crate::decode::Section<'_>) -> Option<Global> {
    let default = Global::default();
    let outlets = section.take("logging").filter(|field| !field.is_null());
    let outlets = outlets.map_or(Some(default.logging), |field| logging(&field));
    section.unsupported("monitoring", "remove it: this version serves no metrics");
    let control = section.subsection("control", default.control_socket, |mut section| {
        let path = section.optional("sockpath", Global::default().control_socket, socket);
        section.finish()?;
        path
    });
    section.unsupported("serve", "remove it: this version has no stdinserver");
    section.finish()?;
    Some(Global { logging: outlets?, control_socket: control? })
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

fn logging(field: &Field<'_>) -> Option<Vec<Outlet>> {
    let items = field.items()?;
    if items.is_empty() {
        field.warn("without outlets, the log goes to stdout", "write an outlet, or remove the key");
        return Some(Global::default().logging);
    }
    let mut first: Option<Place> = None;
    crate::decode::all(items, |item| {
        let outlet = outlet(item)?;
        match &first {
            Some(first) => {
                let hint = format!("the first one is at {}", first.line());
                item.fail("can only define one `stdout` outlet", Some(hint))
            }
            None => {
                first = Some(item.place());
                Some(outlet)
            }
        }
    })
}

fn outlet(field: &Field<'_>) -> Option<Outlet> {
    let (mut section, kind) = field.tagged(&["stdout", "syslog", "tcp"])?;
    if kind != "stdout" {
        return section.unsupported_type(&format!("log outlet `{kind}`"), "this version logs to `stdout`");
    }
    let default = StdoutOutlet::default();
    let level = section.required("level", level);
    let format = section.required("format", format);
    let time = section.optional("time", default.time, boolean);
    let color = section.optional("color", default.color, boolean);
    section.finish()?;
    Some(Outlet::Stdout(StdoutOutlet { level: level?, format: format?, time: time?, color: color? }))
}

fn level(field: &Field<'_>) -> Option<LogLevel> {
    Some(match field.one_of("log level", &["debug", "info", "warn", "error"])?.as_str() {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        _ => LogLevel::Error,
    })
}

fn format(field: &Field<'_>) -> Option<LogFormat> {
    Some(match field.one_of("log format", &["human", "logfmt", "json"])?.as_str() {
        "human" => LogFormat::Human,
        "logfmt" => LogFormat::Logfmt,
        _ => LogFormat::Json,
    })
}
