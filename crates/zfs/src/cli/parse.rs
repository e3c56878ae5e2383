//! What the listing commands print. Pure; fed line by line, so that the text is never held as a whole.
//!
//! Columns are separated by tabs and counted exactly. Empty values are values. Lines may have any
//! length.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::view::{DatasetKind, Encryption, Placeholder};
use model::{CreateTxg, DatasetName, Guid, HoldTag, UnixTime, Version, VersionKind, VersionName};
use sha2::Digest;

use super::argv::kind_of;
use crate::listing::{Contents, Dataset, Hold};

/// A line that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unexpected(String);

impl Unexpected {
    fn new(problem: &str, line: &str) -> Self {
        let line: String = line.chars().take(300).collect();
        Self(format!("{problem} in line {line:?}"))
    }

    /// Output that does not come at all.
    pub(crate) fn unreadable(problem: &std::io::Error) -> Self {
        Self(format!("it cannot be read: {problem}"))
    }

    pub(crate) fn into_problem(self) -> String {
        self.0
    }
}

/// Exactly `N` columns.
pub(crate) fn columns<const N: usize>(line: &str) -> Result<[&str; N], Unexpected> {
    let mut fields = line.split('\t');
    let columns = std::array::from_fn(|_| fields.next());
    let excess = fields.count();
    let found = columns.iter().flatten().count() + excess;
    if found != N {
        return Err(Unexpected::new(&format!("{found} columns instead of {N}"), line));
    }
    Ok(columns.map(Option::unwrap_or_default))
}

fn number<T: std::str::FromStr>(what: &str, text: &str, line: &str) -> Result<T, Unexpected> {
    text.parse().map_err(|_| Unexpected::new(&format!("{what} {text:?} is no number"), line))
}

/// Cuts chunks of output into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Hands over the lines that are complete now.
    pub(crate) fn push<E>(&mut self, chunk: &[u8], mut line: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let Some(last) = chunk.iter().rposition(|byte| *byte == b'\n') else {
            self.rest.extend_from_slice(chunk);
            return Ok(());
        };
        let (complete, rest) = chunk.split_at(last + 1);
        if self.rest.is_empty() {
            each_line(complete, &mut line)?;
        } else {
            self.rest.extend_from_slice(complete);
            each_line(&std::mem::take(&mut self.rest), &mut line)?;
        }
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    /// Bytes of the line that is not complete yet.
    pub(crate) fn pending(&self) -> usize {
        self.rest.len()
    }

    /// Hands over a last line without an end.
    pub(crate) fn finish<E>(self, mut line: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        if self.rest.is_empty() { Ok(()) } else { each_line(&self.rest, &mut line) }
    }
}

fn each_line<E>(bytes: &[u8], line: &mut impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\n').unwrap_or(&text).split('\n').try_for_each(line)
}

/// Versions by the name of their dataset, in order and with exact capacity.
pub(crate) type Versions = HashMap<String, Arc<[Version]>>;

/// Rows of [`super::argv::list_versions`], sorted into datasets.
#[derive(Debug, Default)]
pub(crate) struct VersionRows {
    datasets: Vec<Vec<Version>>,
    by_name: HashMap<String, usize>,
    /// The dataset of the previous row: rows of one dataset mostly follow one another.
    current: (String, usize),
    /// One copy of each short name; the same names usually occur in every dataset.
    names: HashSet<VersionName>,
    skipped: Vec<String>,
}

impl VersionRows {
    pub(crate) fn push(&mut self, line: &str) -> Result<(), Unexpected> {
        let [full, guid, createtxg, creation, userrefs] = columns(line)?;
        let at = full.bytes().position(|byte| kind_of(byte).is_some());
        let split = at.and_then(|at| Some((full.get(..at)?, kind_of(*full.as_bytes().get(at)?)?, full.get(at + 1..)?)));
        let Some((dataset, kind, short)) = split else {
            return Err(Unexpected::new("no snapshot or bookmark", line));
        };
        let userrefs = match (kind, userrefs) {
            (VersionKind::Bookmark, "-") => 0,
            (VersionKind::Bookmark, _) => return Err(Unexpected::new("userrefs of a bookmark", line)),
            (VersionKind::Snapshot, text) => u32::try_from(number::<u64>("userrefs", text, line)?).unwrap_or(u32::MAX),
        };
        let guid = Guid(number("guid", guid, line)?);
        let createtxg = CreateTxg(number("createtxg", createtxg, line)?);
        let creation = UnixTime(number("creation", creation, line)?);
        match self.intern(short) {
            Ok(name) => {
                let version = Version { kind, name, guid, createtxg, creation, userrefs };
                self.dataset(dataset).push(version);
            }
            Err(problem) => self.skipped.push(format!("{full}: {problem}")),
        }
        Ok(())
    }

