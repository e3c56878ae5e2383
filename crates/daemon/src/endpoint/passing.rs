//! Refusals that another attempt may be spared.

use std::time::Duration;

use model::RetryClass;
use thiserror::Error;
use wire::CallError;

/// Why not now. A client that gets no word beside a text knows them by their texts (`wire::remote`).
#[derive(Debug, Error)]
pub(super) enum Passing {
    #[error("another step of filesystem {0:?} is still under way")]
    UnderWay(String),
    #[error("datasets above {0:?} are still being made")]
    BeingMade(String),
    #[error("the stream did not begin within {0:?}")]
    NotBegun(Duration),
    #[error("the stream ended before its first record")]
    NoStream,
    #[error("the stream failed: {0}")]
    Stream(String),
    #[error("cannot hold {0}: another snapshot has its name by now")]
    AnotherSnapshot(String),
    #[error("{0:?} is gone")]
    Gone(String),
    #[error("cannot {what} {name:?}: {how} since the plan was made")]
    Changed { what: &'static str, name: String, how: String },
    #[error("cannot roll back {name:?} to {to}: it has no such snapshot any more")]
    NoTarget { name: String, to: String },
    #[error("cannot roll back {name:?} to {to}: {new} is none of what the plan destroys; nothing was destroyed")]
    Newer { name: String, to: String, new: String },
    #[error("cannot rename {name:?}: something is called {aside:?} already")]
    AsideTaken { name: String, aside: String },
}

impl From<Passing> for CallError {
    fn from(passing: Passing) -> Self {
        CallError::Refused { class: RetryClass::Transient, message: passing.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use model::DatasetName;
    use wire::remote;
    use zfs::ErrorKind;

    use super::*;

    /// One of each variant; one that is not here does not compile.
    macro_rules! one_of_each {
        ($type:ty, $($variant:pat => $value:expr,)*) => {{
            fn known(value: &$type) {
                match value { $($variant => (),)* }
            }
            let all: Vec<$type> = vec![$($value),*];
            all.iter().for_each(known);
            all
        }};
    }

    fn text() -> String {
        "words".to_owned()
    }

    fn kinds() -> Vec<ErrorKind> {
        use ErrorKind as K;
        let limit = Duration::from_secs(9);
        one_of_each!(
            ErrorKind,
            K::NotFound => K::NotFound,
            K::PoolMissing { .. } => K::PoolMissing { pool: text() },
            K::PoolSuspended { .. } => K::PoolSuspended { pool: text() },
            K::Exists => K::Exists,
            K::Held => K::Held,
            K::HasClones => K::HasClones,
            K::NewerVersions => K::NewerVersions,
            K::HasChildren => K::HasChildren,
            K::Busy => K::Busy,
            K::NoSpace => K::NoSpace,
            K::QuotaExceeded => K::QuotaExceeded,
            K::ReadOnly => K::ReadOnly,
            K::PermissionDenied => K::PermissionDenied,
            K::KeyNotLoaded => K::KeyNotLoaded,
            K::BadResumeToken(_) => K::BadResumeToken(text()),
            K::Interrupted { .. } => K::Interrupted { token: text() },
            K::Truncated => K::Truncated,
            K::Source(_) => K::Source(text()),
            K::TargetExists => K::TargetExists,
            K::TargetHasSnapshots => K::TargetHasSnapshots,
            K::TargetHasPartial => K::TargetHasPartial,
            K::TargetModified => K::TargetModified,
            K::SourceMismatch => K::SourceMismatch,
            K::EncryptionBoundary => K::EncryptionBoundary,
            K::EncryptionMismatch(_) => K::EncryptionMismatch(text()),
            K::Unsupported(_) => K::Unsupported(text()),
            K::Cancelled => K::Cancelled,
            K::Deadline(_) => K::Deadline(limit),
            K::Stalled(_) => K::Stalled(limit),
            K::NotStarted { .. } => K::NotStarted { program: text(), problem: text() },
            K::ArgumentsTooLong => K::ArgumentsTooLong,
            K::NoModule => K::NoModule,
            K::Killed { .. } => K::Killed { command: "zfs hold a b@c".to_owned(), signal: 9 },
            K::Output { .. } => K::Output { command: text(), problem: text() },
            K::Name(_) => K::Name(DatasetName::parse("").unwrap_err()),
            K::Failed { .. } => K::Failed { command: text(), status: "exit status 1".to_owned(), stderr: text() },
        )
    }

    fn refusals() -> Vec<Passing> {
        use Passing as P;
        let name = || "tank/a b".to_owned();
        one_of_each!(
            Passing,
            P::UnderWay(_) => P::UnderWay(name()),
            P::BeingMade(_) => P::BeingMade(name()),
            P::NotBegun(_) => P::NotBegun(Duration::from_secs(9)),
            P::NoStream => P::NoStream,
            P::Stream(_) => P::Stream(text()),
            P::AnotherSnapshot(_) => P::AnotherSnapshot("tank/a@b".to_owned()),
            P::Gone(_) => P::Gone(name()),
            P::Changed { .. } => P::Changed { what: "rename", name: name(), how: text() },
            P::NoTarget { .. } => P::NoTarget { name: name(), to: "@c (guid 7)".to_owned() },
            P::Newer { .. } => P::Newer { name: name(), to: "@c".to_owned(), new: "@d".to_owned() },
            P::AsideTaken { .. } => P::AsideTaken { name: name(), aside: name() },
        )
    }

    #[test]
    fn a_client_that_sees_only_texts_knows_what_passes() {
        for kind in kinds() {
            let class = kind.class();
            let text = zfs::Error::new("receive into", "tank/a b", kind).to_string();
            assert_eq!(remote::refusal(&text).class(), class, "{text}");
        }
        for refusal in refusals() {
            let error = CallError::from(refusal);
            assert_eq!(remote::refusal(&error.to_string()), error);
        }
    }
}
