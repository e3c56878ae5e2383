//! Encrypted datasets, raw streams, and keys that are not there.

use anyhow::{Context as _, Result, ensure};
use model::DatasetName;
use model::view::Encryption;
use zfs::{PlaceholderEncryption, SendFlags};

use super::{
    Body, Ground, LARGE, SMALL, decode, expect, full, incremental, into, outcome, replacing, resume, send_args,
};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("encryption_is_listed", body!(listed)),
    ("ReceiveForceIntoEncryptedErr", body!(force_into_encrypted)),
    ("raw_streams_stay_encrypted", body!(raw)),
    ("raw_receive_resumes", body!(raw_resumes)),
    ("plain_streams_take_the_encryption_of_their_target", body!(plain_into_encrypted)),
    ("nothing_is_sent_or_received_plain_without_its_key", body!(no_key)),
    ("raw_and_plain_do_not_mix", body!(mixed)),
    ("properties_of_encrypted_datasets_travel_only_raw", body!(properties_need_raw)),
];

const RAW: SendFlags = SendFlags {
    raw: true,
    properties: false,
    backup_properties: false,
    large_blocks: false,
    compressed: false,
    embedded: false,
};

const LOADED: Encryption = Encryption::Encrypted { key_loaded: true };
const LOCKED: Encryption = Encryption::Encrypted { key_loaded: false };

fn encrypted(ground: &Ground<'_>, path: &str) -> Result<DatasetName> {
    let name = ground.src(path)?;
    ground.world.create_encrypted(&name)?;
    Ok(name)
}

async fn is(ground: &Ground<'_>, name: &DatasetName, expected: Encryption) -> Result<()> {
    let found = ground.dataset(name).await?.encryption;
    ensure!(found == expected, "{name} is {found:?}, not {expected:?}");
    Ok(())
}

async fn listed(ground: &Ground<'_>) -> Result<()> {
    let (plain, secret) = (ground.fs("plain fs")?, encrypted(ground, "secret fs")?);
    let child = ground.fs("secret fs/child")?;
    let off = ground.src("secret fs/off")?;
    ground.zfs().create_placeholder(&off, PlaceholderEncryption::Off).await?;
    is(ground, &plain, Encryption::None).await?;
    is(ground, &secret, LOADED).await?;
    is(ground, &child, LOADED).await?;
    is(ground, &off, Encryption::None).await?;
    Ok(())
}

async fn force_into_encrypted(ground: &Ground<'_>) -> Result<()> {
    let sender = encrypted(ground, "sender")?;
    let target = ground.dst("receiver")?;
    ground.world.create_encrypted(&target)?;
    let one = ground.write_take(&sender, SMALL, "a snap").await?;
    let refused = ground.transfer(&full(&sender, &one), &replacing(&target, "1")?).await;
    expect(refused, "EncryptionBoundary", &target)?;
    let plain = ground.dst("plain")?;
    ground.world.create_filesystem(&plain)?;
    let refused = ground.transfer(&send_args(&sender, None, &one, RAW), &replacing(&plain, "1")?).await;
    expect(refused, "EncryptionBoundary", &plain)?;
    Ok(())
}

