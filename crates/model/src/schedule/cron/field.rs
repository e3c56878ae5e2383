//! One field of a cron spec: a set of numbers.

use super::CronError;

/// The values that a field allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    values: u64,
    /// `*` or `?` without a step: the field restricts nothing.
    any: bool,
    /// Stands for a rhythm rather than for certain values.
    rhythm: bool,
}

impl Field {
    /// Whether the field allows a value.
    pub(super) fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.values.checked_shr(value).is_some_and(|values| values & 1 == 1))
    }

    /// The smallest allowed value from `least` on.
    pub(super) fn at_least(self, least: i8) -> Option<i8> {
        let least = u32::try_from(least).ok()?;
        let above = self.values.checked_shr(least)?;
        (above != 0).then(|| i8::try_from(least + above.trailing_zeros()).ok()).flatten()
    }

    /// Whether the field was left open.
    pub(super) fn is_any(self) -> bool {
        self.any
    }

    /// Whether the field is open, or counts in steps.
    pub(super) fn is_rhythm(self) -> bool {
        self.rhythm
    }
}

/// What a field may contain.
pub(super) struct FieldKind {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of values, from the smallest on.
    names: &'static [&'static str],
    /// The largest number that may be written. A weekday may be 7, which is Sunday as well.
    max_written: u32,
}

pub(super) const SECOND: FieldKind = FieldKind { name: "second", min: 0, max: 59, names: &[], max_written: 59 };
pub(super) const MINUTE: FieldKind = FieldKind { name: "minute", min: 0, max: 59, names: &[], max_written: 59 };
pub(super) const HOUR: FieldKind = FieldKind { name: "hour", min: 0, max: 23, names: &[], max_written: 23 };
pub(super) const DAY: FieldKind = FieldKind { name: "day of month", min: 1, max: 31, names: &[], max_written: 31 };
pub(super) const MONTH: FieldKind = FieldKind {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    max_written: 12,
};
pub(super) const WEEKDAY: FieldKind = FieldKind {
    name: "weekday",
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    max_written: 7,
};

impl FieldKind {
    /// Parses a comma list. Empty elements say nothing.
    pub(super) fn parse(&self, text: &str) -> Result<Field, CronError> {
        let mut field = Field { values: 0, any: false, rhythm: false };
        for element in text.split(',').filter(|element| !element.is_empty()) {
            let parsed = self.element(element).map_err(|problem| CronError::Element {
                field: self.name,
                element: element.to_owned(),
                problem,
            })?;
            field.values |= parsed.values;
            field.any |= parsed.any;
            field.rhythm |= parsed.rhythm;
        }
        if field.values == 0 {
            return Err(CronError::Nothing { field: self.name, text: text.to_owned() });
        }
        field.rhythm |= (self.min..=self.max).all(|value| field.values & 1 << value != 0);
        Ok(field)
    }

    /// `*`, `N`, `N-M`, each with `/STEP`.
    fn element(&self, element: &str) -> Result<Field, String> {
        let (range, step) = match element.split_once('/') {
            None => (element, None),
            Some((_, step)) if step.contains('/') => return Err("write one `/` only".to_owned()),
            Some((range, step)) => (range, Some(self.step(step)?)),
        };
        let open = ["*", "?"].contains(&range.split('-').next().unwrap_or(range));
        let (first, last) = match range.split_once('-') {
            _ if open => (self.min, self.max),
            None => {
                let first = self.value(range)?;
                // `N/STEP` goes on to the end.
                (first, if step.is_some() { self.max.max(first) } else { first })
            }
            Some((first, last)) => (self.value(first)?, self.value(last)?),
        };
        if first > last {
            return Err(format!("the range ends before it begins: write `{first}-{},{}-{last}`", self.max, self.min));
        }
        let every = step.unwrap_or(1);
        let values = (first..=last).step_by(usize::try_from(every).unwrap_or(usize::MAX));
        let values = values.fold(0, |set, value| set | 1_u64 << (if value > self.max { self.min } else { value }));
        Ok(Field { values, any: open && every == 1, rhythm: open || step.is_some() })
    }

    fn step(&self, text: &str) -> Result<u32, String> {
        match text.parse() {
            Ok(0) => Err("a step must be at least 1".to_owned()),
            Ok(step) => Ok(step),
            Err(_) => Err("a step is a number: write for example `*/5`".to_owned()),
        }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        let named = (self.min..).zip(self.names).find(|(_, name)| **name == lower).map(|(value, _)| value);
        match named.map_or_else(|| text.parse::<u32>().ok(), Some) {
            Some(value) if value >= self.min && value <= self.max_written => Ok(value),
            Some(value) => Err(format!("{value} is not between {} and {}", self.min, self.max_written)),
            None if self.names.is_empty() => {
                Err(format!("write `*`, a number from {} to {}, or a range of them", self.min, self.max_written))
            }
            None => Err(format!(
                "write `*`, a number from {} to {}, a name such as `{}`, or a range of them",
                self.min,
                self.max_written,
                self.names.get(1).unwrap_or(&"")
            )),
        }
    }
}
