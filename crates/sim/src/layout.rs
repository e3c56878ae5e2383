//! Which jobs the daemons of a fleet have, as text of configuration files.

use std::fmt::Write as _;

use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::{ClientIdentity, JobName};

use crate::dice::Dice;
use crate::flow::Flow;
use crate::process::Host;
use crate::world::{Direction, expected, filter};

/// A machine of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Which one.
    pub host: Host,
    /// Its pool.
    pub pool: &'static str,
}

/// One replication of a fleet.
#[derive(Debug, Clone)]
pub struct Replication {
    /// Between whom.
    pub flow: Flow,
    /// Where the active job dials.
    pub listener: String,
    /// As whom.
    pub client: ClientIdentity,
    /// What the jobs guarantee; an administrator may change it.
    pub protection: ProtectionPolicy,
    direction: Direction,
    filesystems: String,
    /// Of the passive job's side, if it receives.
    root: String,
    snapshotting: String,
    interval: &'static str,
    initial: &'static str,
    steps: usize,
    keep_sender: String,
    keep_receiver: String,
}

/// A fleet as it is set up.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What it is called in the trace.
    pub shape: Shape,
    /// Its machines.
    pub sites: Vec<Site>,
    /// Its replications, in an order in which what is received is sent on later.
    pub replications: Vec<Replication>,
    /// A job that prunes what others replicate, with its machine.
    snap: Option<(Host, String)>,
}

/// Who replicates to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A pushes to B.
    Push,
    /// B pulls from A.
    Pull,
    /// A pushes to B and to C, with a job each.
    FanOut,
    /// A and C push to one sink of B.
    FanIn,
    /// B pulls from A and from C.
    PullFromTwo,
    /// A pushes to B, and C pulls the same from A.
    PushAndPull,
    /// A pushes to C, and B pulls from C what A has pushed.
    Chain,
}

/// Whether snapshots are taken and pulls begin by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// As configured.
    Configured,
    /// Only when somebody asks.
    Manual,
}

fn job(name: &str) -> JobName {
    #[allow(clippy::expect_used, reason = "names are the simulator's own")]
    JobName::parse(name).expect("a job name")
}

fn site(host: Host, pool: &'static str) -> Site {
    Site { host, pool }
}

impl Layout {
    /// A fleet at random.
    pub fn random(dice: &mut Dice) -> Self {
        use Direction::{Pull, Push};
        use Host::{Receiver, Sender, Third};
        let shapes = [
            Shape::Push,
            Shape::Pull,
            Shape::FanOut,
            Shape::FanIn,
            Shape::PullFromTwo,
            Shape::PushAndPull,
            Shape::Chain,
        ];
        let shape = *dice.pick(&shapes).unwrap_or(&Shape::Push);
        let third = match shape {
            Shape::Push | Shape::Pull => None,
            Shape::FanOut | Shape::PushAndPull => Some("dst"),
            Shape::FanIn | Shape::PullFromTwo => Some("src"),
            Shape::Chain => Some("mid"),
        };
        let sites = [site(Sender, "src"), site(Receiver, "dst")].into_iter().chain(third.map(|pool| site(Third, pool)));
        let named = |name: &'static str| {
            move |dice: &mut Dice, direction, (sender, receiver)| {
                let pool = if shape == Shape::Chain { "mid" } else { "dst" };
                Replication::random(dice, direction, (sender, "src/data"), (receiver, pool), name)
            }
        };
        let (one, two) = (named("one"), named("two"));
        let replications = match shape {
            Shape::Push => vec![one(dice, Push, (Sender, Receiver))],
            Shape::Pull => vec![one(dice, Pull, (Sender, Receiver))],
            Shape::FanOut => vec![one(dice, Push, (Sender, Receiver)), two(dice, Push, (Sender, Third))],
            Shape::FanIn => {
                let first = one(dice, Push, (Sender, Receiver));
                let second = two(dice, Push, (Third, Receiver)).into_sink_of(&first);
                vec![first, second]
            }
            Shape::PullFromTwo => vec![one(dice, Pull, (Sender, Receiver)), two(dice, Pull, (Third, Receiver))],
            Shape::PushAndPull => vec![one(dice, Push, (Sender, Receiver)), two(dice, Pull, (Sender, Third))],
            Shape::Chain => {
                let first = one(dice, Push, (Sender, Third)).into_guarded(dice);
                let received = first.flow.on_receiver("src/data");
                let mut second = Replication::random(dice, Pull, (Third, &received), (Receiver, "dst"), "two");
                // What is received is not snapshotted: it would diverge.
                second.snapshotting = MANUAL.to_owned();
                vec![first, second]
            }
        };
        let snap = dice.chance(250).then(|| (Sender, snap_job(dice)));
        Self { shape, sites: sites.collect(), replications, snap }
    }

    /// The configuration of a machine's daemon.
    pub fn config(&self, host: Host, rhythm: Rhythm) -> String {
        let mut text = "global: {control: {sockpath: \"\"}}\njobs:\n".to_owned();
        let mut serving: Vec<&str> = Vec::new();
        for replication in &self.replications {
            if replication.flow.driver == host {
                text += &replication.active_job(rhythm);
            } else if [replication.flow.sender, replication.flow.receiver].contains(&host)
                && !serving.contains(&replication.listener.as_str())
            {
                serving.push(&replication.listener);
                text += &replication.passive_job(rhythm);
            }
        }
        if let Some((_, job)) = self.snap.as_ref().filter(|(on, _)| *on == host && rhythm == Rhythm::Configured) {
            text += job;
        }
        text
    }

    /// What people can wake: the job and its machine.
    pub fn woken(&self) -> Vec<(Host, JobName)> {
        let active = self.replications.iter().map(|one| (one.flow.driver, one.flow.active().clone()));
        active.chain(self.snap.iter().map(|(host, _)| (*host, job("snap")))).collect()
    }

    /// What takes snapshots: the job and its machine.
    pub fn snapshotted(&self) -> Vec<(Host, JobName)> {
        let sending = self.replications.iter().map(|one| (one.flow.sender, one.flow.sending.clone()));
        sending.chain(self.snap.iter().map(|(host, _)| (*host, job("snap")))).collect()
    }
}

