//! What earlier versions of zrepl left on disk, and what becomes of it.

use crate::abstraction::CURSOR_V1;
use crate::name::JobName;
use crate::protection::{ProtectionKind, bookmark_protection};
use crate::version::{CreateTxg, Version, VersionKind};
use crate::view::Placeholder;

/// What to do about the cursor of zrepl up to 0.2 of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorMigration {
    /// There is none.
    Nothing,
    /// There is one, and no job sends the filesystem.
    NoOwner,
    /// There is one that may still be needed, and why.
    Needed(String),
    /// It can go: the job has a cursor at least as new.
    Superseded {
        /// The job.
        job: JobName,
        /// Its newest cursor.
        by: Version,
    },
}

/// Decides by the filesystem's versions and the jobs that send it.
pub fn migrate_cursor(versions: &[Version], owners: &[JobName]) -> CursorMigration {
    let is_v1 = |version: &&Version| version.kind == VersionKind::Bookmark && version.name.as_str() == CURSOR_V1;
    let Some(old) = versions.iter().find(is_v1) else { return CursorMigration::Nothing };
    let job = match owners {
        [] => return CursorMigration::NoOwner,
        [job] => job,
        [one, other, ..] => {
            return CursorMigration::Needed(format!(
                "jobs \"{one}\" and \"{other}\" both send it: whose it is cannot be told"
            ));
        }
    };
    let is_cursor = |version: &&Version| {
        bookmark_protection(version, job).is_some_and(|protection| protection.kind == ProtectionKind::Cursor)
    };
    match versions.iter().filter(is_cursor).max_by_key(|version| version.createtxg) {
        None => {
            CursorMigration::Needed(format!("job \"{job}\" has no cursor yet (replicate once before the migration)"))
        }
        Some(new) if new.createtxg < old.createtxg => {
            let (CreateTxg(new), CreateTxg(old)) = (new.createtxg, old.createtxg);
            CursorMigration::Needed(format!("the cursor of job \"{job}\" is older (createtxg {new} before {old})"))
        }
        Some(new) => CursorMigration::Superseded { job: job.clone(), by: new.clone() },
    }
}

/// Whether the placeholder mark of a filesystem is the hash of its path that zrepl 0.0 wrote.
pub fn is_hashed_placeholder(meaning: Placeholder, text: Option<&str>) -> bool {
    meaning == Placeholder::On && text.is_some_and(|text| text != "on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::VersionName;
    use crate::version::{Guid, UnixTime};

    fn mark(name: &str, txg: u64) -> Version {
        Version {
            kind: VersionKind::Bookmark,
            name: VersionName::parse(name).unwrap(),
            guid: Guid(txg),
            createtxg: CreateTxg(txg),
            creation: UnixTime(0),
            userrefs: 0,
        }
    }

    fn verdict(versions: &[Version], owners: &[&str]) -> String {
        let owners: Vec<_> = owners.iter().map(|name| JobName::parse(name).unwrap()).collect();
        match migrate_cursor(versions, &owners) {
            CursorMigration::Nothing => "nothing".to_owned(),
            CursorMigration::NoOwner => "no owner".to_owned(),
            CursorMigration::Needed(why) => why,
            CursorMigration::Superseded { job, by } => format!("{job}: {}", by.createtxg.0),
        }
    }

    #[test]
    fn an_old_cursor_goes_when_its_one_job_has_one_at_least_as_new() {
        let old = || mark(CURSOR_V1, 5);
        let cursor = |txg: u64, job: &str| mark(&format!("zrepl_CURSOR_G_{txg:016x}_J_{job}"), txg);
        let tentative = mark("zrepl_CURSORTENTATIVE__G_0000000000000009_J_a", 9);
        assert_eq!(verdict(&[cursor(5, "a")], &["a"]), "nothing");
        assert_eq!(verdict(&[old(), cursor(5, "a")], &[]), "no owner");
        assert!(verdict(&[old(), cursor(5, "a")], &["a", "b"]).contains("both send it"));
        assert!(verdict(&[old(), cursor(9, "b"), tentative], &["a"]).contains("has no cursor yet"));
        assert!(verdict(&[old(), cursor(4, "a")], &["a"]).contains("is older (createtxg 4 before 5)"));
        assert_eq!(verdict(&[old(), cursor(5, "a")], &["a"]), "a: 5");
        assert_eq!(verdict(&[cursor(6, "a"), old(), cursor(3, "a")], &["a"]), "a: 6");
    }

    #[test]
    fn only_a_hash_is_migrated() {
        assert!(is_hashed_placeholder(Placeholder::On, Some("0123abcd")));
        assert!(!is_hashed_placeholder(Placeholder::On, Some("on")));
        assert!(!is_hashed_placeholder(Placeholder::Off, Some("off")));
        assert!(!is_hashed_placeholder(Placeholder::Unset, Some("other")));
    }
}
