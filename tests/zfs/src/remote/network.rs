//! Two daemons in network namespaces of their own, with a link between them that is cut and restored.
//!
//! The case starts this program in namespaces that nobody else is in; all traffic stays there, and they are
//! gone with the processes. It takes as long as the limits of connections, which nobody can wind forward here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use model::DatasetName;

use super::{Machine, on_real_time};
use crate::body;
use crate::case::Case;
use crate::conformance::LARGE;
use crate::replication::rig::{Stage, on_fake};

const NAME: &str = "remote::a_link_between_two_namespaces_is_cut_and_restored";

/// The model of ZFS is in the memory of each process; the kernel of the test machine has no such links.
pub(super) fn case() -> Case {
    Case::fake(NAME, || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "--"]).arg(std::env::current_exe()?).arg(NEAR);
        let output = unshare.output().context("starting unshare of util-linux")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let (status, needs) = (output.status, "it needs unshare, ip and user namespaces, see CONTRIBUTING.md");
        ensure!(status.success(), "in a network namespace of its own ({needs}): {status}: {said}");
        Ok(())
    })
}

/// Arguments after which this program is one of the two machines.
const NEAR: &str = "near-machine";
const FAR: &str = "far-machine";

/// The names of the link's ends, and the addresses, which are for documentation only.
const NEAR_END: &str = "near";
const FAR_END: &str = "far";
const NEAR_ADDRESS: &str = "192.0.2.1";
const FAR_ADDRESS: &str = "192.0.2.2";

/// Bytes over the link after which it is cut: in the middle of a stream.
const CUT: u64 = LARGE as u64;

/// How often the counter of the link is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What one of the machines runs.
pub(super) fn stand_in() -> Option<ExitCode> {
    let role = std::env::args_os().nth(1)?;
    let run = match role.to_str()? {
        NEAR => on_fake(body!(near)),
        FAR => on_fake(body!(far)),
        _ => return None,
    };
    Some(match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    })
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("starting ip of iproute2")?;
    ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn set_up(end: &str, address: &str) -> Result<()> {
    ip(&["address", "add", &format!("{address}/24"), "dev", end])?;
    ip(&["link", "set", end, "up"])
}

/// Cuts the link, or restores it.
fn set_link(state: &str) -> Result<()> {
    ip(&["link", "set", NEAR_END, state])
}

/// The other machine, which does what it is told line by line. Killed when it is dropped.
struct Far {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Far {
    fn start() -> Result<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--"]).arg(std::env::current_exe()?).arg(FAR);
        let mut child = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting unshare")?;
        let to = child.stdin.take().context("its standard input")?;
        let from = child.stdout.take().context("its standard output")?;
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.to, "{line}").context("the other machine has ended")
    }

    /// What it says next, on a thread that may wait for it.
    async fn hear(mut self) -> Result<(Self, String)> {
        tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            self.from.read_line(&mut line)?;
            match line.strip_suffix('\n') {
                Some(line) => Ok((self, line.to_owned())),
                None => bail!("the other machine has ended"),
            }
        })
        .await?
    }
}

/// Bytes that have left this machine on the link.
fn sent() -> Result<u64> {
    let devices = std::fs::read_to_string("/proc/self/net/dev")?;
    let counters = devices.lines().find_map(|line| line.trim().strip_prefix(NEAR_END)?.strip_prefix(':'));
    Ok(counters.and_then(|counters| counters.split_whitespace().nth(8)).context("no such link")?.parse()?)
}

