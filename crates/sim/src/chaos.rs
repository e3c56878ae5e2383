//! A world from a seed: what it looks like, what its users do, and what goes wrong.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use jiff::SignedDuration;
use model::plan::prune::KeepRule;
use model::plan::replication::InitialReplication;
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use regex::Regex;
use zfs::ErrorKind;

use crate::dice::Dice;
use crate::fault::{Fault, Faults, Site, StreamReader, Victims};
use crate::picture::newest_common;
use crate::process::Host;
use crate::world::{Failure, Setup, World, filter, simulate};

/// What became of a world that came to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Invocations that were needed after the last fault.
    pub invocations: usize,
    /// Filesystems that need a person, because a user took their base away.
    pub stuck: usize,
    /// What went wrong before.
    pub faults: usize,
    /// ZFS operations.
    pub ops: u64,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

/// A world that failed, and how it came to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What failed.
    pub failure: Failure,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

/// Runs the world of a seed.
pub fn run_seed(seed: u64, print: bool) -> Result<Rest, Box<Failed>> {
    simulate(async || {
        let mut dice = Dice::new(seed);
        let setup = Setup { print, ..random_setup(seed, &mut dice.part()) };
        let mut story = Story::begin(setup, dice);
        match story.run().await {
            Ok((invocations, stuck)) => {
                let trace = story.world.room.trace.lines();
                let faults = trace.iter().filter(|line| line.contains(" ! ")).count();
                let ops = story.world.room.ops().iter().sum();
                Ok(Rest { invocations, stuck, faults, ops, trace })
            }
            Err(failure) => Err(Box::new(Failed { failure, trace: story.world.room.trace.lines() })),
        }
    })
}

fn random_setup(seed: u64, dice: &mut Dice) -> Setup {
    use ProtectionStrategy::{Incremental, Nothing, Resumability};
    let policy = |initial, incremental| ProtectionPolicy { initial, incremental };
    let protection = match dice.below(20) {
        0..=8 => policy(Resumability, Resumability),
        9..=12 => policy(Incremental, Incremental),
        13..=14 => policy(Resumability, Incremental),
        15..=16 => policy(Incremental, Resumability),
        17..=18 => policy(Nothing, Nothing),
        _ => policy(Nothing, Resumability),
    };
    // Now and then a filesystem in the middle is left out, which the receiver fills with a placeholder.
    let mut selected = vec![("src/data<", true)];
    if dice.chance(300) {
        selected.push((*dice.pick(&["src/data/b", "src/data", "src/data/a"]).unwrap_or(&"src/data"), false));
    }
    Setup {
        filesystems: filter(&selected),
        initial: if dice.chance(400) { InitialReplication::All } else { InitialReplication::MostRecent },
        protection,
        keep_sender: random_rules(dice, true),
        keep_receiver: random_rules(dice, false),
        steps: NonZeroUsize::MIN.saturating_add(dice.below(3)),
        ..Setup::new(seed)
    }
}

fn random_rules(dice: &mut Dice, sender: bool) -> Vec<KeepRule> {
    if dice.chance(250) {
        return Vec::new();
    }
    let regex = |dice: &mut Dice| dice.pick(&["^zrepl_", "^manual_", "1$"]).and_then(|text| Regex::new(text).ok());
    let mut rules = vec![KeepRule::LastN { count: 1 + dice.below(4), regex: None }];
    if sender && dice.chance(500) {
        rules.push(KeepRule::NotReplicated { keep_snapshot_at_cursor: dice.chance(500) });
    }
    if dice.chance(300) {
        rules.extend(regex(dice).map(|regex| KeepRule::Regex { regex, negate: dice.chance(300) }));
    }
    if dice.chance(300) {
        rules.push(KeepRule::LastN { count: dice.below(3) + 1, regex: regex(dice) });
        rules.swap_remove(0);
    }
    rules
}

/// The filesystems that may exist; one of them is a volume.
const NAMES: [&str; 7] =
    ["src/data", "src/data/a", "src/data/a/x", "src/data/b", "src/data/b/c", "src/data/b/c/d", "src/data/vol"];
