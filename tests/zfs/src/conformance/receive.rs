//! Receives: which streams land on which targets, and what is kept of those that end early.

use anyhow::{Context as _, Result, ensure};
use model::view::{DatasetKind, Placeholder};
use model::{DatasetName, PropertyName};
use zfs::{PlaceholderEncryption, ReceiveArgs, ReceiveTarget, SendFlags, Snapshot};

use super::{
    Body, Ground, LARGE, SMALL, decode, expect, full, incremental, into, outcome, replacing, resume, send_args, target,
    version,
};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("receive_full_and_incremental", body!(full_and_incremental)),
    ("receive_from_a_bookmark", body!(from_bookmark)),
    ("Z15_volumes", body!(volumes)),
    ("Z15_volume_onto_placeholder_with_children", body!(volume_onto_parent)),
    ("receive_full_onto_something", body!(full_onto_something)),
    ("receive_incremental_onto_the_wrong_thing", body!(wrong_base)),
    ("receive_the_same_snapshot_again", body!(same_again)),
    ("receive_onto_modified_target", body!(modified)),
    ("receive_replacing_destroys_newer_snapshots_unless_held", body!(replacing_newer)),
    ("ReceiveForceRollbackWorksUnencrypted", body!(force_after_rollback)),
    ("ResumableRecvAndTokenHandling", body!(resumable)),
    ("cuts_at_all_magnitudes", body!(cuts)),
    ("a_resumed_stream_sends_only_the_rest", body!(only_the_rest)),
    ("a_cut_that_is_not_resumable_leaves_nothing", body!(not_resumable)),
    ("partial_state_is_in_the_way", body!(partial_in_the_way)),
    ("resume_needs_its_state", body!(resume_without_state)),
    ("resume_whose_snapshot_is_gone", body!(resume_gone)),
    ("resume_onto_placeholder", body!(resume_onto_placeholder)),
    ("resume_after_change_of_target", body!(resume_after_change)),
    ("resume_of_incremental_protects_its_base", body!(partial_pins_base)),
    ("abort_receive", body!(abort)),
    ("properties_are_received_overridden_and_excluded", body!(properties)),
    ("properties_of_an_interrupted_receive", body!(interrupted_properties)),
    ("what_is_no_stream_is_refused", body!(not_a_stream)),
    ("Z12_a_failing_source_is_named_and_its_state_kept", body!(failing_source)),
];

async fn full_and_incremental(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy of a b")?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    ground.transfer(&full(&fs, &one), &into(&copy, "1")?).await?;
    ground.same_files(&fs, &copy)?;
    ground.world.remove_file(&fs, "file 1")?;
    let two = ground.write_take(&fs, LARGE, "2").await?;
    ground.transfer(&incremental(&fs, &one, &two), &into(&copy, "2")?).await?;
    ground.same_files(&fs, &copy)?;
    let nothing = ground.take(&fs, "3").await?;
    ground.transfer(&incremental(&fs, &two, &nothing), &into(&copy, "renamed 3")?).await?;
    let (ours, theirs) = (ground.dataset(&fs).await?, ground.dataset(&copy).await?);
    let identity = |dataset: &zfs::Dataset| dataset.versions.iter().map(|v| (v.guid, v.creation)).collect::<Vec<_>>();
    ensure!(identity(&ours) == identity(&theirs), "guid and time travel: {ours:?} {theirs:?}");
    ensure!(ground.versions(&copy).await? == ["@1", "@2", "@renamed 3"]);
    Ok(())
}

async fn from_bookmark(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy")?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    ground.transfer(&full(&fs, &one), &into(&copy, "1")?).await?;
    let mark = ground.mark(&fs, &one, "mark").await?;
    ground.destroy(&fs, "1").await?;
    ground.world.remove_file(&fs, "file 1")?;
    let two = ground.write_take(&fs, SMALL, "2").await?;
    ground.transfer(&incremental(&fs, &mark, &two), &into(&copy, "2")?).await?;
    ground.same_files(&fs, &copy)
}

