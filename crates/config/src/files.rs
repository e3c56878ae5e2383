//! The certificates and keys that a configuration names: whether they are there and look right.
//!
//! This looks at files that belong to the machine where the daemon runs, so it is apart from reading
//! the configuration.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::place::Place;

/// Bundles of all public authorities take less than a tenth.
const MAX_BYTES: u64 = 4 << 20;
/// Whoever does not own a file and is not of its group may read it.
pub(crate) const READABLE_BY_OTHERS: u32 = 0o004;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Authorities,
    Certificate,
    Key,
}

/// A file, and where it is named.
#[derive(Debug, Clone)]
pub(crate) struct NamedFile {
    path: PathBuf,
    role: Role,
    place: Place,
}

/// All files that were named so far.
#[derive(Default)]
pub(crate) struct NamedFiles(RefCell<Vec<NamedFile>>);

impl NamedFiles {
    pub(crate) fn add(&self, path: &Path, role: Role, place: Place) {
        self.0.borrow_mut().push(NamedFile { path: path.to_owned(), role, place });
    }

    pub(crate) fn into_inner(self) -> Vec<NamedFile> {
        self.0.into_inner()
    }
}

/// What is wrong with these files.
pub(crate) fn check(files: &[NamedFile]) -> Vec<Diagnostic> {
    files.iter().flat_map(check_one).collect()
}

fn check_one(file: &NamedFile) -> Vec<Diagnostic> {
    let shown = file.path.display();
    let (text, mode) = match read(&file.path) {
        Ok(read) => read,
        Err(error) => {
            let error = file.place.error(format!("cannot read {shown}: {}", crate::load::reason(&error)));
            let hint = "the daemon needs it at its start; relative paths begin at its current directory";
            return vec![error.with_hint(hint)];
        }
    };
    let mut found = Vec::new();
    if !contains_pem(&text, file.role) {
        let message = format!("{shown} contains no {}", file.role.content());
        found.push(file.place.error(message).with_hint("the file has to be in PEM form, with `-----BEGIN …` lines"));
    }
    if file.role == Role::Key && mode & READABLE_BY_OTHERS != 0 {
        let warning = file.place.warning(format!("everybody can read the private key {shown}"));
        found.push(warning.with_hint(format!("`chmod o= {shown}`")));
    }
    found
}

/// The text and the permissions.
fn read(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), mode))
}

/// Whether there is a whole block of the right kind.
fn contains_pem(text: &str, role: Role) -> bool {
    let begins = |line: &str| {
        let label = line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        let fits = match role {
            Role::Authorities | Role::Certificate => label == "CERTIFICATE",
            Role::Key => label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY"),
        };
        fits.then(|| format!("-----END {label}-----"))
    };
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(end) = begins(line) {
            return lines.any(|line| line.trim_end() == end);
        }
    }
    false
}

impl Role {
    fn content(self) -> &'static str {
        match self {
            Role::Authorities | Role::Certificate => "certificate",
            Role::Key => "private key",
        }
    }
}
