//! What may be sent how: the policy on encryption against filesystems and resume tokens.

use anyhow::{Context as _, Result, bail, ensure};
use model::protection::ProtectionPolicy;
use model::view::Encryption;
use model::{DatasetName, VersionRef};
use wire::{Endpoint as _, SendRequest};
use zfs::stream::feature;
use zfs::token::ResumeToken;
use zfs::{SendFlags, parse_begin};

use super::faults::Fault;
use super::rig::{Body, Rig, Stage, Table, both, refused};
use crate::body;
use crate::case::Case;
use crate::conformance::{LARGE, full, into, send_args};

pub(super) const CASES: &Table = &[
    (
        "SendArgsValidationEncryptedSendOfUnencryptedDatasetForbidden__EncryptionSupported_true",
        body!(encrypted_send_of_plain),
    ),
    ("SendArgsValidationResumeTokenDifferentFilesystemForbidden", body!(token_of_another_filesystem)),
    ("SendArgsValidationResumeTokenEncryptionMismatchForbidden", body!(token_of_another_policy)),
    ("E3_token_with_the_guid_of_another_filesystem", body!(token_with_foreign_guid)),
    ("policy_that_became_stricter_stops_increments_and_discards_tokens", body!(stricter_policy)),
];

/// The eight subtests of `SendArgsValidationEE_EncryptionAndRaw`.
pub(super) fn encryption_and_raw() -> Vec<Case> {
    let subtests: [(&str, Body); 8] = [
        ("noenc_encF_rawF", |stage| Box::pin(matrix(stage, false, false, false))),
        ("noenc_encF_rawT", |stage| Box::pin(matrix(stage, false, false, true))),
        ("noenc_encT_rawF", |stage| Box::pin(matrix(stage, false, true, false))),
        ("noenc_encT_rawT", |stage| Box::pin(matrix(stage, false, true, true))),
        ("enc_encF_rawF", |stage| Box::pin(matrix(stage, true, false, false))),
        ("enc_encF_rawT", |stage| Box::pin(matrix(stage, true, false, true))),
        ("enc_encT_rawF", |stage| Box::pin(matrix(stage, true, true, false))),
        ("enc_encT_rawT", |stage| Box::pin(matrix(stage, true, true, true))),
    ];
    let case = |(name, body)| both("replication", &format!("SendArgsValidationEE_EncryptionAndRaw/{name}"), body);
    subtests.into_iter().flat_map(case).collect()
}

const CUT: u64 = 700_000;

fn source(stage: &Stage<'_>, encrypted: bool) -> Result<DatasetName> {
    let fs = stage.src("sender fs")?;
    match encrypted {
        true => stage.world.create_encrypted(&fs)?,
        false => stage.world.create_filesystem(&fs)?,
    }
    Ok(fs)
}

async fn matrix(stage: &Stage<'_>, fs_encrypted: bool, encrypted: bool, raw: bool) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.send.encrypted = encrypted;
        job.send.flags.raw = raw;
    })?;
    let fs = source(stage, fs_encrypted)?;
    stage.snap(&fs, LARGE, "1").await?;
    match (fs_encrypted, encrypted, raw) {
        (false, true, _) => {
            rejected(stage, &rig, &fs, &["encrypted send mandated by policy", "is not encrypted"]).await
        }
        (true, false, true) => {
            rejected(stage, &rig, &fs, &["policy mandates raw+unencrypted sends, but", "is encrypted"]).await
        }
        _ => accepted(stage, &rig, &fs, encrypted).await,
    }
}

async fn accepted(stage: &Stage<'_>, rig: &Rig<'_>, fs: &DatasetName, encrypted: bool) -> Result<()> {
    let received = rig.received(fs)?;
    for snapshot in ["1", "2"] {
        if snapshot == "2" {
            stage.snap(fs, LARGE, "2").await?;
        }
        let report = rig.run_with(Fault::CutEnd(CUT)).await;
        report.fails(&["it can be resumed"])?;
        let report = rig.ok().await?;
        ensure!(report.summary.bytes < CUT, "{} bytes were sent again", report.summary.bytes);
        let state = stage.state(&received).await?;
        ensure!(state.last() == Some(&format!("@{snapshot} last")), "{state:?}");
    }
    let found = stage.dataset(&received).await?.encryption;
    let expected = if encrypted { Encryption::Encrypted { key_loaded: false } } else { Encryption::None };
    ensure!(found == expected, "{found:?}");
    if encrypted {
        stage.world.set_key_loaded(&received, true)?;
    }
    rig.same(fs).await
}

async fn rejected(stage: &Stage<'_>, rig: &Rig<'_>, fs: &DatasetName, texts: &[&str]) -> Result<()> {
    let received = rig.received(fs)?;
    rig.run().await.fails(texts)?;
    stage.is(&received, &["missing"]).await?;
    stage.is(fs, &["@1"]).await?;
    // The token of a job that was allowed to.
    let lax = rig.again(|job| {
        job.send.encrypted = false;
        job.send.flags.raw = false;
    })?;
    lax.run_with(Fault::CutEnd(CUT)).await.fails(&["it can be resumed"])?;
    let token = stage.dataset(&received).await?.resume_token;
    ensure!(token.is_some());
    rig.run().await.fails(texts)?;
    ensure!(stage.dataset(&received).await?.resume_token == token, "the token is another one");
    Ok(())
}

fn request(fs: &DatasetName, to: &VersionRef, token: Option<String>) -> SendRequest {
    let protection = ProtectionPolicy::default();
    SendRequest { filesystem: fs.clone(), from: None, to: to.clone(), resume_token: token, protection }
}