async fn volumes(ground: &Ground<'_>) -> Result<()> {
    let (volume, parent) = (ground.src("vol ume")?, ground.dst("place holder")?);
    ground.world.create_volume(&volume)?;
    ground.zfs().create_placeholder(&parent, PlaceholderEncryption::Inherit).await?;
    let copy = ground.dst("place holder/vol ume")?;
    let one = ground.take(&volume, "1").await?;
    ground.transfer(&full(&volume, &one), &into(&copy, "1")?).await?;
    let two = ground.take(&volume, "2").await?;
    ground.transfer(&incremental(&volume, &one, &two), &into(&copy, "2")?).await?;
    let dataset = ground.dataset(&copy).await?;
    ensure!(dataset.kind == DatasetKind::Volume && dataset.versions.len() == 2, "{dataset:?}");
    let below = ground.dst("place holder/vol ume/child")?;
    let refused = ground.transfer(&full(&volume, &one), &into(&below, "1")?).await;
    ensure!(outcome(&refused) == "Failed", "below a volume: {refused:?}");
    Ok(())
}

async fn volume_onto_parent(ground: &Ground<'_>) -> Result<()> {
    let volume = ground.src("volume")?;
    ground.world.create_volume(&volume)?;
    let one = ground.take(&volume, "1").await?;
    let (parent, child) = (ground.dst("parent")?, ground.dst("parent/child")?);
    ground.zfs().create_placeholder(&parent, PlaceholderEncryption::Inherit).await?;
    ground.zfs().create_placeholder(&child, PlaceholderEncryption::Inherit).await?;
    let refused = ground.transfer(&full(&volume, &one), &replacing(&parent, "1")?).await;
    expect(refused, "HasChildren", target(&replacing(&parent, "1")?))?;
    ensure!(ground.dataset(&parent).await?.kind == DatasetKind::Filesystem);
    ground.transfer(&full(&volume, &one), &replacing(&child, "1")?).await?;
    ensure!(ground.dataset(&child).await?.kind == DatasetKind::Volume);
    Ok(())
}

async fn full_onto_something(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let (there, kid) = (ground.dst("there")?, ground.dst("there/kid")?);
    ground.zfs().create_placeholder(&there, PlaceholderEncryption::Inherit).await?;
    ground.world.create_filesystem(&ground.dst("mounted")?)?;
    ground.zfs().create_placeholder(&kid, PlaceholderEncryption::Inherit).await?;
    let send = full(&fs, &one);
    expect(ground.transfer(&send, &into(&there, "1")?).await, "TargetExists", &there)?;
    ground.transfer(&send, &replacing(&there, "1")?).await?;
    ensure!(ground.dataset(&there).await?.placeholder == Placeholder::On, "it is not the stream's to change");
    ensure!(ground.dataset(&kid).await?.placeholder == Placeholder::On, "children stay");
    expect(ground.transfer(&send, &into(&there, "x")?).await, "TargetExists", &there)?;
    expect(ground.transfer(&send, &replacing(&there, "x")?).await, "TargetHasSnapshots", &there)?;
    let orphan = ground.dst("no parent/child")?;
    expect(ground.transfer(&send, &into(&orphan, "1")?).await, "NotFound", &orphan)?;
    let mounted = ground.dst("mounted")?;
    ground.transfer(&send, &replacing(&mounted, "1")?).await?;
    ground.same_files(&fs, &mounted)
}

/// `fs` with @1 to @3, and a copy of @1 on the other pool.
async fn three(ground: &Ground<'_>, copy: &str) -> Result<(DatasetName, [model::VersionRef; 3], DatasetName)> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst(copy)?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let two = ground.write_take(&fs, LARGE, "2").await?;
    let three = ground.write_take(&fs, SMALL, "3").await?;
    ground.transfer(&full(&fs, &one), &into(&copy, "1")?).await?;
    Ok((fs, [one, two, three], copy))
}

