//! Times by the calendar.
//!
//! # Changes of the clock
//!
//! A spec whose minute and hour are given (`30 2 * * *`) stands for times of a day. Where the clock is
//! set forward over such a time, it fires once as soon as the clock has been set; where the clock is set
//! back over it, it fires the first time only. So there is exactly one round on such days too, where
//! zrepl 0.7 took none or two.
//!
//! A spec whose minute or hour is `*` or has a step (`0 * * * *`, `*/15 * * * *`) stands for a rhythm. It
//! goes on by the time that really passes: what the clock leaves out is left out, what it shows twice
//! fires twice.

mod field;

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use thiserror::Error;

use field::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, WEEKDAY};

/// Between two leap days can be this many years, as 1900, 2100 … have none.
const SEARCHED_YEARS: i16 = 9;

/// A cron specification.
#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    zone: TimeZone,
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

/// A cron specification that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronError {
    /// Nothing there.
    #[error("the cron spec is empty: write `minute hour day month weekday`, such as `0 3 * * *`")]
    Empty,
    /// Too many or too few fields.
    #[error(
        "a cron spec has 5 fields (minute hour day month weekday), or 6 with seconds before them: `{spec}` has {found}"
    )]
    Fields {
        /// What is left of the spec without its zone.
        spec: String,
        /// How many.
        found: usize,
    },
    /// A zone that the zone database does not have.
    #[error("unknown time zone {zone:?} in cron spec: use a name of the zone database, such as `Europe/Berlin`")]
    Zone {
        /// Its name.
        zone: String,
    },
    /// A word that stands for a whole spec, but none that is known.
    #[error(
        "unknown cron word `{word}`: use `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` or five fields{}",
        hint(word)
    )]
    Word {
        /// The word.
        word: String,
    },
    /// A part of a field that cannot be understood.
    #[error("cannot use `{element}` as {field} of a cron spec: {problem}")]
    Element {
        /// Which field.
        field: &'static str,
        /// The part.
        element: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A field that allows no value.
    #[error("the {field} `{text}` of the cron spec matches nothing: write `*` for every value")]
    Nothing {
        /// Which field.
        field: &'static str,
        /// Its text.
        text: String,
    },
    /// No year has such a day.
    #[error("cron spec `{spec}` never fires, as no month of the spec has such a day: check day and month")]
    Never {
        /// The spec.
        spec: String,
    },
}

fn hint(word: &str) -> &'static str {
    if word.starts_with("@every") { " (for a fixed distance use `type: periodic` with `interval`)" } else { "" }
}

impl Cron {
    /// Parses `[TZ=zone ][second ]minute hour day month weekday`. A weekday is 0 to 7, where both 0 and
    /// 7 are Sunday. If day and weekday are both given, one of them suffices.
    ///
    /// `zone` looks up a zone of the database; it is not asked for `UTC` and `Local`. `local` is the
    /// zone of a spec that names none.
    ///
    /// # Errors
    /// See [`CronError`]; in particular a spec that would never fire.
    pub fn parse(text: &str, zone: impl FnOnce(&str) -> Option<TimeZone>, local: TimeZone) -> Result<Self, CronError> {
        let trimmed = text.trim();
        let named = trimmed.strip_prefix("CRON_TZ=").or_else(|| trimmed.strip_prefix("TZ="));
        let (zone, spec) = match named {
            None => (local, trimmed),
            Some(named) => {
                let (name, spec) = named.split_once(char::is_whitespace).unwrap_or((named, ""));
                let found = match name {
                    "" | "UTC" => Some(TimeZone::UTC),
                    "Local" => Some(local),
                    name => zone(name),
                };
                (found.ok_or_else(|| CronError::Zone { zone: name.to_owned() })?, spec.trim())
            }
        };
        if trimmed.is_empty() {
            return Err(CronError::Empty);
        }
        let cron = Self::fields(trimmed, zone, expand(spec)?)?;
        if cron.fires_in(2024) { Ok(cron) } else { Err(CronError::Never { spec: trimmed.to_owned() }) }
    }

    fn fields(text: &str, zone: TimeZone, spec: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = spec.split_whitespace().collect();
        let (second, fields) = match fields.as_slice() {
            [second, fields @ ..] if fields.len() == 5 => (*second, fields),
            fields => ("0", fields),
        };
        let [minute, hour, day, month, weekday] = fields else {
            let found = spec.split_whitespace().count();
            return Err(CronError::Fields { spec: spec.to_owned(), found });
        };
        Ok(Self {
            text: text.to_owned(),
            zone,
            second: SECOND.parse(second)?,
            minute: MINUTE.parse(minute)?,
            hour: HOUR.parse(hour)?,
            day: DAY.parse(day)?,
            month: MONTH.parse(month)?,
            weekday: WEEKDAY.parse(weekday)?,
        })
    }

