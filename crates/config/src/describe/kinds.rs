//! The kinds of single values: what decoders call them, what they are called here, and how an editor
//! recognises them.

use crate::describe::json::Json;
use crate::{duration, size};

/// A kind of value.
pub(super) struct Kind {
    /// What decoders say is wanted.
    wanted: &'static str,
    /// What the schema and the reference call it.
    pub(super) name: &'static str,
    /// How it is written, and what it means.
    pub(super) meaning: &'static str,
    form: Form,
}

enum Form {
    Bool,
    /// A whole number within these bounds.
    Number(i64, Option<i64>),
    /// A scalar of any type, whose text looks like this.
    Text(&'static str),
    /// A duration; perhaps also a number of nanoseconds of at least this.
    Duration(Option<i64>),
    DurationOrManual,
    Size,
}

pub(super) const ALL: &[Kind] = &[
    Kind {
        wanted: "`true` or `false`",
        name: "boolean",
        form: Form::Bool,
        meaning: "`true` or `false`; `yes`, `no`, `on`, `off`, `y` and `n` are as good. Not in quotes.",
    },
    Kind {
        wanted: "a text",
        name: "text",
        form: Form::Text(""),
        meaning: "Any value, taken as it was written: `010`, `yes` and `1.50` stay what they are.",
    },
    Kind {
        wanted: "a number of at least 1",
        name: "count",
        form: Form::Number(1, None),
        meaning: "A whole number of at least 1, not in quotes. `0x10`, `0b11`, `0o17` and `1_000` are read too; a leading \
         zero makes a number octal, and a fraction is cut off, both with a warning.",
    },
    Kind {
        wanted: "a port",
        name: "port",
        form: Form::Number(1, Some(65535)),
        meaning: "A TCP port, 1 to 65535, not in quotes.",
    },
    Kind {
        wanted: "a duration",
        name: "duration",
        form: Form::Duration(None),
        meaning: "Numbers with units, such as `10m`, `1h30m` or `1.5h`; several add up. Units are `ns`, `us`, `ms`, `s`, `m` \
         (minutes), `h`, `d` (24 hours) and `w` (7 days).",
    },
    Kind {
        wanted: "a duration of at least one second",
        name: "interval",
        form: Form::Duration(None),
        meaning: "A duration of at least one second.",
    },
    Kind {
        wanted: "an interval",
        name: "interval_or_manual",
        form: Form::DurationOrManual,
        meaning: "A duration of at least one second, or the word `manual`.",
    },
    Kind {
        wanted: "a duration, or nanoseconds",
        name: "timeout",
        form: Form::Duration(Some(0)),
        meaning: "A duration. A number without a unit counts nanoseconds, which is hardly ever meant, and a warning says so. \
         `0` means no limit.",
    },
    Kind {
        wanted: "a duration, or nanoseconds, above zero",
        name: "positive_timeout",
        form: Form::Duration(Some(1)),
        meaning: "A duration above zero. A number without a unit counts nanoseconds, which is hardly ever meant, and \
         a warning says so.",
    },
    Kind {
        wanted: "a size",
        name: "size",
        form: Form::Size,
        meaning: "A number with a unit, such as `10 MiB` or `23.5 MB`. `B` counts bytes, and `b` and `bit` count bits, eight to \
         the byte. `K`, `M`, `G` and `T` are powers of 1000; `Ki`, `Mi`, `Gi` and `Ti` powers of 1024.",
    },
    Kind {
        wanted: "a regular expression",
        name: "regex",
        form: Form::Text(""),
        meaning: "A regular expression, searched for anywhere in the name of a snapshot: write `^` and `$` to match the whole \
         name. No look-around, no references back.",
    },
    Kind {
        wanted: "the name of a dataset",
        name: "dataset",
        form: Form::Text("^[^@#|<>*\\t]*[^@#|<>*\\t/]$"),
        meaning: "The path of a dataset, such as `tank/data`, without `/` at its end.",
    },
    Kind {
        wanted: "a job name",
        name: "job_name",
        form: Form::Text("^[0-9A-Za-z.: -][0-9A-Za-z_.: -]*$"),
        meaning: "The name of a job: letters, digits, `-`, `_`, `.`, `:` and blanks, about 200 bytes at most, not beginning \
         with `_`.",
    },
    Kind {
        wanted: "a client identity",
        name: "identity",
        form: Form::Text("^[0-9A-Za-z_.: -]+$"),
        meaning: "The name of a client, which becomes one component of dataset names: letters, digits, `-`, `_`, `.`, `:` and \
         blanks, at most 255 bytes.",
    },
    Kind {
        wanted: "a client identity, or a pattern for one",
        name: "identity_pattern",
        form: Form::Text("^[0-9A-Za-z_.: *-]+$"),
        meaning: "The identity of the clients at an address. For a network it contains one `*`, for which the address of the \
         client is put in; for a single address none.",
    },
    Kind {
        wanted: "an address with a port",
        name: "address",
        form: Form::Text("^(\\[[^\\]]*\\]|[^:\\[\\]]*):[^:]*$"),
        meaning: "`host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`. Where to listen, the host may be left out.",
    },
    Kind {
        wanted: "a cron spec",
        name: "cron",
        form: Form::Text("^((CRON_)?TZ=\\S+\\s+)?\\S+(\\s+\\S+){4,5}\\s*$"),
        meaning: "Five fields: minute, hour, day of the month, month, day of the week (0 to 6, Sunday is 0); six if seconds \
         come first. Fields are `*`, numbers, names (`jan`, `mon`), ranges (`1-5`), steps (`*/10`) and lists (`1,15`). \
         If both kinds of days are given, one of them suffices. The zone is that of the daemon, unless the text begins with \
         `TZ=Europe/Berlin `. Quote it: an unquoted `*` begins something else in YAML.",
    },
    Kind {
        wanted: "a retention grid",
        name: "grid",
        form: Form::Text("^[^|]+x[^|]+(\\|[^|]+x[^|]+)*$"),
        meaning: "Intervals from young to old, such as `1x1h(keep=all) | 24x1h | 30x1d`: `24x1h` is 24 intervals of one hour. \
         Of each interval the oldest snapshot is kept, with `(keep=N)` the N oldest, with `(keep=all)` all. The first interval \
         begins at the youngest snapshot; what is older than all of them goes.",
    },
    Kind {
        wanted: "a data source name",
        name: "dsn",
        form: Form::Text(""),
        meaning: "How to reach a database: for PostgreSQL `host=db user=me` or `postgres://me@db/name`, for MySQL and MariaDB \
         `user:password@tcp(host:port)/name`. With a password in it, nobody else should be able to read the file. \
         PostgreSQL is reached with TLS unless `sslmode=disable` is set or `host` is the folder of a Unix socket: `require` \
         (the default) does not check who answers unless `sslrootcert` names a file with certificates of authorities, \
         `verify-ca` does, `verify-full` checks the name of the host as well; both take the authorities of the system \
         without `sslrootcert`. `sslcert` and `sslkey` name the files of a client's certificate and key. MySQL and MariaDB \
         are reached with TLS through TCP with `?tls=true` (checked against the authorities of the system), \
         `?tls=skip-verify` (not checked) or `?tls=preferred` (not checked, and only if the server can).",
    },
    Kind { wanted: "the path of a file", name: "path", form: Form::Text(""), meaning: "The path of a file or folder." },
];

/// The kind that a decoder calls so; any text if there is none, which a test rules out.
pub(super) fn of(wanted: &str) -> &'static Kind {
    const TEXT: Kind = Kind { wanted: "", name: "text", form: Form::Text(""), meaning: "" };
    ALL.iter().find(|kind| kind.wanted == wanted).unwrap_or(&TEXT)
}

