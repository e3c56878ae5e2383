//! The certificates and keys that a configuration names: whether they are there and look right.
//!
//! This looks at files that belong to the machine where the daemon runs, so it is apart from reading
//! the configuration.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::certificates::{self, Certificate, Key};
use crate::diagnostic::Diagnostic;
use crate::place::Place;

/// Bundles of all public authorities take less than a tenth.
const MAX_BYTES: u64 = 4 << 20;
/// Whoever does not own a file and is not of its group may read it.
pub(crate) const READABLE_BY_OTHERS: u32 = 0o004;
/// How long before its end a certificate is worth a warning: time to notice and to get a new one.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A file with more authorities is a bundle from somewhere else, in which some are always about to end.
const MAX_OWN_AUTHORITIES: usize = 20;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Authorities,
    Certificate,
    Key,
}

/// The files that are used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair(usize);

/// A file, and where it is named.
#[derive(Debug, Clone)]
pub(crate) struct NamedFile {
    path: PathBuf,
    role: Role,
    pair: Pair,
    place: Place,
}

/// All files that were named so far.
#[derive(Default)]
pub(crate) struct NamedFiles {
    files: RefCell<Vec<NamedFile>>,
    pairs: Cell<usize>,
}

impl NamedFiles {
    /// A certificate and a key that are going to be named, and have to belong together.
    pub(crate) fn pair(&self) -> Pair {
        self.pairs.set(self.pairs.get() + 1);
        Pair(self.pairs.get())
    }

    pub(crate) fn add(&self, path: &Path, role: Role, pair: Pair, place: Place) {
        self.files.borrow_mut().push(NamedFile { path: path.to_owned(), role, pair, place });
    }

    pub(crate) fn into_inner(self) -> Vec<NamedFile> {
        self.files.into_inner()
    }
}

/// What a file turned out to hold.
enum Content {
    Certificates(Vec<Certificate>),
    Key(Key),
}

/// What is wrong with these files.
pub(crate) fn check(files: &[NamedFile], now: Timestamp) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let contents: Vec<Option<Content>> = files.iter().map(|file| check_one(file, now, &mut found)).collect();
    let known = || files.iter().zip(&contents);
    for (certificate_file, content) in known() {
        let Some(Content::Certificates(certificates)) = content else { continue };
        let keys = known().filter(|(file, _)| {
            certificate_file.role == Role::Certificate && file.pair == certificate_file.pair && file.role == Role::Key
        });
        for (key_file, content) in keys {
            // The first is the one whose key it is, the others lead from it to an authority.
            if let (Some(Content::Key(key)), Some(certificate)) = (content, certificates.first())
                && !key.belongs_to(certificate)
            {
                found.push(mismatch(key_file, certificate_file));
            }
        }
    }
    found
}

fn mismatch(key: &NamedFile, certificate: &NamedFile) -> Diagnostic {
    let (key_path, path) = (key.path.display(), certificate.path.display());
    let error = key.place.error(format!("the key {key_path} does not belong to the certificate {path}"));
    error.with_hint("the certificate that has to come first in its file is the one that was made for the key")
}

/// Says what is wrong with a file, and gives back what is in it, if it can be used.
fn check_one(file: &NamedFile, now: Timestamp, found: &mut Vec<Diagnostic>) -> Option<Content> {
    let shown = file.path.display();
    let (text, mode) = match read(&file.path) {
        Ok(read) => read,
        Err(error) => {
            let error = file.place.error(format!("cannot read {shown}: {}", crate::load::reason(&error)));
            let hint = "the daemon needs it at its start; relative paths begin at its current directory";
            found.push(error.with_hint(hint));
            return None;
        }
    };
    if file.role == Role::Key && mode & READABLE_BY_OTHERS != 0 {
        let warning = file.place.warning(format!("everybody can read the private key {shown}"));
        found.push(warning.with_hint(format!("`chmod o= {shown}`")));
    }
    let content = match file.role {
        Role::Authorities | Role::Certificate => certificates::certificates(&text).map(Content::Certificates),
        Role::Key => certificates::key(&text).map(Content::Key),
    };
    match content {
        Ok(content) => {
            if let Content::Certificates(certificates) = &content {
                found.extend(version(file, certificates));
                found.extend(validity(file, certificates, now));
            }
            Some(content)
        }
        Err(error) => {
            found.push(file.place.error(format!("{shown} {error}")).with_hint(error.hint()));
            None
        }
    }
}

fn version(file: &NamedFile, certificates: &[Certificate]) -> Option<Diagnostic> {
    let old = certificates.first().filter(|first| file.role == Role::Certificate && first.is_version_1)?;
    let message = format!("the certificate `{}` in {} is of X.509 version 1", old.subject, file.path.display());
    let hint = "other sides refuse it; `openssl req -x509 -addext subjectAltName=DNS:NAME` makes one of version 3";
    Some(file.place.error(message).with_hint(hint))
}

/// About the certificate of a file that ends first: replacing it brings up the next.
fn validity(file: &NamedFile, certificates: &[Certificate], now: Timestamp) -> Option<Diagnostic> {
    if certificates.len() > MAX_OWN_AUTHORITIES {
        return None;
    }
    let first = certificates.iter().min_by_key(|certificate| certificate.not_after)?;
    let late = certificates.iter().find(|certificate| certificate.not_before > now);
    let say = |certificate: &Certificate, what: String, hint: &str| {
        let (subject, path) = (&certificate.subject, file.path.display());
        let warning = file.place.warning(format!("the certificate `{subject}` in {path} {what}"));
        Some(warning.with_hint(hint))
    };
    if first.not_after < now {
        let what = format!("has expired on {}", day(first.not_after));
        return say(first, what, "connections fail until it is replaced");
    }
    if let Some(late) = late {
        let what = format!("is not valid before {}", day(late.not_before));
        return say(late, what, "connections fail until then; is the clock of this machine right?");
    }
    let left = first.not_after.duration_since(now);
    if left >= SOON {
        return None;
    }
    let when = match left.as_hours() / 24 {
        0 => "in less than a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    };
    let what = format!("expires on {}, {when}", day(first.not_after));
    say(first, what, "replace it; without a valid one connections fail")
}

/// The day in universal time, as certificates have it.
fn day(instant: Timestamp) -> String {
    instant.to_zoned(TimeZone::UTC).date().to_string()
}

/// The text and the permissions.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}
