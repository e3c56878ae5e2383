//! Two pools on files and what is in them. Uses the `zfs` command alone, not zrepl.

use super::contents::{self, Contents};
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is replicated.
pub(super) const FILESYSTEMS: [&str; 7] =
    ["src", "src/db", "src/home", "src/home/anna", "src/home/ben", "src/media", "src/vault"];

/// A block device.
pub(super) const VOLUME: &str = "src/disk";

/// Where the sink puts what it receives from the identity `laptop`.
pub(super) const BACKUP: &str = "dst/backup";

/// The folder of the pools' images and everything else that the demo needs.
pub(super) const FOLDER: &str = "/tmp/demo";

const POOL_MIB: u64 = 640;

/// Everything that is replicated.
pub(super) fn datasets() -> impl Iterator<Item = &'static str> {
    FILESYSTEMS.into_iter().chain([VOLUME])
}

/// The copy of `dataset`.
pub(super) fn copy_of(dataset: &str) -> String {
    format!("{BACKUP}/laptop/{dataset}")
}

/// Runs a program and returns its stdout; it is an error if it fails.
pub(super) fn output_of<A: AsRef<std::ffi::OsStr>>(program: &str, arguments: &[A]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    let output = crate::children::output(&mut command)?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} ended with {}: {}", words.join(" "), output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn zfs(arguments: &[&str]) -> Result<String> {
    output_of("zfs", arguments)
}

/// Makes the pools `src` and `dst`, empty.
pub(super) fn make_pools() -> Result<String> {
    fs::create_dir_all(FOLDER).context(FOLDER)?;
    for pool in ["src", "dst"] {
        let image = format!("{FOLDER}/{pool}.img");
        File::create(&image).and_then(|file| file.set_len(POOL_MIB << 20)).context(image.clone())?;
        output_of("zpool", &["create", "-O", "atime=off", pool, &image])?;
    }
    zfs(&["create", BACKUP])?;
    Ok(output_of("zfs", &["version"])?.lines().collect::<Vec<_>>().join(", "))
}

/// Makes the datasets of `src` with files in them.
pub(super) fn fill() -> Result<String> {
    let key = format!("{FOLDER}/key");
    fs::write(&key, "correct horse battery staple").context(key.clone())?;
    let location = format!("keylocation=file://{key}");
    for filesystem in FILESYSTEMS.into_iter().skip(1).filter(|name| *name != "src/vault") {
        zfs(&["create", filesystem])?;
    }
    zfs(&["create", "-o", "encryption=on", "-o", "keyformat=passphrase", "-o", &location, "src/vault"])?;
    zfs(&["create", "-V", "16M", VOLUME])?;
    for filesystem in FILESYSTEMS {
        let folder = Path::new("/").join(filesystem);
        for number in 1..=10 {
            let text = format!("letter {number} of {filesystem}\n").repeat(number * 100);
            fs::write(folder.join(format!("letter-{number:02}.txt")), text)?;
        }
    }
    write_noise(Path::new("/src/home/anna/photos.tar"), 12)?;
    write_noise(Path::new("/src/db/table with spaces"), 8)?;
    std::os::unix::fs::symlink("letter-01.txt", "/src/home/ben/first")?;
    write_noise(&device(VOLUME)?, 4)?;
    Ok(format!("{} filesystems, one of them encrypted, and a volume", FILESYSTEMS.len()))
}

/// What a day of work does to the files.
pub(super) fn change() -> Result<String> {
    fs::write("/src/home/anna/letter-01.txt", "written anew\n")?;
    fs::write("/src/vault/secret.txt", "the treasure is below the oak\n")?;
    fs::remove_file("/src/home/ben/letter-02.txt")?;
    fs::rename("/src/home/ben/letter-03.txt", "/src/home/ben/renamed.txt")?;
    fs::create_dir("/src/db/archive")?;
    write_noise(Path::new("/src/db/archive/2025"), 1)?;
    write_noise(&device(VOLUME)?, 1)?;
    Ok("files written, rewritten, renamed and removed in 5 datasets".to_owned())
}

/// Sets the guest's own clock forward, so that the next snapshots are due.
pub(super) fn an_hour_later() -> Result<()> {
    output_of("date", &["--set", "+1 hour"]).map(drop)
}

/// One large file, so that sending it takes a while.
pub(super) fn add_film(mib: u64) -> Result<()> {
    write_noise(Path::new("/src/media/film.mkv"), mib)
}

