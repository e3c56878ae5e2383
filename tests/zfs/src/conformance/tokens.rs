//! Resume tokens, ours and those of ZFS.

use anyhow::{Result, ensure};
use zfs::{ReceiveArgs, SendFlags};

use super::{Body, Ground, LARGE, decode, into, resume, send_args};
use crate::body;

pub(super) const CASES: &[(&str, Body)] =
    &[("ResumeTokenParsing", body!(parsing)), ("Z11_a_token_carries_the_flags_of_its_stream", body!(flags))];

async fn parsing(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy")?);
    let one = ground.write_take(&fs, LARGE, "1").await?;
    let token = ground.interrupt(&super::full(&fs, &one), &into(&copy, "1")?, 500_000).await?;
    let contents = decode(&token)?;
    ensure!(contents.to == one.guid && contents.from.is_none() && contents.to_name == format!("{fs}@1"));
    // Its own encoding of the same contents is understood as well.
    let read = zfs::token::ResumeToken::decode(&token)?;
    let ours = zfs::token::encode(&read);
    ensure!(decode(&ours)? == contents);
    let receive = ReceiveArgs { ..into(&copy, "1")? };
    ground.transfer(&resume(&fs, &ours), &receive).await?;
    ground.same_files(&fs, &copy)?;
    let mut damaged = token.clone();
    damaged.truncate(token.len() - 8);
    ensure!(decode(&damaged).is_err());
    let refused = ground.zfs().send(&resume(&fs, &damaged)).await.map(|stream| stream.begin);
    ensure!(super::outcome(&refused) == "BadResumeToken", "{refused:?}");
    Ok(())
}

async fn flags(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, LARGE, "1").await?;
    let none = SendFlags::default();
    for (number, flags) in [
        none,
        SendFlags { compressed: true, ..none },
        SendFlags { embedded: true, compressed: true, ..none },
        SendFlags { properties: true, ..none },
    ]
    .into_iter()
    .enumerate()
    {
        let copy = ground.dst(&format!("copy {number}"))?;
        let receive = into(&copy, "1")?;
        let token = ground.interrupt(&send_args(&fs, None, &one, flags), &receive, 500_000).await?;
        let said = decode(&token)?.flags;
        ensure!((said.compressed, said.embedded, said.raw) == (flags.compressed, flags.embedded, false), "{said:?}");
        ground.transfer(&resume(&fs, &token), &receive).await?;
        ground.same_files(&fs, &copy)?;
    }
    Ok(())
}
