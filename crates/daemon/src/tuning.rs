//! Settings that come from the environment, under the names that zrepl gives them.

use std::num::NonZeroU32;
use std::time::Duration;

use thiserror::Error;

/// How often a replication is tried before its job waits for its next wake-up.
pub const MAX_ATTEMPTS: &str = "ZREPL_REPLICATION_MAX_ATTEMPTS";
/// From how long a wait of new filesystems for the first round is warned of.
pub const SYNC_UP_WARNING: &str = "ZREPL_SNAPPER_SYNCUP_WARN_MIN_DURATION";

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// [`MAX_ATTEMPTS`], 3 by default.
    pub attempts: NonZeroU32,
    /// [`SYNC_UP_WARNING`], 1 s by default.
    pub sync_up_warning: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { attempts: NonZeroU32::MIN.saturating_add(2), sync_up_warning: Duration::from_secs(1) }
    }
}

/// A variable that holds something else than what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("environment variable {name}={value:?} is not {expected}")]
pub struct TuningError {
    /// The variable.
    pub name: &'static str,
    /// What it holds.
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

/// One setting for the status report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub name: &'static str,
    pub value: String,
    /// The type as zrepl calls it.
    pub kind: &'static str,
}

impl Tuning {
    /// Reads the settings; `variable` looks one up. An empty one counts as unset.
    ///
    /// # Errors
    /// The first variable that cannot be read.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Tuning, TuningError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let mut tuning = Tuning::default();
        if let Some(value) = set(MAX_ATTEMPTS) {
            tuning.attempts = value.parse().map_err(|_| TuningError {
                name: MAX_ATTEMPTS,
                value,
                expected: "a whole number of at least 1",
            })?;
        }
        if let Some(value) = set(SYNC_UP_WARNING) {
            tuning.sync_up_warning = value
                .parse::<jiff::SignedDuration>()
                .ok()
                .and_then(|duration| Duration::try_from(duration).ok())
                .ok_or(TuningError { name: SYNC_UP_WARNING, value, expected: "a duration such as `1m30s`" })?;
        }
        Ok(tuning)
    }

    pub(crate) fn settings(&self) -> [Setting; 2] {
        let seconds = self.sync_up_warning.as_secs_f64();
        [
            Setting { name: MAX_ATTEMPTS, value: self.attempts.to_string(), kind: "int" },
            Setting { name: SYNC_UP_WARNING, value: format!("{seconds}s"), kind: "time.Duration" },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Tuning, String> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Tuning::from_environment(find).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_come_from_the_environment_and_nonsense_is_named() {
        assert_eq!(read(&[]), Ok(Tuning::default()));
        assert_eq!(read(&[(MAX_ATTEMPTS, "")]), Ok(Tuning::default()));
        let tuning = read(&[(MAX_ATTEMPTS, "5"), (SYNC_UP_WARNING, "1m30s")]).unwrap();
        assert_eq!((tuning.attempts.get(), tuning.sync_up_warning), (5, Duration::from_secs(90)));
        assert_eq!(
            read(&[(MAX_ATTEMPTS, "-1")]).unwrap_err(),
            r#"environment variable ZREPL_REPLICATION_MAX_ATTEMPTS="-1" is not a whole number of at least 1"#
        );
        assert!(read(&[(SYNC_UP_WARNING, "soon")]).is_err());
    }
}