/// Writes bytes that do not compress, and sees to it that they are in the pool.
fn write_noise(path: &Path, mib: u64) -> Result<()> {
    let (to, count) = (format!("of={}", path.display()), format!("count={mib}"));
    output_of("dd", &["if=/dev/urandom", &to, "bs=1M", &count, "conv=notrunc,fsync", "status=none"])?;
    Ok(())
}

/// The block device of a volume. Without udev there are no names, but ZFS's helper knows them.
fn device(volume: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/dev").context("/dev")? {
        let path = entry.context("/dev")?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("zd")) {
            continue;
        }
        let name = output_of("/usr/lib/udev/zvol_id", &[&path]);
        if name.is_ok_and(|name| name.trim() == volume) {
            return Ok(path);
        }
    }
    bail!("no block device of {volume}")
}

/// A snapshot, by what identifies it on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// After the `@`.
    pub(super) name: String,
    pub(super) guid: u64,
}

/// Snapshots of `dataset`, oldest first.
pub(super) fn snapshots(dataset: &str) -> Result<Vec<Snapshot>> {
    let columns = "name,guid";
    let list = zfs(&["list", "-Hp", "-d", "1", "-t", "snapshot", "-s", "createtxg", "-o", columns, dataset])?;
    list.lines().map(|line| parse_snapshot(line).with_context(|| format!("reading {line:?}"))).collect()
}

fn parse_snapshot(line: &str) -> Option<Snapshot> {
    let (name, guid) = line.split_once('\t')?;
    let (_, name) = name.split_once('@')?;
    Some(Snapshot { name: name.to_owned(), guid: guid.parse().ok()? })
}

/// The newest snapshot that is on both sides, if there is one.
pub(super) fn newest_common(dataset: &str) -> Result<Option<Snapshot>> {
    let copy = copy_of(dataset);
    if zfs(&["list", "-H", &copy]).is_err() {
        return Ok(None);
    }
    let copies = snapshots(&copy)?;
    let mut common = snapshots(dataset)?;
    common.retain(|snapshot| copies.iter().any(|copy| copy.guid == snapshot.guid));
    Ok(common.pop())
}

/// Compares both sides of everything, as of the newest snapshot on both.
pub(super) fn compare() -> Result<String> {
    let mut files = 0;
    for filesystem in FILESYSTEMS {
        let newest = newest_common(filesystem)?;
        let newest = newest.with_context(|| format!("{filesystem} has no snapshot on both sides"))?;
        let original = contents_of(&format!("{filesystem}@{}", newest.name))?;
        let copy = contents_of(&format!("{}@{}", copy_of(filesystem), newest.name))?;
        if let Some(path) = contents::difference(&original, &copy) {
            bail!("{filesystem}@{}: the two sides differ in {}", newest.name, path.display());
        }
        // Others have children mounted within, which their snapshots do not show.
        let is_leaf = !FILESYSTEMS.iter().any(|other| other.starts_with(&format!("{filesystem}/")));
        if is_leaf && contents::of_folder(&Path::new("/").join(filesystem))? != original {
            bail!("{filesystem}@{} is not what was written last", newest.name);
        }
        files += original.len();
    }
    let (original, copy) = (device(VOLUME)?, device(&copy_of(VOLUME))?);
    if contents::of_file(&original)? != contents::of_file(&copy)? {
        bail!("the two sides of {VOLUME} differ");
    }
    Ok(format!("{files} files and folders and 16 MiB of {VOLUME} are equal, byte by byte"))
}

/// The files of a snapshot, wherever its filesystem is mounted or not.
fn contents_of(snapshot: &str) -> Result<Contents> {
    let folder = format!("{FOLDER}/mnt");
    fs::create_dir_all(&folder).context(folder.clone())?;
    output_of("mount", &["-t", "zfs", "-o", "ro", snapshot, &folder])?;
    let contents = contents::of_folder(Path::new(&folder));
    output_of("umount", &[&folder])?;
    contents
}

/// Names of step holds that are still there: they belong to a transfer that is going on.
pub(super) fn step_holds() -> Result<Vec<String>> {
    let names = zfs(&["list", "-H", "-t", "snapshot", "-o", "name"])?;
    let mut arguments = vec!["holds", "-H"];
    arguments.extend(names.lines());
    let holds = zfs(&arguments)?;
    Ok(holds.lines().filter(|line| line.contains("zrepl_STEP_J_")).map(str::to_owned).collect())
}
