//! That the test machine can do what the other cases rely on, with the `zfs` command alone.

use crate::case::Case;
use crate::lab::{Bench, command};
use anyhow::{Context as _, Result, ensure};

/// The cases of this module.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::real("machine::snapshot_keeps_old_content", snapshot_keeps_old_content),
        Case::real("machine::cut_receive_resumes_by_token", cut_receive_resumes_by_token),
        Case::real("machine::raw_send_stays_encrypted", raw_send_stays_encrypted),
        Case::real("machine::volume_is_replicated", volume_is_replicated),
        Case::real("machine::bench_is_cleared_while_in_use", bench_is_cleared_while_in_use),
    ];
    if clock_is_ours() {
        cases.push(Case::real("machine::clock_can_be_set_forward", clock_can_be_set_forward));
    }
    cases
}

/// Whether this is the test machine, whose clock is nobody else's.
pub(crate) fn clock_is_ours() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|name| name.trim() == "zrepl-machine")
}

fn snapshot_keeps_old_content(bench: &Bench) -> Result<()> {
    let pool = bench.pool("a")?;
    let folder = bench.mountpoint(&pool);
    std::fs::write(folder.join("file"), "old")?;
    command("zfs", &["snapshot", &format!("{pool}@one")])?;
    std::fs::write(folder.join("file"), "new")?;
    let kept = std::fs::read_to_string(folder.join(".zfs/snapshot/one/file"))?;
    ensure!(kept == "old", "the snapshot has {kept:?}");
    Ok(())
}

fn cut_receive_resumes_by_token(bench: &Bench) -> Result<()> {
    let (from, to) = (bench.pool("from")?, bench.pool("to")?);
    let (source, target) = (format!("{from}/fs"), format!("{to}/fs"));
    let file = bench.mountpoint(&source).join("file");
    bench.bash(&format!(
        "zfs create {source}
         dd if=/dev/urandom of={} bs=1M count=30 status=none
         zfs snapshot {source}@one
         ! (zfs send {source}@one | head -c 12000000 | zfs receive -s {target}) 2>cut.txt",
        file.display()
    ))?;
    let token = command("zfs", &["get", "-H", "-o", "value", "receive_resume_token", &target])?;
    let token = token.trim();
    ensure!(token.starts_with("1-"), "no resume token: {token:?}");
    let whole = stream_size(bench, &format!("zfs send -nP {source}@one"))?;
    let rest = stream_size(bench, &format!("zfs send -nP -t {token}"))?;
    ensure!(rest < whole - 8_000_000, "resuming would send {rest} of {whole} bytes");
    let received = bench.mountpoint(&target).join("file");
    bench.bash(&format!(
        "zfs send -t {token} | zfs receive -s {target}; cmp {} {}",
        file.display(),
        received.display()
    ))?;
    Ok(())
}

/// The size that a dry send announces.
fn stream_size(bench: &Bench, dry_send: &str) -> Result<u64> {
    let output = bench.bash(&format!("{dry_send} 2>&1"))?;
    let size = output.lines().find_map(|line| line.strip_prefix("size"));
    let size = size.with_context(|| format!("no size in {output:?}"))?;
    size.trim().parse().with_context(|| format!("size {size:?}"))
}

fn raw_send_stays_encrypted(bench: &Bench) -> Result<()> {
    let (from, to) = (bench.pool("from")?, bench.pool("to")?);
    let key = bench.folder().join("key");
    std::fs::write(&key, "foobar2342")?;
    let location = format!("file://{}", key.display());
    let (source, target) = (format!("{from}/secret"), format!("{to}/secret"));
    let (original, copy) = (bench.mountpoint(&source), bench.mountpoint(&target));
    bench.bash(&format!(
        "zfs create -o encryption=on -o keyformat=passphrase -o keylocation={location} {source}
         echo confidential >{0}/file
         zfs snapshot {source}@one
         zfs send -w {source}@one | zfs receive {target}
         [ $(zfs get -H -o value keystatus {target}) = unavailable ]
         zfs load-key -L {location} {target}
         zfs mount {target}
         cmp {0}/file {1}/file",
        original.display(),
        copy.display()
    ))?;
    Ok(())
}

fn clock_can_be_set_forward(bench: &Bench) -> Result<()> {
    let pool = bench.pool("a")?;
    let creation = |name: &str| -> Result<u64> {
        let value = command("zfs", &["get", "-Hp", "-o", "value", "creation", name])?;
        value.trim().parse().with_context(|| format!("creation {value:?}"))
    };
    let (before, after) = (format!("{pool}@before"), format!("{pool}@after"));
    command("zfs", &["snapshot", &before])?;
    command("date", &["-s", "+1 day"])?;
    command("zfs", &["snapshot", &after])?;
    let apart = creation(&after)?.saturating_sub(creation(&before)?);
    ensure!((86_400..86_400 + 600).contains(&apart), "{apart} s apart");
    Ok(())
}

fn volume_is_replicated(bench: &Bench) -> Result<()> {
    let (from, to) = (bench.pool("from")?, bench.pool("to")?);
    bench.bash(&format!(
        "zfs create -V 16M {from}/volume
         zfs snapshot {from}/volume@one
         zfs send {from}/volume@one | zfs receive {to}/volume
         [ $(zfs get -Hp -o value volsize {to}/volume) = 16777216 ]"
    ))?;
    Ok(())
}

/// A case that fails leaves open files; its pools must go all the same.
fn bench_is_cleared_while_in_use(bench: &Bench) -> Result<()> {
    let pool = bench.pool("a")?;
    let folder = bench.mountpoint(&pool);
    bench.bash(&format!("cd {} && (sleep 0.3 >/dev/null 2>&1 &)", folder.display()))?;
    Ok(())
}