const VOLUME: &str = "src/data/vol";

struct Story {
    world: World,
    dice: Dice,
    guarded: bool,
    counter: u64,
    broken: BTreeSet<String>,
}

impl Story {
    fn begin(setup: Setup, dice: Dice) -> Self {
        let guarded = setup.guarded();
        let world = World::new(setup);
        Self { world, dice, guarded, counter: 0, broken: BTreeSet::new() }
    }

    async fn run(&mut self) -> Result<(usize, usize), Failure> {
        for _ in 0..1 + self.dice.below(5) {
            self.create_filesystem();
        }
        for _ in 0..3 + self.dice.below(7) {
            for _ in 0..self.dice.below(7) {
                self.user_acts();
                tokio::time::sleep(Duration::from_secs(self.dice.below(90) as u64)).await;
            }
            self.invoke_under_faults().await?;
            if !self.guarded {
                // Without protection, users take bases away as they like; pruning of what the receiver has
                // since then does not bring them back.
                self.broken.extend(self.world.standings(&BTreeSet::new()).1);
            }
        }
        for host in Host::BOTH {
            self.world.machine(host).set_imported(true);
            self.world.machine(host).set_free(None);
        }
        let (invocations, stuck) = self.world.come_to_rest(3, &self.broken).await?;
        let unexpected: Vec<&String> = stuck.iter().filter(|name| !self.broken.contains(*name)).collect();
        if self.guarded && !unexpected.is_empty() {
            return Err(Failure::NotConverged(vec![format!("{unexpected:?} need a person, and no user is to blame")]));
        }
        Ok((invocations, stuck.len()))
    }

    async fn invoke_under_faults(&mut self) -> Result<(), Failure> {
        let permille = *self.dice.pick(&[0, 5, 20, 60, 120]).unwrap_or(&0);
        self.world.set_faults(Chaos { dice: self.dice.part(), permille });
        let victim = if self.dice.chance(500) { Host::Sender } else { Host::Receiver };
        let machine = self.world.machine(victim).clone();
        if self.dice.chance(60) {
            self.world.room.trace.tell('u', format_args!("pool of {victim} is exported"));
            machine.set_imported(false);
        }
        if self.dice.chance(60) {
            let free = self.dice.below(4000) as u64;
            self.world.room.trace.tell('u', format_args!("pool of {victim} has {free} bytes left"));
            machine.set_free(Some(free));
        }
        if self.guarded && self.dice.chance(150) {
            self.change_policy();
        }
        let result = self.world.invoke().await;
        if self.dice.chance(700) {
            machine.set_imported(true);
            machine.set_free(None);
        }
        result.map(|_| ())
    }

    fn change_policy(&mut self) {
        let kinds = [ProtectionStrategy::Resumability, ProtectionStrategy::Incremental];
        let kind = *self.dice.pick(&kinds).unwrap_or(&ProtectionStrategy::Resumability);
        self.world.room.trace.tell('u', format_args!("the job now guarantees {kind:?}"));
        self.world.set_protection(ProtectionPolicy { initial: kind, incremental: kind });
    }

    fn user_acts(&mut self) {
        match self.dice.below(20) {
            0..=8 => self.take_snapshot(),
            9 => self.create_filesystem(),
            10..=12 => self.destroy_on(Host::Sender),
            13 => self.destroy_on(Host::Receiver),
            14 => self.roll_back(),
            15 => self.hold_or_bookmark(Host::Sender),
            16 => self.hold_or_bookmark(Host::Receiver),
            17 => self.destroy_all_snapshots(),
            18 => self.kill_or_jump(),
            _ => self.write(),
        }
    }

    fn filesystems(&self, host: Host) -> Vec<String> {
        let below = if host == Host::Sender { "src/data" } else { "dst/sink/client/src" };
        self.world.machine(host).picture().into_keys().filter(|name| name.starts_with(below)).collect()
    }

