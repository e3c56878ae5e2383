//! Inputs that are worth to be kept with the sources, many in a file: hundreds of files of a few bytes are a
//! burden for whoever checks them out. Before each are its four bytes of length, the highest first.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// All files of a folder in one, the shortest first.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn pack(folder: &Path, file: &Path) -> Result<usize> {
    let mut inputs = Vec::new();
    for path in super::files(folder)? {
        inputs.push(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut packed = Vec::new();
    for input in &inputs {
        packed.extend(u32::try_from(input.len())?.to_be_bytes());
        packed.extend(input);
    }
    fs::write(file, packed).with_context(|| format!("writing {}", file.display()))?;
    Ok(inputs.len())
}

/// The opposite, into a folder that has nothing else. A file that is not there has no inputs.
///
/// # Errors
/// The file cannot be read or is cut, or the folder cannot be written.
pub(super) fn unpack(file: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    if !file.exists() {
        return Ok(());
    }
    let packed = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut rest = packed.as_slice();
    let mut number = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let input = after.split_at_checked(u32::from_be_bytes(*length) as usize);
        let (input, after) = input.with_context(|| format!("{} is cut", file.display()))?;
        let path = folder.join(format!("{number:05}"));
        fs::write(&path, input).with_context(|| format!("writing {}", path.display()))?;
        (rest, number) = (after, number + 1);
    }
    ensure!(rest.is_empty(), "{} is cut", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let place = tempfile::tempdir().unwrap();
        let [folder, file] = ["folder", "file"].map(|name| place.path().join(name));
        unpack(&file, &folder).unwrap();
        for (name, input) in [("a", &b"longer"[..]), ("b", b""), ("c", b"\0"), ("d", b"\0")] {
            fs::write(folder.join(name), input).unwrap();
        }
        assert_eq!(pack(&folder, &file).unwrap(), 3);
        assert_eq!(fs::read(&file).unwrap(), b"\0\0\0\0\0\0\0\x01\0\0\0\0\x06longer");
        unpack(&file, &folder).unwrap();
        let inputs: Vec<_> = super::super::files(&folder).unwrap().iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(inputs, [&b""[..], b"\0", b"longer"]);
        for cut in [b"\0\0".as_slice(), b"\0\0\0\x09short"] {
            fs::write(&file, cut).unwrap();
            assert!(unpack(&file, &folder).unwrap_err().to_string().ends_with("is cut"));
        }
    }
}