    fn intern(&mut self, short: &str) -> Result<VersionName, String> {
        if let Some(name) = self.names.get(short) {
            return Ok(name.clone());
        }
        let name = VersionName::parse(short).map_err(|error| error.to_string())?;
        self.names.insert(name.clone());
        Ok(name)
    }

    fn dataset(&mut self, name: &str) -> &mut Vec<Version> {
        if self.current.0 != name || self.datasets.is_empty() {
            let next = self.datasets.len();
            let index = *self.by_name.entry(name.to_owned()).or_insert(next);
            if index == next {
                self.datasets.push(Vec::new());
            }
            self.current = (name.to_owned(), index);
        }
        // The index was made above, or by an earlier row.
        #[allow(clippy::indexing_slicing, reason = "an index into a vector that only grows")]
        &mut self.datasets[self.current.1]
    }

    /// The versions, and what was left out.
    pub(crate) fn finish(mut self) -> (Versions, Vec<String>) {
        let versions = self
            .by_name
            .into_iter()
            .filter_map(|(name, index)| {
                let mut versions = std::mem::take(self.datasets.get_mut(index)?);
                versions.sort_by(|a, b| a.order().cmp(&b.order()).then_with(|| a.name.cmp(&b.name)));
                Some((name, versions.into()))
            })
            .collect();
        (versions, self.skipped)
    }
}

/// Rows of [`super::argv::get_datasets`].
#[derive(Debug, Default)]
pub(crate) struct DatasetRows {
    rows: Vec<Properties>,
    /// The placeholder property's value, when a line break in it has cut its row.
    open: Option<String>,
}

/// The properties of one dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Properties {
    name: String,
    kind: Option<DatasetKind>,
    key_status: String,
    resume_token: Option<String>,
    placeholder: Option<String>,
}

const PLACEHOLDER: &str = "zrepl:placeholder";

impl DatasetRows {
    pub(crate) fn push(&mut self, line: &str) -> Result<(), Unexpected> {
        if let Some(value) = self.open.take() {
            return self.continue_value(&value, line);
        }
        let mut fields = line.splitn(3, '\t');
        let (Some(name), Some(property), Some(rest)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Unexpected::new("less than 4 columns", line));
        };
        self.open_row(name, property);
        if property == PLACEHOLDER {
            return self.value(rest);
        }
        let [_, _, value, _source] = columns(line)?;
        self.set(property, value, line)
    }

    /// Each dataset's rows are consecutive and begin with its type.
    fn open_row(&mut self, name: &str, property: &str) {
        if property == "type" || self.rows.last().is_none_or(|row| row.name != name) {
            self.rows.push(Properties { name: name.to_owned(), ..Properties::default() });
        }
    }

    fn set(&mut self, property: &str, value: &str, line: &str) -> Result<(), Unexpected> {
        let Some(row) = self.rows.last_mut() else { return Ok(()) };
        match property {
            "type" => {
                row.kind = match value {
                    "filesystem" => Some(DatasetKind::Filesystem),
                    "volume" => Some(DatasetKind::Volume),
                    _ => return Err(Unexpected::new("unknown type", line)),
                }
            }
            "keystatus" => row.key_status = value.to_owned(),
            "receive_resume_token" => row.resume_token = (value != "-").then(|| value.to_owned()),
            _ => return Err(Unexpected::new("a property that was not asked for", line)),
        }
        Ok(())
    }

    /// `VALUE<TAB>SOURCE`, where the value is a person's text with tabs and line breaks in it.
    fn value(&mut self, rest: &str) -> Result<(), Unexpected> {
        match rest.rsplit_once('\t') {
            Some((value, "local")) => {
                if let Some(row) = self.rows.last_mut() {
                    row.placeholder = Some(value.to_owned());
                }
                Ok(())
            }
            Some((_, "-")) => Ok(()),
            // A value that zrepl does not know, however it goes on; only its end matters.
            _ => {
                self.open = Some(rest.to_owned());
                Ok(())
            }
        }
    }

    fn continue_value(&mut self, value: &str, line: &str) -> Result<(), Unexpected> {
        let next_row = self.rows.last().is_some_and(|row| line.starts_with(&format!("{}\t", row.name)));
        if next_row || line.ends_with("\t-") {
            return Err(Unexpected::new("no source column", value));
        }
        // Cut to what distinguishes it from `on` and `off`.
        let head: String = value.chars().take(100).collect();
        self.value(&format!("{head}\n{line}"))
    }

    /// The datasets without their versions, parents first, and what was left out.
    pub(crate) fn finish(self) -> Result<(Vec<Dataset>, Vec<String>), Unexpected> {
        if let Some(value) = self.open {
            return Err(Unexpected::new("no source column", &value));
        }
        let (mut datasets, mut skipped) = (Vec::with_capacity(self.rows.len()), Vec::new());
        for row in self.rows {
            match DatasetName::parse(&row.name) {
                Ok(name) => datasets.push(row.into_dataset(name)?),
                Err(problem) => skipped.push(format!("{}: {problem}", row.name)),
            }
        }
        datasets.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(twice) = datasets.windows(2).find_map(|pair| match pair {
            [a, b] if a.name == b.name => Some(&a.name),
            _ => None,
        }) {
            return Err(Unexpected::new("a dataset twice", twice.as_str()));
        }
        Ok((datasets, skipped))
    }
}

