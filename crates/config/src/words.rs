//! Choices that a configuration names by words: one table for reading, writing and describing them.

use model::plan::replication::InitialReplication;
use model::plan::resolve::{WhenDiverged, WhenNothingInCommon, WhenTokenIsDead};
use model::protection::ProtectionStrategy;

use crate::types::{LogFormat, LogLevel, LogNet, PlaceholderEncryption, SyslogFacility};

/// A choice among words.
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// What a message calls it.
    const WHAT: &'static str;
    /// All words with what they stand for, in the order in which they are listed.
    const WORDS: &'static [(&'static str, Self)];

    /// What the word stands for.
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }

    /// None for what no word stands for.
    fn word(self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(_, value)| *value == self).map(|(word, _)| *word)
    }
}

impl Words for LogLevel {
    const WHAT: &'static str = "log level";
    const WORDS: &'static [(&'static str, Self)] =
        &[("debug", Self::Debug), ("info", Self::Info), ("warn", Self::Warn), ("error", Self::Error)];
}

impl Words for LogFormat {
    const WHAT: &'static str = "log format";
    const WORDS: &'static [(&'static str, Self)] =
        &[("human", Self::Human), ("logfmt", Self::Logfmt), ("json", Self::Json)];
}

impl Words for LogNet {
    const WHAT: &'static str = "network";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("tcp", Self::Tcp),
        ("tcp4", Self::Tcp4),
        ("tcp6", Self::Tcp6),
        ("udp", Self::Udp),
        ("udp4", Self::Udp4),
        ("udp6", Self::Udp6),
    ];
}

/// In the order of their numbers; those without a name, 12 to 15, cannot be configured.
impl Words for SyslogFacility {
    const WHAT: &'static str = "syslog facility";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("kern", Self { code: 0 }),
        ("user", Self { code: 1 }),
        ("mail", Self { code: 2 }),
        ("daemon", Self { code: 3 }),
        ("auth", Self { code: 4 }),
        ("syslog", Self { code: 5 }),
        ("lpr", Self { code: 6 }),
        ("news", Self { code: 7 }),
        ("uucp", Self { code: 8 }),
        ("cron", Self { code: 9 }),
        ("authpriv", Self { code: 10 }),
        ("ftp", Self { code: 11 }),
        ("local0", Self { code: 16 }),
        ("local1", Self { code: 17 }),
        ("local2", Self { code: 18 }),
        ("local3", Self { code: 19 }),
        ("local4", Self { code: 20 }),
        ("local5", Self { code: 21 }),
        ("local6", Self { code: 22 }),
        ("local7", Self { code: 23 }),
    ];
}

impl Words for PlaceholderEncryption {
    const WHAT: &'static str = "placeholder encryption";
    const WORDS: &'static [(&'static str, Self)] =
        &[("unspecified", Self::Unspecified), ("inherit", Self::Inherit), ("off", Self::Off)];
}

impl Words for ProtectionStrategy {
    const WHAT: &'static str = "protection";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("guarantee_resumability", Self::Resumability),
        ("guarantee_incremental", Self::Incremental),
        ("guarantee_nothing", Self::Nothing),
    ];
}

impl Words for InitialReplication {
    const WHAT: &'static str = "initial replication";
    const WORDS: &'static [(&'static str, Self)] =
        &[("most_recent", Self::MostRecent), ("all", Self::All), ("fail", Self::Fail)];
}

impl Words for WhenDiverged {
    const WHAT: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] =
        &[("fail", Self::Fail), ("rollback_receiver", Self::RollbackReceiver)];
}

impl Words for WhenTokenIsDead {
    const WHAT: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[("discard", Self::Discard), ("fail", Self::Fail)];
}

impl Words for WhenNothingInCommon {
    const WHAT: &'static str = "policy";
    const WORDS: &'static [(&'static str, Self)] = &[("fail", Self::Fail), ("rename_aside", Self::RenameAside)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_once<T: Words>() {
        for (word, value) in T::WORDS {
            assert_eq!(value.word(), Some(*word), "{}", T::WHAT);
            assert!(T::of_word(word) == Some(*value), "{} {word}", T::WHAT);
        }
        assert!(T::of_word("").is_none(), "{}", T::WHAT);
    }

    #[test]
    fn a_word_and_what_it_stands_for_lead_to_each_other() {
        each_once::<LogLevel>();
        each_once::<LogFormat>();
        each_once::<LogNet>();
        each_once::<SyslogFacility>();
        each_once::<PlaceholderEncryption>();
        each_once::<ProtectionStrategy>();
        each_once::<InitialReplication>();
        each_once::<WhenDiverged>();
        each_once::<WhenTokenIsDead>();
        each_once::<WhenNothingInCommon>();
        assert_eq!(SyslogFacility { code: 12 }.word(), None);
    }
}