async fn raw(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (encrypted(ground, "secret fs")?, ground.dst("copy of it")?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let begin = ground.zfs().send(&send_args(&fs, None, &one, RAW)).await?.begin;
    ensure!(begin.features & zfs::stream::feature::RAW != 0, "{begin:?}");
    ground.transfer(&send_args(&fs, None, &one, RAW), &into(&copy, "1")?).await?;
    is(ground, &copy, LOCKED).await?;
    let two = ground.write_take(&fs, SMALL, "2").await?;
    ground.transfer(&send_args(&fs, Some(&one), &two, RAW), &into(&copy, "2")?).await?;
    ensure!(ground.versions(&copy).await? == ["@1", "@2"]);
    // Even a snapshot without changes is in the way of a raw stream.
    ground.take(&copy, "own").await?;
    let three = ground.take(&fs, "3").await?;
    let refused = ground.transfer(&send_args(&fs, Some(&two), &three, RAW), &into(&copy, "3")?).await;
    expect(refused, "TargetModified", &copy)?;
    ground.destroy(&copy, "own").await?;
    ground.transfer(&send_args(&fs, Some(&two), &three, RAW), &into(&copy, "3")?).await?;
    ground.world.set_key_loaded(&copy, true)?;
    is(ground, &copy, LOADED).await?;
    ground.same_files(&fs, &copy)
}

async fn raw_resumes(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (encrypted(ground, "secret fs")?, ground.dst("copy")?);
    let one = ground.write_take(&fs, LARGE, "1").await?;
    let receive = into(&copy, "1")?;
    let token = ground.interrupt(&send_args(&fs, None, &one, RAW), &receive, 500_000).await?;
    ensure!(decode(&token)?.flags.raw);
    is(ground, &copy, LOCKED).await?;
    ground.transfer(&resume(&fs, &token), &receive).await?;
    ground.world.set_key_loaded(&copy, true)?;
    ground.same_files(&fs, &copy)
}

async fn plain_into_encrypted(ground: &Ground<'_>) -> Result<()> {
    let (secret, plain) = (encrypted(ground, "secret fs")?, ground.fs("plain fs")?);
    let target = ground.dst("encrypted root")?;
    ground.world.create_encrypted(&target)?;
    for (fs, name) in [(&secret, "from secret"), (&plain, "from plain")] {
        let one = ground.write_take(fs, SMALL, "1").await?;
        let (open, closed) = (ground.dst(name)?, ground.dst(&format!("encrypted root/{name}"))?);
        ground.transfer(&full(fs, &one), &into(&open, "1")?).await?;
        is(ground, &open, Encryption::None).await?;
        ground.transfer(&full(fs, &one), &into(&closed, "1")?).await?;
        is(ground, &closed, LOADED).await?;
        ground.same_files(fs, &closed)?;
    }
    Ok(())
}

async fn no_key(ground: &Ground<'_>) -> Result<()> {
    let (secret, plain) = (encrypted(ground, "secret fs")?, ground.fs("plain fs")?);
    let one = ground.write_take(&secret, SMALL, "1").await?;
    let of_plain = ground.write_take(&plain, SMALL, "1").await?;
    let root = ground.dst("encrypted root")?;
    ground.world.create_encrypted(&root)?;
    let child = ground.dst("encrypted root/child")?;
    ground.transfer(&full(&plain, &of_plain), &into(&child, "1")?).await?;
    ground.world.set_key_loaded(&secret, false)?;
    let sent = ground.zfs().send(&full(&secret, &one)).await.map(|stream| stream.begin);
    ensure!(outcome(&sent) == "KeyNotLoaded", "{sent:?}");
    ground.transfer(&send_args(&secret, None, &one, RAW), &into(&ground.dst("raw copy")?, "1")?).await?;
    ground.world.set_key_loaded(&root, false)?;
    let new = ground.dst("encrypted root/new")?;
    expect(ground.transfer(&full(&plain, &of_plain), &into(&new, "1")?).await, "KeyNotLoaded", &new)?;
    let two = ground.write_take(&plain, SMALL, "2").await?;
    let more = incremental(&plain, &of_plain, &two);
    expect(ground.transfer(&more, &into(&child, "2")?).await, "KeyNotLoaded", &child)?;
    let made = ground.zfs().create_placeholder(&new, PlaceholderEncryption::Inherit).await;
    expect(made, "KeyNotLoaded", &new)?;
    ground.zfs().create_placeholder(&new, PlaceholderEncryption::Off).await.context("without encryption")?;
    Ok(())
}

async fn mixed(ground: &Ground<'_>) -> Result<()> {
    let fs = encrypted(ground, "secret fs")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let two = ground.write_take(&fs, SMALL, "2").await?;
    let (plain, raw) = (ground.dst("plain copy")?, ground.dst("raw copy")?);
    ground.transfer(&full(&fs, &one), &into(&plain, "1")?).await?;
    ground.transfer(&send_args(&fs, None, &one, RAW), &into(&raw, "1")?).await?;
    let refused = ground.transfer(&send_args(&fs, Some(&one), &two, RAW), &into(&plain, "2")?).await;
    expect(refused, "EncryptionMismatch", &plain)?;
    let refused = ground.transfer(&incremental(&fs, &one, &two), &into(&raw, "2")?).await;
    expect(refused, "KeyNotLoaded", &raw)?;
    Ok(())
}

async fn properties_need_raw(ground: &Ground<'_>) -> Result<()> {
    let fs = encrypted(ground, "secret fs")?;
    let one = ground.take(&fs, "1").await?;
    let properties = SendFlags { properties: true, ..SendFlags::default() };
    let refused = ground.zfs().send(&send_args(&fs, None, &one, properties)).await.map(|stream| stream.begin);
    ensure!(outcome(&refused) == "Failed", "{refused:?}");
    let both = SendFlags { properties: true, ..RAW };
    ground.transfer(&send_args(&fs, None, &one, both), &into(&ground.dst("copy")?, "1")?).await?;
    Ok(())
}