impl Kind {
    pub(super) fn is_bool(&self) -> bool {
        matches!(self.form, Form::Bool)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self.form, Form::Number(..))
    }

    /// Whether a decoder asks for it.
    #[cfg(test)]
    pub(super) fn is_wanted_as(&self, wanted: &str) -> bool {
        self.wanted == wanted
    }
}

/// The words that YAML 1.1 takes for bools and later ones for texts.
pub(super) const BOOLS: [&str; 22] = [
    "true", "True", "TRUE", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON", "false", "False", "FALSE", "no", "No",
    "NO", "n", "N", "off", "Off", "OFF",
];

/// Numbers as YAML 1.1 writes them, which are texts to later ones.
const NUMBER: &str = r"^\+?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*(\.[0-9]*)?)$";

pub(super) fn schema(kind: &Kind) -> Json {
    let schema = match kind.form {
        Form::Bool => any([of_type("boolean"), Json::object([("enum", Json::texts(BOOLS))])]),
        Form::Number(least, most) => any([number(least, most), pattern(NUMBER)]),
        Form::Text("") => Json::object([("type", scalar())]),
        // A pattern says nothing about numbers and bools, which are taken as they were written.
        Form::Text(looks) => Json::object([("type", scalar()), ("pattern", Json::Text(looks.to_owned()))]),
        Form::Duration(None) => pattern(&durations("")),
        Form::Duration(Some(least)) => any([number(least, None), pattern(NUMBER), pattern(&durations("0|"))]),
        Form::DurationOrManual => pattern(&durations("manual|")),
        Form::Size => pattern(&sizes()),
    };
    schema.with("description", Json::Text(kind.meaning.to_owned()))
}

fn scalar() -> Json {
    Json::texts(["string", "number", "boolean"])
}

fn any(of: impl IntoIterator<Item = Json>) -> Json {
    Json::object([("anyOf", Json::List(of.into_iter().collect()))])
}

fn of_type(name: &str) -> Json {
    Json::object([("type", Json::Text(name.to_owned()))])
}

fn pattern(pattern: &str) -> Json {
    of_type("string").with("pattern", Json::Text(pattern.to_owned()))
}

fn number(least: i64, most: Option<i64>) -> Json {
    let least = of_type("number").with("minimum", Json::Number(least));
    match most {
        Some(most) => least.with("maximum", Json::Number(most)),
        None => least,
    }
}

fn durations(or: &str) -> String {
    let units: Vec<&str> = duration::UNITS.iter().map(|(unit, _)| *unit).collect();
    format!(r"^\s*\+?({or}(\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*({}))+)\s*$", units.join("|"))
}

fn sizes() -> String {
    let units: Vec<&str> = size::UNITS.iter().map(|(unit, _)| *unit).collect();
    format!(r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)\s*(bit|({})[bB])$", units.join("|"))
}
