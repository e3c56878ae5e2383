//! Decoders of single values.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use model::filter::{Pattern, PatternError};
use model::plan::prune::{KeepRule, RetentionGrid};
use model::{ClientIdentity, DatasetName, FilesystemFilter, NameError, PropertyName};
use regex::Regex;

use crate::decode::{Field, Section, all};
use crate::scalar::{as_bool, as_integer};
use crate::suggest::{did_you_mean, shown};
use crate::types::BandwidthLimit;
use crate::words::Words;
use crate::{duration, grid, size, tree::Scalar};

/// Any scalar, as it was written: `yes`, `010` and `1.50` stay what they are.
pub(crate) fn text(field: &Field<'_>) -> Option<String> {
    Some(field.scalar("a text")?.text.clone())
}

pub(crate) fn boolean(field: &Field<'_>) -> Option<bool> {
    let scalar = field.scalar("`true` or `false`")?;
    as_bool(scalar).or_else(|| {
        let unquoted = Scalar { text: scalar.text.to_lowercase(), plain: true };
        let hint = match as_bool(&unquoted) {
            Some(value) if !scalar.plain => format!("without quotes: `{value}`"),
            Some(value) => format!("write `{value}`"),
            None => {
                let guess = did_you_mean(&scalar.text, &["true", "false"]);
                guess.unwrap_or_else(|| "write `true` or `false`".to_owned())
            }
        };
        field.fail(format!("`{}` is neither true nor false", shown(&scalar.text)), Some(hint))
    })
}

/// A whole number.
pub(crate) fn integer(field: &Field<'_>) -> Option<i64> {
    let scalar = field.scalar("a number")?;
    let Some(integer) = as_integer(scalar) else {
        let hint = (!scalar.plain).then(|| "write it without quotes".to_owned());
        return field.fail(format!("`{}` is not a whole number", shown(&scalar.text)), hint);
    };
    if let Some(surprise) = integer.surprise {
        field.warn(format!("`{}` is read as {}", shown(&scalar.text), integer.value), surprise);
    }
    Some(integer.value)
}

/// One of some words.
pub(crate) fn choice<T: Words>(field: &Field<'_>) -> Option<T> {
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    T::of_word(&field.one_of(T::WHAT, &words)?)
}

/// A number of things, at least one.
pub(crate) fn count(field: &Field<'_>) -> Option<NonZeroUsize> {
    field.describe("a number of at least 1");
    let number = integer(field)?;
    let count = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    count.or_else(|| field.fail(format!("`{number}` is less than 1"), None))
}

/// The time between two rounds: at least a second, which is as fine as names of snapshots go.
pub(crate) fn interval(field: &Field<'_>) -> Option<Duration> {
    field.describe("a duration of at least one second");
    let interval = parsed_duration(field)?;
    if interval.is_zero() {
        return field.fail("the interval must be positive", Some("write a duration such as `10m`".to_owned()));
    }
    if interval < Duration::from_secs(1) {
        let hint = "names of snapshots differ only from second to second".to_owned();
        return field.fail("the interval must be at least one second", Some(hint));
    }
    Some(interval)
}

/// An interval; none for `manual`.
pub(crate) fn interval_or_manual(field: &Field<'_>) -> Option<Option<Duration>> {
    const MANUAL: &str = "manual";
    let text = &field.scalar("an interval")?.text;
    if text == MANUAL {
        return Some(None);
    }
    match did_you_mean(text, &[MANUAL]) {
        Some(hint) => field.fail(format!("`{}` is neither a duration nor `{MANUAL}`", shown(text)), Some(hint)),
        None => interval(field).map(Some),
    }
}