    fn some_filesystem(&mut self, host: Host) -> Option<String> {
        let all = self.filesystems(host);
        self.dice.pick(&all).cloned()
    }

    fn some_snapshot(&mut self, host: Host) -> Option<(String, String)> {
        let filesystem = self.some_filesystem(host)?;
        let snapshots = self.world.machine(host).snapshots(&filesystem);
        self.dice.pick(&snapshots).map(|name| (filesystem, name.clone()))
    }

    fn did(&self, what: impl std::fmt::Display, result: Result<(), ErrorKind>) -> bool {
        let done = result.is_ok();
        let refused = result.err().map(|kind| format!(": {kind}")).unwrap_or_default();
        let broken: Vec<String> = self.broken.iter().cloned().collect();
        self.world.user_did(format_args!("{what}{refused}"), &broken);
        done
    }

    fn create_filesystem(&mut self) {
        let name = *self.dice.pick(&NAMES).unwrap_or(&NAMES[0]);
        let sender = self.world.machine(Host::Sender);
        if name == VOLUME {
            sender.create("src/data");
            let created = sender.create_volume(name);
            self.did(format_args!("create -V {name}"), created);
        } else {
            sender.create(name);
            self.did(format_args!("create {name}"), Ok(()));
        }
        self.write_to(name);
    }

    fn write(&mut self) {
        if let Some(filesystem) = self.some_filesystem(Host::Sender) {
            self.write_to(&filesystem);
        }
    }

    fn write_to(&mut self, filesystem: &str) {
        let file = if filesystem == VOLUME { String::new() } else { format!("file{}", self.dice.below(4)) };
        let (bytes, seed) = (self.dice.below(1500), self.dice.number());
        // A pool that is away or full refuses.
        let _ = self.world.machine(Host::Sender).write(filesystem, &file, bytes, seed);
    }

    fn take_snapshot(&mut self) {
        let Some(filesystem) = self.some_filesystem(Host::Sender) else { return };
        self.write_to(&filesystem);
        self.counter += 1;
        let prefix = if self.dice.chance(700) { "zrepl" } else { "manual" };
        let name = format!("{prefix}_{}", self.counter);
        let taken = self.world.machine(Host::Sender).snapshot(&filesystem, &name);
        self.did(format_args!("snapshot {filesystem}@{name}"), taken);
    }

    fn destroy_on(&mut self, host: Host) {
        let Some((filesystem, name)) = self.some_snapshot(host) else { return };
        // Without its newest snapshot, what the receiver has counts as modified, and ZFS rightly refuses the
        // next incremental stream until a person rolls it back.
        if host == Host::Receiver && self.world.machine(host).snapshots(&filesystem).last() == Some(&name) {
            return;
        }
        let destroyed = self.world.machine(host).destroy_snapshot(&filesystem, &name);
        self.did(format_args!("destroy {filesystem}@{name}"), destroyed);
    }

    fn destroy_all_snapshots(&mut self) {
        let Some(filesystem) = self.some_filesystem(Host::Sender) else { return };
        for name in self.world.machine(Host::Sender).snapshots(&filesystem) {
            let destroyed = self.world.machine(Host::Sender).destroy_snapshot(&filesystem, &name);
            self.did(format_args!("destroy {filesystem}@{name}"), destroyed);
        }
    }

    fn roll_back(&mut self) {
        let Some((filesystem, name)) = self.some_snapshot(Host::Sender) else { return };
        let before = self.world.machine(Host::Sender).picture();
        let receiver = self.world.machine(Host::Receiver).picture();
        let target = self.world.room.watch(|watch| watch.names().on_receiver(&filesystem));
        let loses_base = || {
            let sender = before.get(&filesystem)?;
            let base = newest_common(sender, receiver.get(&target)?)?;
            let to = sender.snapshots().find(|version| version.name == name)?;
            Some(to.createtxg < base.createtxg)
        };
        let rolled_back = self.world.machine(Host::Sender).rollback(&filesystem, &name);
        if rolled_back.is_ok() && loses_base() == Some(true) {
            self.broken.insert(filesystem.clone());
        }
        self.did(format_args!("rollback {filesystem}@{name}"), rolled_back);
    }

