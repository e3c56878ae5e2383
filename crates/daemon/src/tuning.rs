//! Settings that come from the environment, under the names that zrepl gives them.

use std::num::NonZeroU32;

use thiserror::Error;

/// How often a replication is tried before its job waits for its next wake-up.
pub const MAX_ATTEMPTS: &str = "ZREPL_REPLICATION_MAX_ATTEMPTS";

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// [`MAX_ATTEMPTS`], 3 by default.
    pub attempts: NonZeroU32,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { attempts: NonZeroU32::MIN.saturating_add(2) }
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

impl Tuning {
    /// Reads the settings; `variable` looks one up. An empty one counts as unset.
    ///
    /// # Errors
    /// A variable that cannot be read.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Tuning, TuningError> {
        let mut tuning = Tuning::default();
        if let Some(value) = variable(MAX_ATTEMPTS).filter(|value| !value.is_empty()) {
            tuning.attempts = value.parse().map_err(|_| TuningError {
                name: MAX_ATTEMPTS,
                value,
                expected: "a whole number of at least 1",
            })?;
        }
        Ok(tuning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Option<&str>) -> Result<u32, String> {
        let tuning = Tuning::from_environment(|name| value.filter(|_| name == MAX_ATTEMPTS).map(str::to_owned));
        tuning.map(|tuning| tuning.attempts.get()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_come_from_the_environment_and_nonsense_is_named() {
        assert_eq!((read(None), read(Some("")), read(Some("5"))), (Ok(3), Ok(3), Ok(5)));
        assert_eq!(
            read(Some("-1")).unwrap_err(),
            r#"environment variable ZREPL_REPLICATION_MAX_ATTEMPTS="-1" is not a whole number of at least 1"#
        );
    }
}