/// How long to wait. A bare number counts nanoseconds, as it does for zrepl; nobody means that.
pub(crate) fn timeout(field: &Field<'_>) -> Option<Duration> {
    field.describe("a duration, or nanoseconds");
    let scalar = field.scalar("a duration")?;
    let Some(integer) = as_integer(scalar) else { return parsed_duration(field) };
    let Ok(nanoseconds) = u64::try_from(integer.value) else {
        return field.fail(format!("`{}` is negative", shown(&scalar.text)), None);
    };
    if nanoseconds > 0 {
        let message = format!("`{}` without a unit is read as nanoseconds", shown(&scalar.text));
        field.warn(message, format!("for seconds, write `{}s`", integer.value));
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// How long to wait where zero would be no time at all.
pub(crate) fn positive_timeout(field: &Field<'_>) -> Option<Duration> {
    field.describe("a duration, or nanoseconds, above zero");
    let timeout = timeout(field)?;
    if timeout.is_zero() {
        return field.fail("the duration must be positive", Some("nothing succeeds in no time".to_owned()));
    }
    Some(timeout)
}

/// `bandwidth_limit`
pub(crate) fn bandwidth_limit(mut section: Section<'_>) -> Option<BandwidthLimit> {
    let default = BandwidthLimit::default();
    let max = section.optional("max", None, |field| match u64::try_from(size(field)?).map(NonZeroU64::new) {
        Err(_) => Some(None),
        Ok(Some(max)) => Some(Some(max)),
        Ok(None) => {
            let hint = "for no limit, write `-1 B` or leave it out".to_owned();
            field.fail("`max` has to be at least one byte per second", Some(hint))
        }
    });
    let limited = max.is_none_or(|max| max.is_some());
    let bucket_capacity = section.optional("bucket_capacity", default.bucket_capacity, |field| {
        let bytes = size(field)?;
        match u64::try_from(bytes).ok().and_then(NonZeroU64::new) {
            Some(capacity) => Some(capacity),
            // Without a limit nobody looks into the bucket.
            None if bytes < 0 && !limited => Some(default.bucket_capacity),
            None => field.fail("`bucket_capacity` has to be at least one byte", None),
        }
    });
    section.finish()?;
    Some(BandwidthLimit { max: max?, bucket_capacity: bucket_capacity? })
}

/// Bytes; negative ones are possible.
fn size(field: &Field<'_>) -> Option<i64> {
    let text = &field.scalar("a size")?.text;
    size::parse_bytes(text)
        .map_or_else(|error| field.fail(format!("bad size `{}`: {error}", shown(text)), Some(error.hint(text))), Some)
}

fn parsed_duration(field: &Field<'_>) -> Option<Duration> {
    let text = &field.scalar("a duration")?.text;
    duration::parse(text).map_or_else(
        |error| field.fail(format!("bad duration `{}`: {error}", shown(text)), Some(error.hint(text))),
        Some,
    )
}

pub(crate) fn dataset(field: &Field<'_>) -> Option<DatasetName> {
    let text = &field.scalar("the name of a dataset")?.text;
    DatasetName::parse(text).map_or_else(|error| bad_name(field, &error), Some)
}

pub(crate) fn client_identity(field: &Field<'_>) -> Option<ClientIdentity> {
    let text = &field.scalar("a client identity")?.text;
    ClientIdentity::parse(text).map_or_else(
        |error| {
            let hint = "it becomes one component of dataset names: letters, digits, `-`, `_`, `.`, `:` and blanks";
            field.fail(brief(&error), Some(hint.to_owned()))
        },
        Some,
    )
}

pub(crate) fn bad_name<T>(field: &Field<'_>, error: &NameError) -> Option<T> {
    field.fail(brief(error), None)
}

pub(crate) fn brief(error: &NameError) -> String {
    format!("invalid {} `{}`: {}", error.what, shown(&error.name), error.problem)
}

/// The name of a ZFS property.
pub(crate) fn property(field: &Field<'_>) -> Option<PropertyName> {
    PropertyName::parse(&text(field)?).map_or_else(|error| bad_name(field, &error), Some)
}

/// A property name given as a key.
pub(crate) fn property_key(name: &str, field: &Field<'_>) -> Option<PropertyName> {
    let name = PropertyName::parse(name);
    name.map_err(|error| field.report(field.key_place().error(brief(&error)))).ok()
}

/// A pattern for names, searched for anywhere in them.
pub(crate) fn regex(field: &Field<'_>) -> Option<Regex> {
    let text = &field.scalar("a regular expression")?.text;
    match field.file.patterns.compile(text) {
        Ok(regex) => Some(regex),
        Err(cause) => field.fail(format!("bad regular expression: {cause}"), None),
    }
}

pub(crate) fn filesystems(field: &Field<'_>) -> Option<FilesystemFilter> {
    let entries = field.entries("a mapping such as `{\"tank<\": true}`")?;
    let entries: Vec<_> = entries.into_iter().map(|(text, field)| filter_entry(&text, &field)).collect();
    let entries: Vec<_> = entries.into_iter().collect::<Option<_>>()?;
    Some(FilesystemFilter::new(entries.into_iter().flatten()))
}

/// One entry; inner none for one that can never match.
fn filter_entry(text: &str, field: &Field<'_>) -> Option<Option<(Pattern, bool)>> {
    let selected = if field.is_null() {
        field.warn("no value is taken for `false`", "write `false` if the datasets are to be left out");
        Some(false)
    } else {
        boolean(field)
    };
    let (pattern, selected) = (pattern(text, field)?, selected?);
    Some(pattern.map(|pattern| (pattern, selected)))
}

fn pattern(text: &str, field: &Field<'_>) -> Option<Option<Pattern>> {
    let at_key = field.key_place();
    match Pattern::parse(text) {
        Ok(pattern) => Some(Some(pattern)),
        Err(PatternError::Name(error)) if is_harmless(text) => {
            let warning = at_key.warning(format!("`{}` matches no dataset: it {}", shown(text), error.problem));
            field.report(warning.with_hint("remove it, or correct the path"));
            Some(None)
        }
        Err(error) => {
            let error = match error {
                PatternError::Name(error) => at_key.error(brief(&error)),
                error @ PatternError::Misplaced(_) => at_key.error(error.to_string()),
            };
            field.report(error.with_hint("`tank/a` is one dataset, `tank/a<` it and everything below, `<` all"));
            None
        }
    }
}

/// What zrepl takes for a path although no dataset can be called that.
fn is_harmless(text: &str) -> bool {
    let path = text.strip_suffix('<').unwrap_or(text);
    !path.ends_with('/') && !path.contains(['@', '#', '|', '\t', '<', '>', '*'])
}

const NOT_REPLICATED: &str = "not_replicated";
const RULES: [&str; 4] = [NOT_REPLICATED, "last_n", "regex", "grid"];
/// Those of a job that does not replicate.
const LOCAL_RULES: [&str; 3] = ["last_n", "regex", "grid"];

/// A list of keep rules.
pub(crate) fn keep_rules(field: &Field<'_>) -> Option<Vec<KeepRule>> {
    all(field.items()?, |item| keep_rule(item, &RULES))
}

/// The rules of a job that does not replicate.
pub(crate) fn local_keep_rules(field: &Field<'_>) -> Option<Vec<KeepRule>> {
    all(field.items()?, |item| match item.is_of_type(NOT_REPLICATED) {
        true => item.fail(
            "single-site pruner cannot support `not_replicated` keep rule",
            Some("a snap job replicates nothing; use `last_n` or `regex`".to_owned()),
        ),
        false => keep_rule(item, &LOCAL_RULES),
    })
}

fn keep_rule(field: &Field<'_>, rules: &[&str]) -> Option<KeepRule> {
    let (mut section, kind) = field.tagged(rules)?;
    match kind.as_str() {
        NOT_REPLICATED => {
            let keep_snapshot_at_cursor = section.optional("keep_snapshot_at_cursor", true, boolean);
            section.finish()?;
            Some(KeepRule::NotReplicated { keep_snapshot_at_cursor: keep_snapshot_at_cursor? })
        }
        "last_n" => {
            let count = section.required("count", count);
            let regex = section.take("regex").filter(|field| !field.is_empty());
            let regex = regex.map_or(Some(None), |field| regex_of(&field));
            section.finish()?;
            Some(KeepRule::LastN { count: count?.get(), regex: regex? })
        }
        "regex" => {
            let pattern = section.required("regex", regex);
            let negate = section.optional("negate", false, boolean);
            section.finish()?;
            Some(KeepRule::Regex { regex: pattern?, negate: negate? })
        }
        _ => {
            let grid = section.required("grid", grid);
            let regex = section.required("regex", regex);
            section.finish()?;
            Some(KeepRule::Grid { grid: grid?, regex: regex? })
        }
    }
}

fn grid(field: &Field<'_>) -> Option<RetentionGrid> {
    let text = &field.scalar("a retention grid")?.text;
    let intervals = match grid::parse(text) {
        Ok(intervals) => intervals,
        Err(error) => {
            let hint = "write such as `1x1h(keep=all) | 24x1h | 30x1d`, from young to old".to_owned();
            return field.fail(format!("bad grid: {error}"), Some(hint));
        }
    };
    RetentionGrid::new(intervals).map_or_else(|error| field.fail(error.to_string(), None), Some)
}

fn regex_of(field: &Field<'_>) -> Option<Option<Regex>> {
    regex(field).map(Some)
}
