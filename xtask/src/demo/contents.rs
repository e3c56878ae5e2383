//! What is in a folder or on a block device, to compare two.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Hash of each file by its path within the folder.
pub(super) type Contents = BTreeMap<PathBuf, String>;

/// Everything below `folder`: files by content, links by target, folders by being there.
pub(super) fn of_folder(folder: &Path) -> Result<Contents> {
    let mut contents = Contents::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry.with_context(|| next.display().to_string())?;
            let path = entry.path();
            let kind = entry.file_type().with_context(|| path.display().to_string())?;
            let what = if kind.is_dir() {
                waiting.push(path.clone());
                "folder".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path)?.display())
            } else {
                of_file(&path)?
            };
            let name = path.strip_prefix(folder).unwrap_or(&path);
            contents.insert(name.to_owned(), what);
        }
    }
    Ok(contents)
}

/// Hash of a file or block device.
pub(super) fn of_file(path: &Path) -> Result<String> {
    let name = || path.display().to_string();
    let mut file = File::open(path).with_context(name)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    while let count @ 1.. = file.read(&mut buffer).with_context(name)? {
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The first path in which the two differ.
pub(super) fn difference(one: &Contents, other: &Contents) -> Option<PathBuf> {
    let mut paths = one.keys().chain(other.keys());
    paths.find(|path| one.get(*path) != other.get(*path)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_equal_only_with_equal_files() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [one.path(), other.path()] {
            fs::create_dir(folder.join("sub")).unwrap();
            fs::write(folder.join("sub/file"), "content").unwrap();
            std::os::unix::fs::symlink("sub", folder.join("link")).unwrap();
        }
        let before = of_folder(one.path()).unwrap();
        assert_eq!(before.len(), 3);
        assert_eq!(difference(&before, &of_folder(other.path()).unwrap()), None);
        fs::write(other.path().join("sub/file"), "other").unwrap();
        let changed = of_folder(other.path()).unwrap();
        assert_eq!(difference(&before, &changed), Some("sub/file".into()));
        fs::write(other.path().join("new"), "").unwrap();
        assert_eq!(difference(&before, &of_folder(other.path()).unwrap()), Some("sub/file".into()));
    }
}