const MANUAL: &str = "{type: manual}";

fn snapshotting(dice: &mut Dice, prefix: &str) -> String {
    match dice.below(6) {
        0 => MANUAL.to_owned(),
        1 => format!("{{type: cron, prefix: {prefix}, cron: \"*/20 * * * *\"}}"),
        2 => format!("{{type: periodic, prefix: {prefix}, interval: 7m}}"),
        3 => format!("{{type: periodic, prefix: {prefix}, interval: 20m}}"),
        _ => format!("{{type: periodic, prefix: {prefix}, interval: 1h}}"),
    }
}

fn rules(dice: &mut Dice, sender: bool) -> String {
    let mut rules = Vec::new();
    if sender && dice.chance(500) {
        rules.push(format!("{{type: not_replicated, keep_snapshot_at_cursor: {}}}", dice.chance(500)));
    }
    match dice.below(4) {
        0 => rules.push("{type: regex, regex: \".*\"}".to_owned()),
        1 => rules.push("{type: grid, grid: \"1x30m(keep=all) | 3x1h\", regex: \"^(zrepl|two|snap)_\"}".to_owned()),
        _ => rules.push(format!("{{type: last_n, count: {}}}", 1 + dice.below(4))),
    }
    if dice.chance(300) {
        let regex = *dice.pick(&["^zrepl_", "^manual_", "1$"]).unwrap_or(&"1$");
        rules.push(format!("{{type: regex, regex: \"{regex}\", negate: {}}}", dice.chance(300)));
    }
    format!("[{}]", rules.join(", "))
}