async fn wrong_base(ground: &Ground<'_>) -> Result<()> {
    let (fs, [_, two, three], copy) = three(ground, "copy").await?;
    let send = incremental(&fs, &two, &three);
    expect(ground.transfer(&send, &into(&copy, "3")?).await, "SourceMismatch", &copy)?;
    expect(ground.transfer(&send, &replacing(&copy, "3")?).await, "SourceMismatch", &copy)?;
    let missing = ground.dst("missing")?;
    expect(ground.transfer(&send, &into(&missing, "3")?).await, "NotFound", &missing)?;
    expect(ground.transfer(&send, &into(&copy, "1")?).await, "Exists", &copy)?;
    ensure!(ground.versions(&copy).await? == ["@1"]);
    Ok(())
}

async fn same_again(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    let send = incremental(&fs, &one, &two);
    for _ in 0..2 {
        ground.transfer(&send, &into(&copy, "2")?).await?;
    }
    expect(ground.transfer(&send, &into(&copy, "other")?).await, "TargetModified", &copy)?;
    ensure!(ground.versions(&copy).await? == ["@1", "@2"]);
    Ok(())
}

async fn modified(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, three], copy) = three(ground, "copy").await?;
    ground.world.write_file(&copy, "written here", b"x")?;
    let send = incremental(&fs, &one, &two);
    expect(ground.transfer(&send, &into(&copy, "2")?).await, "TargetModified", &copy)?;
    ground.transfer(&send, &replacing(&copy, "2")?).await?;
    ensure!(!ground.world.files(&copy)?.contains_key("written here"));
    // A snapshot without changes is in nobody's way.
    ground.take(&copy, "own").await?;
    ground.transfer(&incremental(&fs, &two, &three), &into(&copy, "3")?).await?;
    ground.same_files(&fs, &copy)
}

async fn replacing_newer(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    ground.write_take(&copy, 10, "newer").await?;
    ground.hold("tag", &copy, "newer").await?;
    let (send, receive) = (incremental(&fs, &one, &two), replacing(&copy, "2")?);
    expect(
        ground.transfer(&send, &ReceiveArgs { resumable: false, ..receive.clone() }).await,
        "Busy",
        target(&receive),
    )?;
    ensure!(ground.versions(&copy).await? == ["@1", "@newer"]);
    let held = [Snapshot { dataset: copy.clone(), name: version("newer")? }];
    ground.zfs().release(&super::tag("tag")?, &held).await.pop().context("one result")??;
    ground.transfer(&send, &receive).await?;
    ensure!(ground.versions(&copy).await? == ["@1", "@2"]);
    Ok(())
}

async fn force_after_rollback(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("target")?);
    ground.world.create_filesystem(&copy)?;
    for name in ["1", "2", "3"] {
        ground.write_take(&copy, 100, name).await?;
    }
    let one = ground.write_take(&fs, SMALL, "sender 1").await?;
    ground.world.rollback(&Snapshot { dataset: copy.clone(), name: version("1")? })?;
    ensure!(ground.versions(&copy).await? == ["@1"]);
    ground.destroy(&copy, "1").await?;
    ground.transfer(&full(&fs, &one), &replacing(&copy, "sender 1")?).await?;
    ensure!(ground.versions(&copy).await? == ["@sender 1"]);
    ground.same_files(&fs, &copy)
}