    /// The spec as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zone that its times are meant in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time later than `after`, in whole seconds; none if the calendar ends before it.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let next_second = after.as_second().checked_add(1).filter(|_| after.subsec_nanosecond() >= 0);
        let from = Timestamp::from_second(next_second.unwrap_or(after.as_second())).ok()?;
        if self.minute.is_rhythm() || self.hour.is_rhythm() {
            self.next_in_rhythm(from)
        } else {
            self.next_of_day(from)
        }
    }

    /// By the times of a day. What a time of the day stands for never decreases along the calendar, so
    /// the first that is not before `from` is the next one.
    fn next_of_day(&self, from: Timestamp) -> Option<Timestamp> {
        let start = self.zone.to_datetime(from);
        let mut candidate = self.next_civil(start, start)?;
        loop {
            let moment = self.moment(candidate)?;
            if moment >= from {
                return Some(moment);
            }
            candidate = self.next_civil(candidate.checked_add(1.second()).ok()?, start)?;
        }
    }

    /// When the clock shows `time` first, or jumps over it.
    fn moment(&self, time: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(time);
        match ambiguous.offset() {
            jiff::tz::AmbiguousOffset::Gap { before, .. } => {
                // Read with the offset before the jump, the time lies after the jump by what it is late.
                let late = before.to_timestamp(time).ok()?;
                self.zone
                    .preceding(late.checked_add(SignedDuration::from_secs(1)).ok()?)
                    .next()
                    .map(|jump| jump.timestamp())
            }
            _ => ambiguous.earlier().ok(),
        }
    }

    /// By the time that passes: from change to change of the clock.
    fn next_in_rhythm(&self, from: Timestamp) -> Option<Timestamp> {
        let start = self.zone.to_datetime(from);
        let mut from = from;
        loop {
            let offset = self.zone.to_offset(from);
            let change = self.zone.following(from).next().map(|change| change.timestamp());
            let moment =
                self.next_civil(offset.to_datetime(from), start).and_then(|time| offset.to_timestamp(time).ok());
            match (moment, change) {
                (Some(moment), Some(change)) if moment >= change => from = change,
                (Some(moment), _) => return Some(moment),
                (None, _) => return None,
            }
        }
    }

    /// The first time of the calendar that matches, from `from` on; none if the years after `start` have
    /// none.
    fn next_civil(&self, from: DateTime, start: DateTime) -> Option<DateTime> {
        let (mut date, mut earliest) = (from.date(), from.time());
        let last = start.year().saturating_add(SEARCHED_YEARS);
        while date.year() <= last {
            if !self.month.has(date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = Time::midnight();
                continue;
            }
            if self.has_day(date)
                && let Some(time) = self.next_time(earliest)
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            earliest = Time::midnight();
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        if self.day.is_any() || self.weekday.is_any() { day && weekday } else { day || weekday }
    }

    fn next_time(&self, earliest: Time) -> Option<Time> {
        let hour = self.hour.at_least(earliest.hour())?;
        if hour == earliest.hour() {
            let minute = self.minute.at_least(earliest.minute());
            if minute == Some(earliest.minute())
                && let Some(second) = self.second.at_least(earliest.second())
            {
                return Time::new(hour, earliest.minute(), second, 0).ok();
            }
            if let Some(minute) = self.minute.at_least(earliest.minute() + 1) {
                return Time::new(hour, minute, self.second.at_least(0)?, 0).ok();
            }
        }
        let hour = if hour == earliest.hour() { self.hour.at_least(hour + 1)? } else { hour };
        Time::new(hour, self.minute.at_least(0)?, self.second.at_least(0)?, 0).ok()
    }

    /// Whether any day of a year matches. A leap year has every day that there is.
    fn fires_in(&self, leap_year: i16) -> bool {
        let days = Date::new(leap_year, 1, 1).map(|first| first.series(1.day()));
        days.is_ok_and(|mut days| {
            days.by_ref()
                .take_while(|day| day.year() == leap_year)
                .any(|day| self.month.has(day.month()) && self.has_day(day))
        })
    }
}

/// What a word stands for; other specs stand for themselves.
fn expand(spec: &str) -> Result<&str, CronError> {
    if !spec.starts_with('@') {
        return Ok(spec);
    }
    match spec.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(CronError::Word { word: spec.to_owned() }),
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