    fn hold_or_bookmark(&mut self, host: Host) {
        let Some((filesystem, name)) = self.some_snapshot(host) else { return };
        let machine = self.world.machine(host).clone();
        if self.dice.chance(500) {
            let tag =
                *self.dice.pick(&["keep", "zrepl_STEP_J_other", "zrepl_last_received_J_other"]).unwrap_or(&"keep");
            let held = machine.hold(&filesystem, &name, tag);
            self.did(format_args!("hold {tag} {filesystem}@{name}"), held);
        } else {
            self.counter += 1;
            let bookmark = format!("mark_{}", self.counter);
            let made = machine.bookmark(&filesystem, &name, &bookmark);
            self.did(format_args!("bookmark {filesystem}@{name} #{bookmark}"), made);
        }
    }

    fn kill_or_jump(&mut self) {
        if self.dice.chance(500) {
            self.world.kill(some_victims(&mut self.dice));
        } else {
            let seconds = self.dice.below(8000) as i64 - 4000;
            self.world.room.trace.tell('u', format_args!("the clocks jump by {seconds} s"));
            self.world.room.time.jump(SignedDuration::from_secs(seconds));
        }
    }
}

fn some_victims(dice: &mut Dice) -> Victims {
    let all = [Victims::One(Host::Sender), Victims::One(Host::Receiver), Victims::Both];
    *dice.pick(&all).unwrap_or(&Victims::Both)
}

/// Faults at random.
struct Chaos {
    dice: Dice,
    permille: usize,
}

impl Chaos {
    fn error(&mut self) -> ErrorKind {
        match self.dice.below(6) {
            0 => ErrorKind::Busy,
            1 => ErrorKind::NoSpace,
            2 => ErrorKind::Deadline(Duration::from_secs(60)),
            3 => ErrorKind::Killed { command: "zfs".into(), signal: 9 },
            4 => ErrorKind::PermissionDenied,
            _ => ErrorKind::Failed {
                command: "zfs".into(),
                status: "exit status 1".into(),
                stderr: "something that nobody knows".into(),
            },
        }
    }

    fn kill(&mut self) -> Fault {
        Fault::Kill(some_victims(&mut self.dice))
    }

    fn delay(&mut self, most_millis: usize) -> Fault {
        Fault::Delay(Duration::from_millis(self.dice.below(most_millis) as u64))
    }

    fn of_call(&mut self) -> Fault {
        match self.dice.below(4) {
            0 => self.kill(),
            1 => self.delay(60_000),
            _ => Fault::Disconnect,
        }
    }

    fn of_stream(&mut self, reader: StreamReader) -> Fault {
        let fault = match (self.dice.below(3), reader) {
            (0, _) => self.kill(),
            (1, StreamReader::Receive | StreamReader::Daemon) => Fault::Error(self.error()),
            _ => Fault::Disconnect,
        };
        Fault::AtByte(self.dice.below(5000) as u64, Box::new(fault))
    }
}

impl Faults for Chaos {
    fn at(&mut self, site: &Site) -> Option<Fault> {
        // Short pauses let the steps of several filesystems mix in many ways.
        if matches!(site, Site::Before(_)) && self.dice.chance(200) {
            return Some(self.delay(50));
        }
        let rate = match site {
            Site::Stream { .. } => self.permille * 4,
            Site::Between(_) => self.permille * 2,
            _ => self.permille,
        };
        if !self.dice.chance(rate) {
            return None;
        }
        Some(match site {
            Site::Between(_) => self.kill(),
            Site::Before(_) | Site::After(_) => match self.dice.below(3) {
                0 => self.kill(),
                _ => Fault::Error(self.error()),
            },
            Site::Connect | Site::Call(_) | Site::Reply(_) => self.of_call(),
            Site::Stream { reader, .. } => self.of_stream(*reader),
        })
    }
}