async fn resumable(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("send er")?, ground.dst("recv er")?);
    let a = ground.write_take(&fs, 5 * LARGE, "a snap").await?;
    let b = ground.write_take(&fs, 5 * LARGE, "b snap").await?;
    for (send, name, from, to) in
        [(full(&fs, &a), "a snap", None, &a), (incremental(&fs, &a, &b), "b snap", Some(a.guid), &b)]
    {
        let receive = into(&copy, name)?;
        let cut = 5 * LARGE as u64 / 2;
        let token = ground.interrupt(&send, &receive, cut).await?;
        let contents = decode(&token)?;
        ensure!(contents.to == to.guid && contents.from == from, "{contents:?}");
        ensure!(contents.to_name == format!("{fs}@{name}"), "{contents:?}");
        ensure!(contents.bytes_received <= cut && contents.bytes_received > cut / 2, "{contents:?}");
        ground.transfer(&resume(&fs, &token), &receive).await?;
        ensure!(ground.dataset(&copy).await?.resume_token.is_none());
    }
    ground.same_files(&fs, &copy)
}

/// What is kept of a stream that ends after so many bytes.
async fn cuts(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], _) = three(ground, "base").await?;
    for cut in [0, 100, 311, 312, 400, 623, 624, 1500, 140_000, 900_000] {
        let fresh = ground.dst(&format!("full {cut}"))?;
        let stream = ground.cut(&full(&fs, &two), cut).await?;
        let result = ground.receive(&into(&fresh, "2")?, stream).await;
        let expected = if cut < 624 { "Truncated" } else { "Interrupted" };
        expect(result, expected, &fresh)?;
        let found = ground.zfs().dataset(&fresh).await.map(|dataset| dataset.resume_token.is_some());
        ensure!(found.unwrap_or(false) == (cut >= 624), "state after {cut} bytes of a full stream");

        let copy = ground.dst(&format!("incremental {cut}"))?;
        ground.transfer(&full(&fs, &one), &into(&copy, "1")?).await?;
        let stream = ground.cut(&incremental(&fs, &one, &two), cut).await?;
        expect(ground.receive(&into(&copy, "2")?, stream).await, expected, &copy)?;
        let kept = ground.dataset(&copy).await?.resume_token.is_some();
        ensure!(kept == (cut >= 624), "state after {cut} bytes of an incremental stream");
    }
    Ok(())
}

async fn only_the_rest(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy")?);
    let one = ground.write_take(&fs, 4 * LARGE, "1").await?;
    let (send, receive) = (full(&fs, &one), into(&copy, "1")?);
    let total = tokio::io::copy(&mut ground.send(&send).await?, &mut tokio::io::sink()).await?;
    let mut token = ground.interrupt(&send, &receive, total / 2).await?;
    // A resumed stream that is cut again, even within its head, loses nothing.
    for cut in [0, 311, 312, 326, 408, 1000, total / 8] {
        let rest = resume(&fs, &token);
        let stream = ground.cut(&rest, cut).await?;
        let error = ground.receive(&receive, stream).await.err().context("it was cut")?;
        let expected = if cut < 312 { "Truncated" } else { "Interrupted" };
        ensure!(super::variant(&error.kind) == expected, "after {cut} bytes: {error}");
        token = ground.dataset(&copy).await?.resume_token.context("the state is still there")?;
    }
    let kept = decode(&token)?.bytes_received;
    let mut stream = ground.send(&resume(&fs, &token)).await?;
    let rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    ensure!(rest + kept < total + 600_000, "{kept} of {total} bytes were there, {rest} are sent");
    ground.transfer(&resume(&fs, &token), &receive).await?;
    ground.same_files(&fs, &copy)
}

async fn not_resumable(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    let fresh = ground.dst("fresh")?;
    let plain = |dataset: &DatasetName, name: &str| {
        Ok::<_, anyhow::Error>(ReceiveArgs { resumable: false, ..into(dataset, name)? })
    };
    let stream = ground.cut(&full(&fs, &two), 500_000).await?;
    expect(ground.receive(&plain(&fresh, "2")?, stream).await, "Truncated", &fresh)?;
    expect(ground.zfs().dataset(&fresh).await, "NotFound", &fresh)?;
    let stream = ground.cut(&incremental(&fs, &one, &two), 500_000).await?;
    expect(ground.receive(&plain(&copy, "2")?, stream).await, "Truncated", &copy)?;
    ensure!(ground.dataset(&copy).await?.resume_token.is_none());
    // State that a resumed receive without -s loses.
    let token = ground.interrupt(&incremental(&fs, &one, &two), &into(&copy, "2")?, 500_000).await?;
    let stream = ground.cut(&resume(&fs, &token), 300_000).await?;
    expect(ground.receive(&plain(&copy, "2")?, stream).await, "Truncated", &copy)?;
    ensure!(ground.dataset(&copy).await?.resume_token.is_none());
    Ok(())
}

