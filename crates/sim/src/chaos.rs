//! A world from a seed: what it looks like, what its users do, and what goes wrong.

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
use crate::flow::Places;
use crate::process::Host;
use crate::room::Room;
use crate::users::Users;
use crate::world::{Direction, Failure, Setup, World, filter, simulate};

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

impl Failed {
    /// What failed, and how to see it again.
    pub fn tell(&self, seed: u64) -> String {
        let kind = if crate::seed::has_fleet(seed) { "daemons" } else { "engine" };
        format!("seed {seed} ({kind}): {}\n  again: cargo run -p sim -- --seed {seed}", self.failure)
    }
}

/// Runs the world of a seed.
pub fn run(seed: u64, print: bool) -> Result<Rest, Box<Failed>> {
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
        direction: if dice.chance(400) { Direction::Pull } else { Direction::Push },
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

struct Story {
    world: World,
    users: Users,
    dice: Dice,
    guarded: bool,
}

impl Story {
    fn begin(setup: Setup, mut dice: Dice) -> Self {
        let guarded = setup.guarded();
        let world = World::new(setup);
        let users = Users::new(&world.room, &world.machines, dice.part());
        Self { world, users, dice, guarded }
    }

    async fn run(&mut self) -> Result<(usize, usize), Failure> {
        for _ in 0..1 + self.dice.below(5) {
            self.users.create_filesystem();
        }
        for _ in 0..3 + self.dice.below(7) {
            for _ in 0..self.dice.below(7) {
                match self.dice.chance(50) {
                    true => self.kill_or_jump(),
                    false => self.users.act(),
                }
                tokio::time::sleep(Duration::from_secs(self.dice.below(90) as u64)).await;
            }
            self.invoke_under_faults().await?;
            if !self.guarded {
                // Without protection, users take bases away as they like; pruning of what the receiver has
                // since then does not bring them back.
                self.users.broken.extend(self.world.standings(&Places::new()).stuck);
            }
        }
        for host in Host::BOTH {
            self.world.machine(host).set_imported(true);
            self.world.machine(host).set_free(None);
        }
        let (invocations, stuck) = self.world.come_to_rest(3, &self.users.broken).await?;
        let unexpected: Vec<&(usize, String)> =
            stuck.iter().filter(|name| !self.users.broken.contains(*name)).collect();
        if self.guarded && !unexpected.is_empty() {
            return Err(Failure::NotConverged(vec![format!("{unexpected:?} need a person, and no user is to blame")]));
        }
        Ok((invocations, stuck.len()))
    }

    async fn invoke_under_faults(&mut self) -> Result<(), Failure> {
        let permille = *self.dice.pick(&[0, 5, 20, 60, 120]).unwrap_or(&0);
        self.world.set_faults(Chaos { dice: self.dice.part(), hosts: &Host::BOTH, permille });
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

    fn kill_or_jump(&mut self) {
        if self.dice.chance(500) {
            self.world.kill(some_victims(&mut self.dice, &Host::BOTH));
        } else {
            jump(&self.world.room, &mut self.dice);
        }
    }
}

/// The wall clocks are set forward or back by up to an hour.
pub(crate) fn jump(room: &Room, dice: &mut Dice) {
    let seconds = dice.below(8000) as i64 - 4000;
    room.trace.tell('u', format_args!("the clocks jump by {seconds} s"));
    room.time.jump(SignedDuration::from_secs(seconds));
}

pub(crate) fn some_victims(dice: &mut Dice, hosts: &[Host]) -> Victims {
    match dice.below(hosts.len() + 1) {
        0 => Victims::All,
        one => Victims::One(hosts[one - 1]),
    }
}

/// Faults at random, on these machines.
pub(crate) struct Chaos {
    pub(crate) dice: Dice,
    pub(crate) hosts: &'static [Host],
    pub(crate) permille: usize,
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
        Fault::Kill(some_victims(&mut self.dice, self.hosts))
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
