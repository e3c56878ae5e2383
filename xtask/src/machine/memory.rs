//! Where user-mode Linux keeps a guest's memory: a file that it maps with the right to execute.

use anyhow::{Result, bail};
use rustix::fs::StatVfsMountFlags;
use std::path::{Path, PathBuf};

/// A folder with room for so much memory: RAM if possible. Containers often have a /dev/shm of
/// 64 MiB only.
pub(super) fn place(mib: u64) -> Result<PathBuf> {
    let candidates = [PathBuf::from("/dev/shm"), std::env::temp_dir(), PathBuf::from("/var/tmp")];
    match candidates.iter().find(|folder| has_room(folder, mib)) {
        Some(folder) => Ok(folder.clone()),
        None => bail!(
            "no room for a guest with {mib} MiB of memory: neither /dev/shm nor {} nor /var/tmp \
             has that much free space and allows execution",
            std::env::temp_dir().display()
        ),
    }
}

fn has_room(folder: &Path, mib: u64) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|found| {
        let free_mib = (found.f_bavail.saturating_mul(found.f_frsize)) >> 20;
        free_mib > mib && !found.f_flag.contains(StatVfsMountFlags::NOEXEC)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_too_large_for_any_folder_is_refused() {
        let error = place(u64::MAX >> 20).unwrap_err().to_string();
        assert!(error.contains("/dev/shm"), "{error}");
        place(1).unwrap();
    }
}