async fn partial_in_the_way(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, three], copy) = three(ground, "copy").await?;
    let fresh = ground.dst("fresh")?;
    ground.interrupt(&full(&fs, &two), &into(&fresh, "2")?, 500_000).await?;
    ground.interrupt(&incremental(&fs, &one, &two), &into(&copy, "2")?, 500_000).await?;
    let full_one = full(&fs, &one);
    expect(ground.transfer(&full_one, &into(&fresh, "1")?).await, "TargetExists", &fresh)?;
    expect(ground.transfer(&full_one, &replacing(&fresh, "1")?).await, "TargetHasPartial", &fresh)?;
    let again = incremental(&fs, &one, &three);
    expect(ground.transfer(&again, &into(&fresh, "3")?).await, "TargetHasPartial", &fresh)?;
    expect(ground.transfer(&again, &into(&copy, "3")?).await, "TargetHasPartial", &copy)?;
    expect(ground.transfer(&again, &replacing(&copy, "3")?).await, "TargetHasPartial", &copy)?;
    let snapshot = [Snapshot { dataset: fresh.clone(), name: version("x")? }];
    let taken = ground.zfs().snapshot(&snapshot).await.pop().context("one result")?;
    expect(taken, "Busy", &snapshot[0])?;
    Ok(())
}

async fn resume_without_state(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    let other = ground.dst("other")?;
    ground.transfer(&full(&fs, &one), &into(&other, "1")?).await?;
    let receive = into(&copy, "2")?;
    let token = ground.interrupt(&incremental(&fs, &one, &two), &receive, 300_000).await?;
    let rest = resume(&fs, &token);
    let wrong = ground.transfer(&rest, &into(&other, "2")?).await;
    expect(wrong, "BadResumeToken", &other)?;
    let missing = ground.dst("missing")?;
    expect(ground.transfer(&rest, &into(&missing, "2")?).await, "NotFound", &missing)?;
    // More arrived since: the old token does not fit any longer.
    let stream = ground.cut(&rest, 500_000).await?;
    expect(ground.receive(&receive, stream).await, "Interrupted", target(&receive))?;
    expect(ground.transfer(&rest, &receive).await, "BadResumeToken", target(&receive))?;
    let newer = ground.dataset(&copy).await?.resume_token.context("a token")?;
    ground.transfer(&resume(&fs, &newer), &receive).await?;
    ensure!(ground.versions(&copy).await? == ["@1", "@2"]);
    Ok(())
}

async fn resume_gone(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    let token = ground.interrupt(&incremental(&fs, &one, &two), &into(&copy, "2")?, 300_000).await?;
    let mark = ground.mark(&fs, &one, "mark").await?;
    ground.destroy(&fs, "1").await?;
    let started = ground.zfs().send(&resume(&fs, &token)).await.map(|stream| stream.begin)?;
    ensure!(started.from == Some(mark.guid), "a bookmark of the base is enough");
    ground.destroy(&fs, "2").await?;
    let gone = ground.zfs().send(&resume(&fs, &token)).await.map(|stream| stream.begin);
    ensure!(outcome(&gone) == "BadResumeToken", "{gone:?}");
    Ok(())
}

