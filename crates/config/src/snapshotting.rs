//! `snapshotting`: when snapshots are taken, what they are called, and what runs around them.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::filter::Pattern;
use model::naming::{FormatError, SnapshotNaming, TimestampFormat, Zone};
use model::schedule::Cron;
use model::{FilesystemFilter, VersionName};

use crate::decode::{Field, Section};
use crate::dsn::{self, Parsed};
use crate::files::Role;
use crate::suggest::{did_you_mean, shown};
use crate::types::{Hook, HookKind, MysqlDsn, PostgresDsn, Snapshotting};
use crate::values::{boolean, brief, filesystems, interval, positive_timeout, text};

const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// How many times of a calendar are looked at for names that come twice.
const TRIED_TIMES: usize = 100;

pub(crate) fn snapshotting(field: &Field<'_>) -> Option<Snapshotting> {
    let (section, kind) = field.tagged(&["periodic", "manual", "cron"])?;
    match kind.as_str() {
        "periodic" => periodic(section),
        "cron" => by_calendar(section),
        _ => section.finish().map(|()| Snapshotting::Manual),
    }
}

fn periodic(mut section: Section<'_>) -> Option<Snapshotting> {
    let naming = naming(&mut section);
    let interval = section.required("interval", interval);
    let hooks = section.list("hooks", hook);
    let format = section.take("timestamp_format").unwrap_or_else(|| section.field.clone());
    section.finish()?;
    let (naming, interval) = (naming?, interval?);
    if naming.format().repeats_within(interval) {
        return format
            .fail("snapshots that are one interval apart would have the same name", Some(more_exactly(&naming)));
    }
    comes_again(&naming, &format);
    Some(Snapshotting::Periodic { naming, interval, hooks: hooks? })
}

fn by_calendar(mut section: Section<'_>) -> Option<Snapshotting> {
    let naming = naming(&mut section);
    let cron = section.required("cron", cron);
    let hooks = section.list("hooks", hook);
    let format = section.take("timestamp_format").unwrap_or_else(|| section.field.clone());
    section.finish()?;
    let (naming, cron) = (naming?, cron?);
    if repeats(&naming, &cron) {
        return format
            .fail("snapshots of two times of the calendar would have the same name", Some(more_exactly(&naming)));
    }
    comes_again(&naming, &format);
    Some(Snapshotting::Cron { naming, cron, hooks: hooks? })
}

/// The hint for names that are not different enough.
fn more_exactly(naming: &SnapshotNaming) -> String {
    let meant = did_you_mean(naming.format().text(), &TimestampFormat::WORDS);
    meant.unwrap_or_else(|| "a second one of the same name cannot be taken: write the time more exactly".to_owned())
}

/// Whether one of the first times has the same name as the one before.
fn repeats(naming: &SnapshotNaming, cron: &Cron) -> bool {
    let start = Timestamp::from_second(1_704_067_200).unwrap_or_default(); // 2024-01-01
    let times = std::iter::successors(cron.next(start), |time| cron.next(*time)).take(TRIED_TIMES);
    let names: Vec<String> = times.map(|time| naming.format().format(time)).collect();
    names.iter().zip(names.iter().skip(1)).any(|(one, next)| one == next)
}

fn comes_again(naming: &SnapshotNaming, format: &Field<'_>) {
    if let Some(span) = naming.format().comes_again_after() {
        let days = span.as_secs().div_ceil(24 * 3600);
        let hint = "a snapshot that is kept for longer prevents the next one of its name; write the whole date";
        format.warn(format!("names of snapshots come again after {days} days"), hint);
    }
}

fn naming(section: &mut Section<'_>) -> Option<SnapshotNaming> {
    let mut prefix_field = None;
    let prefix = section.required("prefix", |field| {
        prefix_field = Some(field.clone());
        text(field)
    });
    let zone = section.optional("timestamp_location", Zone::Utc, zone);
    let format_field = section.take("timestamp_format").filter(|field| !field.is_null());
    let layout = section.optional("timestamp_format", "dense".to_owned(), text);
    let (zone, layout) = (zone?, layout?);
    let format = match TimestampFormat::new(&layout, zone) {
        Ok(format) => format,
        Err(error) => {
            let place = format_field.or_else(|| section.take("timestamp_location"));
            let hint = match &error {
                FormatError::Constant { layout } => did_you_mean(layout, &TimestampFormat::WORDS),
                FormatError::NeedsUtc { .. } | FormatError::Plus { .. } => None,
            };
            return place.unwrap_or_else(|| section.field.clone()).fail(error.to_string(), hint);
        }
    };
    let naming = SnapshotNaming::new(prefix?, format);
    let Err(error) = naming.check() else { return Some(naming) };
    let hint = "letters, digits, `-`, `_`, `.`, `:` and blanks are possible".to_owned();
    let (field, what) = match (format_field, prefix_field) {
        (Some(format), _) if VersionName::parse(naming.prefix()).is_ok() => (format, "timestamp format"),
        (_, Some(prefix)) => (prefix, "prefix"),
        (_, None) => (section.field.clone(), "prefix"),
    };
    field.fail(format!("{what} leads to an {}", brief(&error)), Some(hint))
}

