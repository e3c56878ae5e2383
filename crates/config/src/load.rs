//! Finding and reading files: where the configuration is, and what it includes.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs::{self, File as OsFile, FileType};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::{File, Log};
use crate::diagnostic::{Diagnostic, Errors};
use crate::document::{self, Document};
use crate::files::{NamedFiles, READABLE_BY_OTHERS};
use crate::jobs::Claims;
use crate::patterns::Patterns;
use crate::place::Place;
use crate::source::Source;
use crate::types::{Config, Job};
use crate::{Loaded, check};

/// Where the configuration is if nobody says otherwise; the first that exists.
const DEFAULT_PATHS: [&str; 2] = ["/etc/zrepl/zrepl.yml", "/usr/local/etc/zrepl/zrepl.yml"];
/// All files together. Some thousand jobs are below 1 MiB, and the tree of a file takes a hundred
/// times its size.
const MAX_BYTES: u64 = 4 << 20;
/// How many files `include` may bring in.
const MAX_INCLUDED_FILES: usize = 1000;

/// The file that [`load`] reads: `path` if given, else the first default location that exists.
///
/// # Errors
/// There is none, or the first one is not a regular file.
pub fn find(path: Option<&Path>) -> Result<PathBuf, Errors> {
    match path {
        Some(path) => Ok(path.to_owned()),
        None => find_default(&DEFAULT_PATHS.map(Path::new)),
    }
}

fn find_default(candidates: &[&Path]) -> Result<PathBuf, Errors> {
    // A location that cannot be looked at counts as absent, so that an unreadable /etc does not hide
    // the other one.
    let found = candidates.iter().find_map(|path| fs::metadata(path).ok().map(|found| (path, found.file_type())));
    match found {
        Some((path, kind)) if kind.is_file() => Ok(path.to_path_buf()),
        Some((path, _)) => {
            let message = format!("file at default location is not a regular file: {}", path.display());
            Err(Errors::one(Diagnostic::error(message).with_hint("replace it, or name another file with `--config`")))
        }
        None => {
            let tried: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
            let message = format!("no configuration file: {} do not exist", tried.join(" and "));
            Err(Errors::one(Diagnostic::error(message).with_hint("write one, or name one with `--config`")))
        }
    }
}

/// Reads the configuration: `path` if given, else the first default location that exists, with the
/// files that it includes.
///
/// # Errors
/// All mistakes of all files at once, with the warnings that there were.
pub fn load(path: Option<&Path>) -> Result<Loaded, Errors> {
    let path = find(path)?;
    let reading = Reading::default();
    let text = reading.read(&path).map_err(|problem| Errors::one(Diagnostic::error(problem.message())))?;
    reading.whole(&Arc::new(Source::new(path.display().to_string(), text)), Some(&path))
}

/// Where the daemon of a configuration is reached, if the file says so much of it, whatever else is wrong with it.
pub fn control_socket(path: Option<&Path>) -> Option<PathBuf> {
    let path = find(path).ok()?;
    let reading = Reading::default();
    let text = reading.read(&path).ok()?;
    reading.document(&Arc::new(Source::new(path.display().to_string(), text))).global.control_socket
}

/// Reads a configuration from memory; `source_name` stands for the file's name in messages. There
/// is no file that `include` could be relative to, so it is an error.
///
/// # Errors
/// All mistakes at once, with the warnings that there were.
pub fn parse(source_name: &str, text: &str) -> Result<Loaded, Errors> {
    Reading::default().whole(&Arc::new(Source::new(source_name, text)), None)
}

/// What all files of one configuration have in common.
#[derive(Default)]
struct Reading {
    log: Log,
    claims: Claims,
    patterns: Patterns,
    named_files: NamedFiles,
    secrets: RefCell<Vec<Place>>,
    /// Files that everybody can read.
    public: RefCell<HashSet<String>>,
    bytes_read: Cell<u64>,
}

impl Reading {
    fn whole(self, source: &Arc<Source>, path: Option<&Path>) -> Result<Loaded, Errors> {
        let Document { global, mut jobs, include, .. } = self.document(source);
        match path {
            Some(path) => jobs.extend(self.include(&include, path)),
            None => include.iter().for_each(|(_, place)| {
                self.log.report(place.error("`include` works only in a file"));
            }),
        }
        check::names(&self.claims, &self.log);
        if !self.log.has_errors() {
            check::relations(&jobs, &self.claims, &self.log);
            check::secrets(&self.secrets.borrow(), &self.public.borrow(), &self.log);
        }
        let (errors, warnings) = self.log.into_parts();
        if errors.is_empty() {
            return Ok(Loaded { config: Config { global, jobs }, warnings, files: self.named_files.into_inner() });
        }
        Err(Errors { errors, warnings })
    }

    fn document(&self, source: &Arc<Source>) -> Document {
        let Self { log, patterns, named_files, secrets, .. } = self;
        document::read(File { source, log, patterns, named_files, secrets }, &self.claims)
    }

