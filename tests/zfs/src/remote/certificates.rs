//! Certificates and other files of a case.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use crate::replication::rig::{On, Stage};

/// Files of a case, gone with it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(stage: &Stage<'_>, name: &str) -> Result<Self> {
        let folder = match stage.on {
            On::Real(bench) => bench.folder().join(name),
            On::Fake(_) => std::env::temp_dir().join(format!("zrepl-suite-{name}-{}", id())),
        };
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// `ca`, `cert` and `key` of one side.
    pub(super) fn side(&self, own: &str, other: &str) -> String {
        let folder = self.0.display();
        format!("ca: \"{folder}/{other}.crt\", cert: \"{folder}/{own}.crt\", key: \"{folder}/{own}.key\"")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A self-signed certificate as zrepl's documentation has people make it.
pub(super) fn documented(name: &str) -> Result<CertificateParams> {
    let mut wanted = CertificateParams::new([name.to_owned()])?;
    wanted.distinguished_name.push(DnType::CommonName, name);
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(wanted)
}

/// Such a certificate and its key, in files of its name.
pub(super) fn pair(folder: &Folder, name: &str) -> Result<()> {
    write_pair(folder, name, &documented(name)?)
}

/// A self-signed certificate and its key, in files.
pub(super) fn write_pair(folder: &Folder, file: &str, wanted: &CertificateParams) -> Result<()> {
    let key = KeyPair::generate()?;
    folder.write(&format!("{file}.crt"), &wanted.self_signed(&key)?.pem())?;
    folder.write(&format!("{file}.key"), &key.serialize_pem())?;
    Ok(())
}