async fn resume_onto_placeholder(ground: &Ground<'_>) -> Result<()> {
    let (fs, target) = (ground.fs("a b")?, ground.dst("place holder")?);
    let one = ground.write_take(&fs, LARGE, "1").await?;
    ground.zfs().create_placeholder(&target, PlaceholderEncryption::Inherit).await?;
    let token = ground.interrupt(&full(&fs, &one), &replacing(&target, "1")?, 500_000).await?;
    let kid = ground.dst("place holder/made meanwhile")?;
    ground.zfs().create_placeholder(&kid, PlaceholderEncryption::Inherit).await?;
    let rest = resume(&fs, &token);
    let refused = ground.transfer(&rest, &into(&target, "1")?).await;
    expect(refused, "TargetExists", &target)?;
    ensure!(ground.dataset(&target).await?.resume_token.as_deref() == Some(token.as_str()));
    ground.transfer(&rest, &replacing(&target, "1")?).await?;
    ensure!(ground.versions(&target).await? == ["@1"]);
    ground.dataset(&kid).await?;
    Ok(())
}

async fn resume_after_change(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], written) = three(ground, "written").await?;
    let snapped = ground.dst("snapped")?;
    ground.transfer(&full(&fs, &one), &into(&snapped, "1")?).await?;
    let send = incremental(&fs, &one, &two);
    for copy in [&written, &snapped] {
        ground.interrupt(&send, &into(copy, "2")?, 500_000).await?;
    }
    ground.world.write_file(&written, "new", b"x")?;
    ground.take(&snapped, "during").await?;
    for (copy, expected) in [(&written, "TargetModified"), (&snapped, "BadResumeToken")] {
        let token = ground.dataset(copy).await?.resume_token.context("a token")?;
        expect(ground.transfer(&resume(&fs, &token), &into(copy, "2")?).await, expected, copy)?;
        // It is refused only when all of it has arrived, and that is kept.
        let token = ground.dataset(copy).await?.resume_token.context("a token")?;
        let rest = resume(&fs, &token);
        let length = tokio::io::copy(&mut ground.send(&rest).await?, &mut tokio::io::sink()).await?;
        ensure!(length < 200_000, "{length} bytes are left of a stream that has arrived");
        ground.transfer(&rest, &replacing(copy, "2")?).await?;
        ensure!(ground.versions(copy).await? == ["@1", "@2"]);
    }
    Ok(())
}

async fn partial_pins_base(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    ground.interrupt(&incremental(&fs, &one, &two), &into(&copy, "2")?, 300_000).await?;
    expect(ground.destroy(&copy, "1").await, "HasClones", format!("{copy}@1"))?;
    expect(ground.zfs().destroy_dataset(&copy).await, "HasChildren", &copy)?;
    // Over a placeholder there is no base, and the state goes with its dataset.
    let one_more = ground.dst("place holder")?;
    ground.zfs().create_placeholder(&one_more, PlaceholderEncryption::Inherit).await?;
    ground.interrupt(&full(&fs, &two), &replacing(&one_more, "2")?, 300_000).await?;
    ground.zfs().destroy_dataset(&one_more).await?;
    expect(ground.zfs().dataset(&one_more).await, "NotFound", &one_more)?;
    ground.zfs().abort_receive(&copy).await?;
    ground.destroy(&copy, "1").await?;
    ground.zfs().destroy_dataset(&copy).await?;
    Ok(())
}

async fn abort(ground: &Ground<'_>) -> Result<()> {
    let (fs, [one, two, _], copy) = three(ground, "copy").await?;
    let (zfs, fresh, missing) = (ground.zfs(), ground.dst("fresh one")?, ground.dst("missing one")?);
    ground.interrupt(&full(&fs, &two), &into(&fresh, "2")?, 300_000).await?;
    ground.interrupt(&incremental(&fs, &one, &two), &into(&copy, "2")?, 300_000).await?;
    zfs.abort_receive(&fresh).await?;
    expect(zfs.dataset(&fresh).await, "NotFound", &fresh)?;
    for _ in 0..2 {
        zfs.abort_receive(&copy).await?;
        ensure!(ground.dataset(&copy).await?.resume_token.is_none());
    }
    ensure!(ground.versions(&copy).await? == ["@1"]);
    zfs.abort_receive(&missing).await?;
    ground.transfer(&incremental(&fs, &one, &two), &into(&copy, "2")?).await?;
    Ok(())
}

