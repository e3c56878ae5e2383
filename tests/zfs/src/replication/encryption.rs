//! Encrypted roots: who is encrypted how, with which key loaded, and what is refused.

use anyhow::{Context as _, Result, ensure};
use model::DatasetName;
use model::view::Encryption;
use zfs::PlaceholderEncryption;

use super::faults::Fault;
use super::rig::{Rig, Stage, Table, filter};
use crate::body;
use crate::conformance::LARGE;

pub(super) const CASES: &Table = &[
    ("E13_plain_streams_below_an_encrypted_root", body!(plain)),
    ("E13_raw_streams_below_an_encrypted_root", body!(raw)),
];

async fn plain(stage: &Stage<'_>) -> Result<()> {
    matrix(stage, false).await
}

async fn raw(stage: &Stage<'_>) -> Result<()> {
    matrix(stage, true).await
}

const CUT: u64 = 700_000;

/// What becomes of a first step.
enum Outcome {
    Received(Encryption),
    Refused(&'static str),
}

/// By what the placeholder above the target is, and whether the key of the root is loaded.
fn expected(raw: bool, placeholders: Option<PlaceholderEncryption>, key_loaded: bool) -> Outcome {
    match (placeholders, key_loaded) {
        (None, _) => Outcome::Refused("placeholder filesystem encryption handling is unspecified"),
        // A placeholder is created, which takes the key, whatever the stream is.
        (Some(PlaceholderEncryption::Inherit), false) => Outcome::Refused("key is not loaded"),
        // Below it raw streams bring their own key.
        (Some(_), _) if raw => Outcome::Received(Encryption::Encrypted { key_loaded: false }),
        (Some(PlaceholderEncryption::Inherit), true) => Outcome::Received(Encryption::Encrypted { key_loaded: true }),
        (Some(PlaceholderEncryption::Off), _) => Outcome::Received(Encryption::None),
    }
}

async fn matrix(stage: &Stage<'_>, raw: bool) -> Result<()> {
    let modes = [None, Some(PlaceholderEncryption::Inherit), Some(PlaceholderEncryption::Off)];
    let combinations = modes.into_iter().flat_map(|mode| [(mode, true), (mode, false)]);
    for (number, (placeholders, key_loaded)) in combinations.enumerate() {
        let mut job = stage.job()?;
        job.root = stage.dst(&format!("encrypted root {number}"))?;
        job.placeholders = placeholders;
        job.send.encrypted = raw;
        stage.world.create_encrypted(&job.root)?;
        let above = stage.fs(&format!("sender {number}"))?;
        let fs = stage.src(&format!("sender {number}/child"))?;
        match raw {
            true => stage.world.create_encrypted(&fs)?,
            false => stage.world.create_filesystem(&fs)?,
        }
        job.filesystems = filter([fs.as_str()])?;
        stage.snap(&fs, LARGE, "1").await?;
        let rig = stage.rig(job)?;
        if !key_loaded {
            stage.world.set_key_loaded(&rig.job.root, false)?;
        }
        let context = || format!("raw: {raw}, {placeholders:?}, key loaded: {key_loaded}, below {above}");
        match expected(raw, placeholders, key_loaded) {
            Outcome::Refused(why) => {
                rig.run().await.fails(&[why]).with_context(context)?;
                stage.is(&rig.received(&fs)?, &["missing"]).await?;
            }
            Outcome::Received(encryption) => {
                steps(stage, &rig, &fs, encryption).await.with_context(context)?;
                if !raw && encryption != Encryption::None {
                    without_key(stage, &rig, &fs).await.with_context(context)?;
                }
            }
        }
    }
    Ok(())
}

/// A first and an incremental step, each interrupted and resumed.
async fn steps(stage: &Stage<'_>, rig: &Rig<'_>, fs: &DatasetName, encryption: Encryption) -> Result<()> {
    let received = rig.received(fs)?;
    for snapshot in ["1", "2"] {
        if snapshot == "2" {
            stage.snap(fs, LARGE, "2").await?;
        }
        rig.run_with(Fault::CutEnd(CUT)).await.fails(&["it can be resumed"])?;
        let report = rig.ok().await?;
        ensure!(report.summary.bytes < CUT, "{} bytes were sent again", report.summary.bytes);
        let found = stage.dataset(&received).await?.encryption;
        ensure!(found == encryption, "@{snapshot} was received as {found:?}");
    }
    stage.is(&received, &["@1", "@2 last"]).await
}

/// A plain stream is not written down in plain text because the key is away.
async fn without_key(stage: &Stage<'_>, rig: &Rig<'_>, fs: &DatasetName) -> Result<()> {
    let received = rig.received(fs)?;
    stage.world.set_key_loaded(&rig.job.root, false)?;
    stage.snap(fs, 1000, "3").await?;
    rig.run().await.fails(&["key"])?;
    stage.is(&received, &["@1", "@2 last"]).await
}