async fn encrypted_send_of_plain(stage: &Stage<'_>) -> Result<()> {
    let fs = source(stage, false)?;
    let snapshot = stage.snap(&fs, 1000, "a snap").await?;
    let mut job = stage.job()?;
    job.send.encrypted = true;
    let rig = stage.rig(job)?;
    let text = format!("encrypted send mandated by policy, but filesystem {:?} is not encrypted", fs.as_str());
    refused(rig.sender.send(&request(&fs, &snapshot, None)).await, &[&text])?;
    stage.is(&fs, &["@a snap"]).await
}

async fn token_of_another_filesystem(stage: &Stage<'_>) -> Result<()> {
    let (one, two) = (stage.fs("sender 1")?, stage.fs("sender 2")?);
    let of_one = stage.snap(&one, LARGE, "a snap").await?;
    let of_two = stage.snap(&two, LARGE, "a snap").await?;
    let token = stage.interrupt(&full(&one, &of_one), &into(&stage.dst("target")?, "a snap")?, 500_000).await?;
    let rig = stage.rig(stage.job()?)?;
    let texts = ["the resume token is for", one.as_str(), two.as_str()];
    refused(rig.sender.send(&request(&two, &of_two, Some(token.clone()))).await, &texts)?;
    let reply = rig.sender.send(&request(&one, &of_one, Some(token))).await?;
    ensure!(reply.used_resume_token);
    Ok(())
}

const RAW: SendFlags = SendFlags {
    raw: true,
    properties: false,
    backup_properties: false,
    large_blocks: false,
    compressed: false,
    embedded: false,
};

/// zrepl refuses such a request for good; here the token is not used, and what is sent instead is what
/// the policy wants.
async fn token_of_another_policy(stage: &Stage<'_>) -> Result<()> {
    let fs = source(stage, true)?;
    let snapshot = stage.snap(&fs, LARGE, "a snap").await?;
    let mut tokens = Vec::new();
    for (flags, target) in [(SendFlags::default(), "plain"), (RAW, "raw")] {
        let receive = into(&stage.dst(target)?, "a snap")?;
        tokens.push(stage.interrupt(&send_args(&fs, None, &snapshot, flags), &receive, 500_000).await?);
    }
    for (encrypted, token) in [(true, tokens.first()), (false, tokens.last())] {
        let mut job = stage.job()?;
        job.send.encrypted = encrypted;
        let rig = stage.rig(job)?;
        let mut reply = rig.sender.send(&request(&fs, &snapshot, token.cloned())).await?;
        ensure!(!reply.used_resume_token, "the token was used");
        let mut head = [0; 312];
        tokio::io::AsyncReadExt::read_exact(&mut reply.stream, &mut head).await?;
        let zfs::Parsed::Done(begin) = parse_begin(&head)? else { bail!("a whole record") };
        ensure!((begin.features & feature::RAW != 0) == encrypted, "{begin:?}");
    }
    Ok(())
}

async fn token_with_foreign_guid(stage: &Stage<'_>) -> Result<()> {
    let (fs, other) = (stage.fs("sender fs")?, stage.fs("other fs")?);
    let snapshot = stage.snap(&fs, LARGE, "a").await?;
    let foreign = stage.snap(&other, LARGE, "a").await?;
    let text = stage.interrupt(&full(&fs, &snapshot), &into(&stage.dst("target")?, "a")?, 500_000).await?;
    let mut token = ResumeToken::decode(&text).context("a token")?;
    token.contents.to = foreign.guid;
    let forged = zfs::token::encode(&token);
    let rig = stage.rig(stage.job()?)?;
    refused(rig.sender.send(&request(&fs, &snapshot, Some(forged.clone()))).await, &[fs.as_str()])?;
    let lie = VersionRef { guid: foreign.guid, ..snapshot };
    match rig.sender.send(&request(&fs, &lie, Some(forged))).await {
        Err(error) => ensure!(error.to_string().contains(fs.as_str()), "{error}"),
        Ok(reply) => bail!("it was sent, from a token: {}", reply.used_resume_token),
    }
    stage.is(&fs, &["@a"]).await?;
    stage.is(&other, &["@a"]).await
}

async fn stricter_policy(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = source(stage, true)?;
    stage.snap(&fs, LARGE, "1").await?;
    rig.run_with(Fault::CutEnd(CUT)).await.fails(&["it can be resumed"])?;
    // The plain half cannot become an encrypted whole.
    let strict = rig.again(|job| job.send.encrypted = true)?;
    let report = strict.ok().await?;
    ensure!(report.discards() == [model::plan::replication::Discard::OtherPolicy], "{:?}", report.discards());
    let received = rig.received(&fs)?;
    let found = stage.dataset(&received).await?.encryption;
    ensure!(found == Encryption::Encrypted { key_loaded: false }, "{found:?}");

    // Nor can a plain increment follow it.
    stage.snap(&fs, 1000, "2").await?;
    let report = rig.run().await;
    report.fails(&[received.as_str()])?;
    stage.is(&received, &["@1 last"]).await?;

    // And no encrypted one a plain filesystem.
    let plain = stage.fs_with("plain fs", &["1"]).await?;
    let only = super::rig::filter([plain.as_str()])?;
    rig.again(|job| job.filesystems = only.clone())?.ok().await?;
    stage.snap(&plain, 1000, "2").await?;
    let report = strict.again(|job| job.filesystems = only)?.run().await;
    report.fails(&["encrypted send mandated by policy"])?;
    stage.is(&rig.received(&plain)?, &["@1 last"]).await
}