fn property(text: &str) -> Result<PropertyName> {
    Ok(PropertyName::parse(text)?)
}

async fn properties(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy")?);
    for (property, value) in [("t:excluded", "x"), ("t:taken", "two words"), ("t:overridden", "theirs")] {
        ground.world.set_property(&fs, property, value)?;
    }
    let one = ground.take(&fs, "1").await?;
    let flags = SendFlags { properties: true, ..SendFlags::default() };
    let receive = ReceiveArgs {
        set: vec![(property("t:overridden")?, "ours".into()), (property("t:more")?, "a=b".into())],
        inherit: vec![property("t:excluded")?, property("mountpoint")?],
        ..into(&copy, "1")?
    };
    ground.transfer(&send_args(&fs, None, &one, flags), &receive).await?;
    let found = |property| ground.world.property(&copy, property);
    ensure!(found("t:excluded")?.is_none(), "{:?}", found("t:excluded"));
    ensure!(found("t:taken")? == Some(("two words".into(), "received")), "{:?}", found("t:taken"));
    ensure!(found("t:overridden")? == Some(("ours".into(), "local")), "{:?}", found("t:overridden"));
    ensure!(found("t:more")? == Some(("a=b".into(), "local")), "{:?}", found("t:more"));
    Ok(())
}

async fn interrupted_properties(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, LARGE, "1").await?;
    let (new, old) = (ground.dst("new")?, ground.dst("old")?);
    ground.zfs().create_placeholder(&old, PlaceholderEncryption::Inherit).await?;
    for (dataset, kept) in [(&new, Placeholder::Off), (&old, Placeholder::On)] {
        let receive = ReceiveArgs {
            set: vec![(PropertyName::PLACEHOLDER, "off".into())],
            target: ReceiveTarget::Replace,
            ..into(dataset, "1")?
        };
        let token = ground.interrupt(&full(&fs, &one), &receive, 500_000).await?;
        let found = ground.dataset(dataset).await?.placeholder;
        ensure!(found == kept, "{dataset} has {found:?} after the interruption");
        ground.transfer(&resume(&fs, &token), &receive).await?;
        ensure!(ground.dataset(dataset).await?.placeholder == Placeholder::Off);
    }
    Ok(())
}

async fn not_a_stream(ground: &Ground<'_>) -> Result<()> {
    let fresh = ground.dst("fresh")?;
    for (bytes, expected) in [(&[0; 1000][..], "Failed"), (b"hello\n", "Truncated"), (b"", "Truncated")] {
        let stream = Box::pin(std::io::Cursor::new(bytes.to_vec()));
        expect(ground.receive(&into(&fresh, "1")?, stream).await, expected, &fresh)?;
    }
    expect(ground.zfs().dataset(&fresh).await, "NotFound", &fresh)?;
    Ok(())
}

async fn failing_source(ground: &Ground<'_>) -> Result<()> {
    use tokio::io::AsyncReadExt as _;
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy")?);
    let one = ground.write_take(&fs, LARGE, "1").await?;
    let begun = ground.send(&full(&fs, &one)).await?.take(500_000);
    let stream = begun.chain(Broken);
    let error = expect(ground.receive(&into(&copy, "1")?, Box::pin(stream)).await, "Source", &copy)?;
    ensure!(error.to_string().contains("the network is down"), "{error}");
    let token = error.resume_token().context("a token")?.to_owned();
    ensure!(ground.dataset(&copy).await?.resume_token.as_deref() == Some(token.as_str()));
    ground.transfer(&resume(&fs, &token), &into(&copy, "1")?).await?;
    ground.same_files(&fs, &copy)
}

/// A source that fails at once.
struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("the network is down")))
    }
}
