//! What two sides of this program may agree on beyond zrepl's protocol.
//!
//! Each extension is a line of the banner, which every peer of protocol 7 reads and ignores. It is on only
//! on connections where both sides announced it, so that an older peer sees plain version 7. A line is
//! chosen once: a change of what it means gets a new number.

use crate::handshake::{Agreement, Banner};

/// Something beyond protocol 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// One streamed call lists all filesystems with all that a plan is made from.
    List,
    /// The calls of [`Endpoint`](crate::Endpoint) that zrepl does not have.
    Calls,
    /// The kind of an error is told beside its text.
    Errors,
    /// A data connection serves one request after the other.
    Keep,
}

impl Extension {
    /// All of them.
    pub const ALL: [Extension; 4] = [Extension::List, Extension::Calls, Extension::Errors, Extension::Keep];

    /// The line of the banner.
    pub fn line(self) -> &'static str {
        match self {
            Extension::List => "zr2-list/1",
            Extension::Calls => "zr2-calls/1",
            Extension::Errors => "zr2-errors/1",
            Extension::Keep => "zr2-keep/1",
        }
    }
}

impl Banner {
    /// The banner of this program.
    pub fn of_this_program() -> Self {
        Self::with_extensions(Extension::ALL.iter().map(|extension| extension.line().to_owned()).collect())
    }
}

impl Agreement {
    /// Whether an extension is on.
    pub fn includes(&self, extension: Extension) -> bool {
        self.has(extension.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_on_only_if_both_sides_know_it() {
        let (new, old) = (Banner::of_this_program(), Banner::with_extensions(vec![]));
        let other = Banner::with_extensions(vec!["zr2-keep/1".into(), "zr2-list/2".into()]);
        for (theirs, on) in [(&new, &Extension::ALL[..]), (&old, &[]), (&other, &[Extension::Keep])] {
            let agreed = new.agree(theirs).unwrap();
            assert_eq!(agreed.extensions.len(), on.len());
            let included: Vec<Extension> = Extension::ALL.into_iter().filter(|it| agreed.includes(*it)).collect();
            assert_eq!(included, on);
        }
    }

    #[test]
    fn the_lines_are_what_they_were() {
        let bytes = Banner::of_this_program().encode().unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "0000000103 ZREPL_ZFS_REPLICATION PROTOVERSION=0007 EXTENSIONS=0004\n\
             zr2-list/1\nzr2-calls/1\nzr2-errors/1\nzr2-keep/1\n"
        );
    }
}