    fn read(&self, path: &Path) -> Result<String, Problem> {
        let failed = |error: io::Error| Problem::of(path, &reason(&error));
        let mut bytes = Vec::new();
        let file = OsFile::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if found.is_file() && found.permissions().mode() & READABLE_BY_OTHERS != 0 {
            self.public.borrow_mut().insert(path.display().to_string());
        }
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        self.bytes_read.set(self.bytes_read.get().saturating_add(bytes.len() as u64));
        if self.bytes_read.get() > MAX_BYTES {
            return Err(Problem::of(path, &format!("the configuration is larger than {} MiB", MAX_BYTES >> 20)));
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
            Problem::of(path, &format!("not UTF-8 in line {line}"))
        })
    }

    fn include(&self, include: &[(String, Place)], main: &Path) -> Vec<Job> {
        let mut files = Vec::new();
        for (path, place) in include {
            match self.expand(path, place, main) {
                Ok(found) if found.iter().any(|file| is_same_file(file, main)) => {
                    self.log.report(Problem::of(main, "a file cannot include itself").at(place));
                }
                Ok(found) => files.extend(found.into_iter().map(|file| (file, place))),
                Err(problem) => self.log.report(problem.at(place)),
            }
        }
        if let Some((_, place)) = files.get(MAX_INCLUDED_FILES) {
            self.log.report(place.error(format!("more than {MAX_INCLUDED_FILES} included files")));
            return Vec::new();
        }
        files.iter().flat_map(|(file, place)| self.included_file(file, place)).collect()
    }

    fn included_file(&self, path: &Path, place: &Place) -> Vec<Job> {
        let text = match self.read(path) {
            Ok(text) => text,
            Err(problem) => {
                self.log.report(problem.at(place));
                return Vec::new();
            }
        };
        let document = self.document(&Arc::new(Source::new(path.display().to_string(), text)));
        for (_, place) in &document.include {
            self.log.report(
                place
                    .error("included configuration files must not include other files")
                    .with_hint("move the entry to the `include` of the main file"),
            );
        }
        if let Some(place) = document.global_place {
            let warning = place.warning("`global` of an included file is not used");
            self.log.report(warning.with_hint("move it to the main file"));
        }
        document.jobs
    }

    /// The files that an entry stands for.
    fn expand(&self, written: &str, place: &Place, main: &Path) -> Result<Vec<PathBuf>, Problem> {
        let path = self.resolve(written, place, main);
        let kind = kind_of(&path)?;
        if kind.is_dir() {
            return self.directory(&path, place);
        }
        if !kind.is_file() {
            return Err(Problem::of(&path, "not a file or directory"));
        }
        if !written.ends_with(".yml") {
            return Err(Problem::of(&path, "include config files must end with `.yml`"));
        }
        Ok(vec![path])
    }

    /// Relative to the including file. zrepl looks in its current directory if the main file has an
    /// absolute path; what exists only there still works.
    fn resolve(&self, written: &str, place: &Place, main: &Path) -> PathBuf {
        let beside = main.parent().unwrap_or(Path::new("")).join(written);
        if Path::new(written).is_relative() && !beside.exists() && Path::new(written).exists() {
            let warning = place.warning(format!("`{written}` is found in the current directory only"));
            self.log
                .report(warning.with_hint("write the whole path, or move the file beside the one that includes it"));
            return PathBuf::from(written);
        }
        beside
    }

    /// The `*.yml` files directly in a directory, by name.
    fn directory(&self, path: &Path, place: &Place) -> Result<Vec<PathBuf>, Problem> {
        let failed = |error: io::Error| Problem::of(path, &error.to_string());
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".yml") {
                files.push(file);
                if files.len() > MAX_INCLUDED_FILES {
                    break; // which is an error, whatever else there is
                }
            } else if name.ends_with(".yaml") {
                let warning = place.warning(format!("`{}` is not read", file.display()));
                self.log.report(warning.with_hint("only files that end with `.yml` are; rename it"));
            }
        }
        files.sort();
        for file in &files {
            if !kind_of(file)?.is_file() {
                return Err(Problem::of(file, "not a regular file"));
            }
        }
        Ok(files)
    }
}

/// Why a file could not be read.
struct Problem {
    path: String,
    reason: String,
}

impl Problem {
    fn of(path: &Path, reason: &str) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_owned() }
    }

    fn message(&self) -> String {
        format!("cannot read {}: {}", self.path, self.reason)
    }

    fn at(self, place: &Place) -> Diagnostic {
        place.error(self.message())
    }
}

fn kind_of(path: &Path) -> Result<FileType, Problem> {
    fs::metadata(path).map(|found| found.file_type()).map_err(|error| Problem::of(path, &reason(&error)))
}

/// Whether two paths lead to one file, by whatever links.
fn is_same_file(left: &Path, right: &Path) -> bool {
    matches!((fs::canonicalize(left), fs::canonicalize(right)), (Ok(left), Ok(right)) if left == right)
}

/// An I/O error in words, without the number that the system gives it.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_default_location_that_exists_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first.yml"), dir.path().join("second.yml"));
        let found = || find_default(&[&first, &second]);
        let errors = found().unwrap_err().to_string();
        assert!(errors.contains("no configuration file"), "{errors}");
        fs::write(&second, "").unwrap();
        assert_eq!(found().unwrap(), second);
        fs::write(&first, "").unwrap();
        assert_eq!(found().unwrap(), first);
        fs::remove_file(&first).unwrap();
        fs::create_dir(&first).unwrap();
        let errors = found().unwrap_err().to_string();
        assert!(errors.contains("file at default location is not a regular file"), "{errors}");
        assert_eq!(find(Some(&second)).unwrap(), second);
    }
}