fn zone(field: &Field<'_>) -> Option<Zone> {
    match text(field)?.as_str() {
        "" | "UTC" => Some(Zone::Utc),
        "Local" => Some(Zone::Local(TimeZone::system())),
        name => match time_zone(name) {
            Some(zone) => Some(Zone::Named(zone)),
            None => field.fail(format!("unknown time zone `{}`", shown(name)), Some(zone_hint(name))),
        },
    }
}

/// A zone of the system's database. Its names are those of files, whose case matters.
fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|zone| zone.iana_name() == Some(name))
}

fn zone_hint(name: &str) -> String {
    let known = match name.to_ascii_lowercase().as_str() {
        "utc" => Some("UTC".to_owned()),
        "local" => Some("Local".to_owned()),
        _ => TimeZone::get(name).ok().and_then(|zone| zone.iana_name().map(str::to_owned)),
    };
    match known {
        Some(known) => format!("did you mean `{known}`?"),
        None => "use a name of the zone database such as `Europe/Berlin`, `UTC` or `Local`".to_owned(),
    }
}

fn cron(field: &Field<'_>) -> Option<Cron> {
    let spec = &field.scalar("a cron spec")?.text;
    Cron::parse(spec, time_zone, TimeZone::system()).map_or_else(|error| field.fail(error.to_string(), None), Some)
}

fn hook(field: &Field<'_>) -> Option<Hook> {
    let (mut section, kind) = field.tagged(&["command", "postgres-checkpoint", "mysql-lock-tables"])?;
    let (kind, filesystems) = match kind.as_str() {
        "command" => {
            let path = section.required("path", text).map(|path| HookKind::Command { path: PathBuf::from(path) });
            (path, some_filesystems(&mut section))
        }
        "postgres-checkpoint" => {
            let dsn = section.required("dsn", postgres).map(|dsn| HookKind::PostgresCheckpoint { dsn });
            (dsn, section.required("filesystems", filesystems))
        }
        _ => {
            let dsn = section.required("dsn", mysql).map(|dsn| HookKind::MysqlLockTables { dsn });
            (dsn, section.required("filesystems", filesystems))
        }
    };
    let timeout = section.optional("timeout", HOOK_TIMEOUT, positive_timeout);
    let err_is_fatal = section.optional("err_is_fatal", false, boolean);
    section.finish()?;
    Some(Hook { kind: kind?, timeout: timeout?, filesystems: filesystems?, err_is_fatal: err_is_fatal? })
}

/// Those of a command: all, unless it says otherwise.
fn some_filesystems(section: &mut Section<'_>) -> Option<FilesystemFilter> {
    let Some(field) = section.take("filesystems") else {
        return Some(FilesystemFilter::new([(Pattern::Everything, true)]));
    };
    if field.is_empty() {
        field.warn("the hook never runs, as it is for no filesystem", "remove the key if it is for all of them");
    }
    filesystems(&field)
}

fn postgres(field: &Field<'_>) -> Option<PostgresDsn> {
    let dsn = parsed(field, dsn::parse_postgres, "write `host=db user=me …` or `postgres://me@db/…`")?;
    keep_secret(field, &dsn.password);
    let pair = field.file.named_files.pair();
    let files =
        [(&dsn.root_cert, Role::Authorities), (&dsn.client_cert, Role::Certificate), (&dsn.client_key, Role::Key)];
    for (path, role) in files {
        if let Some(path) = path {
            field.file.named_files.add(path, role, pair, field.place());
        }
    }
    Some(dsn)
}

fn mysql(field: &Field<'_>) -> Option<MysqlDsn> {
    let dsn = parsed(field, dsn::parse_mysql, "write `user:password@tcp(host:port)/database`")?;
    keep_secret(field, &dsn.password);
    Some(dsn)
}

fn parsed<T>(field: &Field<'_>, parse: fn(&str) -> Parsed<T>, hint: &str) -> Option<T> {
    match parse(&field.scalar("a data source name")?.text) {
        Ok((dsn, ignored)) => {
            for parameter in ignored {
                field.warn(format!("`{}` in the data source name has no effect", shown(&parameter)), "remove it");
            }
            Some(dsn)
        }
        Err(error) => field.fail(format!("bad data source name: {error}"), Some(hint.to_owned())),
    }
}

fn keep_secret(field: &Field<'_>, password: &str) {
    if !password.is_empty() {
        field.file.secrets.borrow_mut().push(field.place());
    }
}