fn snap_job(dice: &mut Dice) -> String {
    let keep = match dice.chance(500) {
        true => "{type: last_n, count: 2}".to_owned(),
        false => {
            "{type: last_n, count: 2, regex: \"^snap_\"}, {type: regex, regex: \"^snap_\", negate: true}".to_owned()
        }
    };
    format!(
        "  - name: snap
    type: snap
    filesystems: {{\"src/data<\": true}}
    snapshotting: {}
    pruning: {{keep: [{keep}]}}
",
        snapshotting(dice, "snap_")
    )
}

/// What a job guarantees, at random.
pub fn random_protection(dice: &mut Dice, guarded: bool) -> ProtectionPolicy {
    use ProtectionStrategy::{Incremental, Nothing, Resumability};
    let kinds = if guarded { [Resumability, Resumability, Incremental] } else { [Nothing, Nothing, Nothing] };
    let mut kind = || *dice.pick(&kinds).unwrap_or(&Resumability);
    ProtectionPolicy { initial: kind(), incremental: kind() }
}

fn word(strategy: ProtectionStrategy) -> &'static str {
    match strategy {
        ProtectionStrategy::Resumability => "guarantee_resumability",
        ProtectionStrategy::Incremental => "guarantee_incremental",
        ProtectionStrategy::Nothing => "guarantee_nothing",
    }
}

impl Replication {
    /// What is below `top` goes to a pool.
    fn random(
        dice: &mut Dice,
        direction: Direction,
        (sender, top): (Host, &str),
        (receiver, pool): (Host, &str),
        name: &str,
    ) -> Self {
        let top_and_below = format!("{top}<");
        let left_out =
            dice.chance(300).then(|| dice.pick(&["", "/b", "/a"]).map(|below| format!("{top}{below}"))).flatten();
        let mut selected = vec![(top_and_below.as_str(), true)];
        selected.extend(left_out.iter().map(|one| (one.as_str(), false)));
        let filesystems: Vec<String> = selected.iter().map(|(pattern, yes)| format!("\"{pattern}\": {yes}")).collect();
        let guarded = dice.chance(850);
        let protection = random_protection(dice, guarded);
        let root = format!("{pool}/{name}");
        let (driver, sending, receiving) = match direction {
            Direction::Push => (sender, format!("push_{name}"), format!("sink_{name}")),
            Direction::Pull => (receiver, format!("source_{name}"), format!("pull_{name}")),
        };
        let client = format!("client-{name}");
        let below = match direction {
            Direction::Push => format!("{root}/{client}"),
            Direction::Pull => root.clone(),
        };
        #[allow(clippy::expect_used, reason = "names are the simulator's own")]
        let client = ClientIdentity::parse(&client).expect("a client identity");
        let flow = Flow {
            sender,
            receiver,
            driver,
            sending: job(&sending),
            receiving: job(&receiving),
            root: below,
            filesystems: filter(&selected),
            guarded,
            expected: expected(protection),
        };
        let prefix = if name == "one" { "zrepl_" } else { "two_" };
        Self {
            flow,
            listener: format!("listener-{name}"),
            client,
            protection,
            direction,
            filesystems: format!("{{{}}}", filesystems.join(", ")),
            root,
            snapshotting: snapshotting(dice, prefix),
            interval: dice.pick(&["manual", "10m", "25m", "1h"]).copied().unwrap_or("manual"),
            initial: if dice.chance(400) { "all" } else { "most_recent" },
            steps: 1 + dice.below(3),
            keep_sender: rules(dice, true),
            keep_receiver: rules(dice, false),
        }
    }

    /// The same with a guarantee. Without one, nothing tells the job that sends on what was received that its
    /// newest snapshot must stay.
    fn into_guarded(mut self, dice: &mut Dice) -> Self {
        self.protection = random_protection(dice, true);
        (self.flow.guarded, self.flow.expected) = (true, expected(self.protection));
        self
    }

    /// The same, to the sink of another one.
    fn into_sink_of(mut self, other: &Replication) -> Self {
        self.listener.clone_from(&other.listener);
        self.root.clone_from(&other.root);
        self.flow.receiving = other.flow.receiving.clone();
        self.flow.root = format!("{}/{}", other.root, self.client.as_str());
        self
    }

    /// The machine that the active job dials.
    pub fn dialed(&self) -> Host {
        if self.flow.driver == self.flow.sender { self.flow.receiver } else { self.flow.sender }
    }

    /// What must be there before the first invocation.
    pub fn root(&self) -> (Host, &str) {
        (self.flow.receiver, &self.root)
    }

    fn snapshotting(&self, rhythm: Rhythm) -> &str {
        if rhythm == Rhythm::Manual { MANUAL } else { &self.snapshotting }
    }

    fn active_job(&self, rhythm: Rhythm) -> String {
        let mut text = format!("  - name: {}\n", self.flow.active());
        let connect =
            format!("{{type: local, listener_name: {}, client_identity: {}}}", self.listener, self.client.as_str());
        let interval = if rhythm == Rhythm::Manual { "manual" } else { self.interval };
        // Writing to a String cannot fail.
        let _ = match self.direction {
            Direction::Push => write!(
                text,
                "    type: push\n    filesystems: {}\n    snapshotting: {}\n",
                self.filesystems,
                self.snapshotting(rhythm)
            ),
            Direction::Pull => write!(
                text,
                "    type: pull\n    root_fs: {}\n    interval: {interval}\n    recv: {{placeholder: {{encryption: inherit}}}}\n",
                self.root
            ),
        };
        let ProtectionPolicy { initial, incremental } = self.protection;
        let _ = write!(
            text,
            "    connect: {connect}
    replication:
      protection: {{initial: {}, incremental: {}}}
      concurrency: {{steps: {}}}
    conflict_resolution: {{initial_replication: {}}}
    pruning: {{keep_sender: {}, keep_receiver: {}}}
",
            word(initial),
            word(incremental),
            self.steps,
            self.initial,
            self.keep_sender,
            self.keep_receiver
        );
        text
    }

    fn passive_job(&self, rhythm: Rhythm) -> String {
        let serve = format!("{{type: local, listener_name: {}}}", self.listener);
        match self.direction {
            Direction::Push => format!(
                "  - name: {}\n    type: sink\n    root_fs: {}\n    serve: {serve}\n    recv: {{placeholder: {{encryption: inherit}}}}\n",
                self.flow.receiving, self.root
            ),
            Direction::Pull => format!(
                "  - name: {}\n    type: source\n    filesystems: {}\n    snapshotting: {}\n    serve: {serve}\n",
                self.flow.sending,
                self.filesystems,
                self.snapshotting(rhythm)
            ),
        }
    }
}