/// Waits for the middle of the next stream.
async fn wait_for_the_middle() -> Result<()> {
    let start = sent()?;
    while sent()? < start + CUT {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn near(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    let (mut far, said) = Far::start()?.hear().await?;
    ensure!(said == "ready", "{said}");
    let far_id = far.child.id().to_string();
    ip(&["link", "add", NEAR_END, "type", "veth", "peer", "name", FAR_END, "netns", &far_id])?;
    set_up(NEAR_END, NEAR_ADDRESS)?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;
    let here = Machine::start(stage, &source(&fs))?;
    let listening = here.diary.wait_for(&format!("listening on {NEAR_ADDRESS}:")).await?;
    far.tell(&format!("{fs}\n{}", listening.rsplit(':').next().context("a port")?))?;

    // Restored at once: only packets are lost, and nobody notices.
    far.tell("pull")?;
    wait_for_the_middle().await?;
    set_link("down")?;
    set_link("up")?;
    let (mut far, said) = far.hear().await?;
    ensure!(said == "1 steps, 0 errors, not resumed, []", "{said}");
    ensure!(here.diary.problems().is_empty(), "{:?}", here.diary.problems());

    // Restored when both have given up.
    stage.snap(&fs, 3 * LARGE, "2").await?;
    far.tell("pull")?;
    wait_for_the_middle().await?;
    set_link("down")?;
    let (far, said) = far.hear().await?;
    ensure!(said.starts_with("noticed: "), "{said}");
    here.diary.wait_for(&format!("of client \"far\" from {FAR_ADDRESS} broke")).await?;
    set_link("up")?;
    let (mut far, said) = far.hear().await?;
    ensure!(said.starts_with("1 steps, 0 errors, resumed, "), "{said}");
    let found = stage.state_of(&fs, "source job").await?;
    ensure!(found == ["@1", "cursor 2", "@2"], "{found:?}");

    far.tell("stop")?;
    let (far, said) = far.hear().await?;
    ensure!(said == r#"["@1", "@2 last of pull job"]"#, "{said}");
    drop(far);
    here.stop().await
}

/// Slow enough that a stream has a middle.
fn source(fs: &DatasetName) -> String {
    format!(
        r#"
  - name: source job
    type: source
    serve: {{type: tcp, listen: "{NEAR_ADDRESS}:0", clients: {{"{FAR_ADDRESS}": far}}}}
    filesystems: {{"{fs}": true}}
    send: {{bandwidth_limit: {{max: 1 MiB, bucket_capacity: 64 KiB}}}}
    snapshotting: {{type: manual}}
"#
    )
}

fn pull_job(root: &DatasetName, port: &str) -> String {
    format!(
        r#"
  - name: pull job
    type: pull
    connect: {{type: tcp, address: "{NEAR_ADDRESS}:{port}"}}
    root_fs: "{root}"
    interval: manual
    recv: {{placeholder: {{encryption: inherit}}}}
    pruning:
      keep_sender: [{{type: regex, regex: ".*"}}]
      keep_receiver: [{{type: regex, regex: ".*"}}]
"#
    )
}

/// The next line that this machine is told.
async fn told() -> Result<String> {
    let read = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    read.await?.context("the other machine has ended")?.context("reading what to do")
}

async fn far(stage: &Stage<'_>) -> Result<()> {
    on_real_time(stage);
    println!("ready");
    let (fs, port) = (DatasetName::parse(&told().await?)?, told().await?);
    set_up(FAR_END, FAR_ADDRESS)?;
    let root = stage.dst("pulled")?;
    stage.world.create_filesystem(&root)?;
    let here = Machine::start(stage, &pull_job(&root, &port))?;
    while told().await? == "pull" {
        let invoked = async {
            let summary = here.invoke("pull job").await?;
            let status = here.daemon.status().to_json();
            let resumed = if status.contains("\"Resumed\":true") { "resumed" } else { "not resumed" };
            println!("{} steps, {} errors, {resumed}, {:?}", summary.steps, summary.errors, here.diary.problems());
            anyhow::Ok(())
        };
        tokio::select! {
            biased;
            invoked = invoked => invoked?,
            never = tell_of_problems(&here) => match never? {},
        }
    }
    println!("{:?}", stage.state(&root.join(&fs)?).await?);
    here.stop().await
}

/// Says once that something went wrong, and waits for ever.
async fn tell_of_problems(here: &Machine) -> Result<std::convert::Infallible> {
    println!("noticed: {}", here.diary.wait_for_problem().await?);
    std::future::pending().await
}