impl Properties {
    fn into_dataset(self, name: DatasetName) -> Result<Dataset, Unexpected> {
        let Some(kind) = self.kind else { return Err(Unexpected::new("no type", &self.name)) };
        let encryption = match self.key_status.as_str() {
            "available" => Encryption::Encrypted { key_loaded: true },
            "unavailable" => Encryption::Encrypted { key_loaded: false },
            "-" | "none" => Encryption::None,
            other => return Err(Unexpected::new("unknown key status", &format!("{}\t{other}", self.name))),
        };
        Ok(Dataset {
            placeholder: placeholder(&name, self.placeholder.as_deref()),
            placeholder_text: self.placeholder.map(String::into_boxed_str),
            kind,
            encryption,
            resume_token: self.resume_token,
            versions: Arc::new([]),
            name,
        })
    }
}

/// What a local value of `zrepl:placeholder` means. zrepl 0.0 stored a hash of the dataset's path.
fn placeholder(name: &DatasetName, value: Option<&str>) -> Placeholder {
    match value {
        Some("on") => Placeholder::On,
        Some("off") => Placeholder::Off,
        Some(value) if value == legacy_placeholder(name) => Placeholder::On,
        _ => Placeholder::Unset,
    }
}

fn legacy_placeholder(name: &DatasetName) -> String {
    sha2::Sha512_256::digest(name.as_str()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows of [`super::argv::get_contents`].
#[derive(Debug, Default)]
pub(crate) struct ContentsRows {
    kind: Option<DatasetKind>,
    logical_bytes: Option<u64>,
    mounted: Option<bool>,
    had_snapshots: Option<bool>,
    without_mountpoint: Option<bool>,
}

impl ContentsRows {
    pub(crate) fn push(&mut self, line: &str) -> Result<(), Unexpected> {
        // What follows is the rest of a path with line breaks.
        if self.without_mountpoint.is_some() {
            return Ok(());
        }
        let Some((property, value)) = line.split_once('\t') else {
            return Err(Unexpected::new("less than 2 columns", line));
        };
        match property {
            "type" => {
                self.kind = match value {
                    "filesystem" => Some(DatasetKind::Filesystem),
                    "volume" => Some(DatasetKind::Volume),
                    _ => return Err(Unexpected::new("unknown type", line)),
                }
            }
            "logicalreferenced" => self.logical_bytes = Some(number("size", value, line)?),
            "mounted" => self.mounted = Some(value == "yes"),
            "snapshots_changed" => self.had_snapshots = Some(value != "-"),
            "mountpoint" => self.without_mountpoint = Some(value == "none"),
            _ => return Err(Unexpected::new("a property that was not asked for", line)),
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Contents, Unexpected> {
        match self {
            Self {
                kind: Some(kind),
                logical_bytes: Some(logical_bytes),
                mounted: Some(mounted),
                had_snapshots,
                without_mountpoint: Some(without_mountpoint),
            } => Ok(Contents { kind, logical_bytes, mounted, without_mountpoint, had_snapshots }),
            _ => Err(Unexpected::new("a property is missing", "")),
        }
    }
}

/// Rows of [`super::argv::holds`].
#[derive(Debug, Default)]
pub(crate) struct HoldRows {
    holds: Vec<Hold>,
    open: Option<String>,
}

impl HoldRows {
    /// `SNAPSHOT<TAB>TAG<TAB>TIME`. A tag of somebody else's may contain anything: one that this
    /// program could not name is left out, tabs and line breaks notwithstanding.
    pub(crate) fn push(&mut self, line: &str) -> Result<(), Unexpected> {
        let joined = self.open.take().map(|head| format!("{head}\n{line}"));
        let row = joined.as_deref().unwrap_or(line);
        let Some((snapshot, rest)) = row.split_once('\t') else {
            return Err(Unexpected::new("less than 3 columns", line));
        };
        let Some((tag, _time)) = rest.rsplit_once('\t') else {
            self.open = Some(row.chars().take(1000).collect());
            return Ok(());
        };
        let name = snapshot
            .split_once('@')
            .and_then(|(dataset, short)| Some((DatasetName::parse(dataset).ok()?, VersionName::parse(short).ok()?)));
        let Some((dataset, snapshot)) = name else { return Err(Unexpected::new("no snapshot", line)) };
        if let Ok(tag) = HoldTag::parse(tag) {
            self.holds.push(Hold { dataset, snapshot, tag });
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Vec<Hold>, Unexpected> {
        match self.open {
            Some(row) => Err(Unexpected::new("less than 3 columns", &row)),
            None => Ok(self.holds),
        }
    }
}

#[cfg(test)]
mod tests;
