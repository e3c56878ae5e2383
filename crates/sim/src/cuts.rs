//! Every point at which a step can be cut: enumerated once, then tried one by one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::plan::resolve::{ConflictPolicy, WhenDiverged, WhenNothingInCommon};
use model::protection::ProtectionStrategy;
use zfs::ErrorKind;

use crate::fault::{Fault, Faults, Site, Victims};
use crate::flow::Places;
use crate::machine::Machine;
use crate::process::Host;
use crate::world::{Direction, Failure, Setup, World, simulate};

/// What the invocation that is cut has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A first full step; the receiver has nothing, not even the parents.
    Initial,
    /// An incremental step.
    Incremental,
    /// Two incremental steps, whose `from` is only a cursor on the sender.
    TwoStepsFromCursor,
    /// The rest of a first full step.
    ResumedInitial,
    /// The rest of an incremental step.
    ResumedIncremental,
    /// A first full step onto a placeholder that has children.
    OntoPlaceholder,
    /// The rest of one.
    ResumedOntoPlaceholder,
    /// No step: an earlier reply was lost, protections are put right.
    Confirm,
    /// An incremental step to a receiver with snapshots of its own, which the job rolls back.
    Diverged,
    /// The same with nothing to send.
    OnlyDiverged,
    /// An incremental step to a receiver with changes of its own, which the job rolls back.
    Modified,
    /// The receiver gets a snapshot of its own after the plan was made, and before it is made again.
    DivergedMeanwhile,
    /// First full steps to a receiver that has filesystems of these names, which the job renames.
    Renamed,
    /// A first full step; the receiver gets a filesystem of that name after the plan was made.
    RenamedMeanwhile,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 14] = [
        Scenario::Initial,
        Scenario::Incremental,
        Scenario::TwoStepsFromCursor,
        Scenario::ResumedInitial,
        Scenario::ResumedIncremental,
        Scenario::OntoPlaceholder,
        Scenario::ResumedOntoPlaceholder,
        Scenario::Confirm,
        Scenario::Diverged,
        Scenario::OnlyDiverged,
        Scenario::Modified,
        Scenario::DivergedMeanwhile,
        Scenario::Renamed,
        Scenario::RenamedMeanwhile,
    ];

    /// Filesystems whose newest common version is not the receiver's newest.
    fn diverged(self) -> Places {
        match self {
            Scenario::Diverged | Scenario::OnlyDiverged | Scenario::DivergedMeanwhile => {
                Places::from([(0, FILESYSTEM.to_owned())])
            }
            _ => Places::new(),
        }
    }

    /// Whether the conflict arises while the invocation waits for its second plan.
    fn is_meanwhile(self) -> bool {
        matches!(self, Scenario::DivergedMeanwhile | Scenario::RenamedMeanwhile)
    }
}

/// What a user does after the cut, before the daemons run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mischief {
    /// Nothing.
    None,
    /// Destroys all snapshots on the sender that can be destroyed.
    DestroyAll,
    /// The same, after taking a newer one, which stays.
    DestroyAllButANewer,
}

impl Mischief {
    /// All of them.
    pub const ALL: [Mischief; 3] = [Mischief::None, Mischief::DestroyAll, Mischief::DestroyAllButANewer];

    /// Those to try. What a user does afterwards meets the same pools whichever daemon was active.
    pub fn after(direction: Direction) -> &'static [Mischief] {
        match direction {
            Direction::Push => &Self::ALL,
            Direction::Pull => &[Mischief::None],
        }
    }
}

/// One way to cut.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Counts the sites of the invocation.
    pub index: usize,
    /// Where.
    pub site: Site,
    /// How.
    pub fault: Fault,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at site {} ({:?})", self.fault, self.index, self.site)
    }
}

const FILESYSTEM: &str = "src/data/fs";
const CHILD: &str = "src/data/fs/child";
/// Bytes of the file that the cut step carries.
const FILE: usize = 20_000;

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What the invocation has to do.
    pub scenario: Scenario,
    /// What the job guarantees.
    pub strategy: ProtectionStrategy,
    /// Which daemon is active.
    pub direction: Direction,
}

/// Enumerates the cuts of a case.
pub fn enumerate(case: Case) -> Result<Vec<Cut>, Failure> {
    simulate(async || {
        let mut world = prepare(case, false).await?;
        let recorder = Recorder::default();
        invoke(&mut world, case, recorder.clone()).await?;
        let sites = std::mem::take(&mut *recorder.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(sites.into_iter().enumerate().flat_map(|(index, site)| ways(index, &site)).collect())
    })
}

/// Cuts, lets the user do something, starts everything again, and lets it come to rest. The failure
/// comes with the trace.
pub fn try_cut(case: Case, cut: &Cut, mischief: Mischief, print: bool) -> Result<(), (Failure, Vec<String>)> {
    simulate(async || {
        let mut world = prepare(case, print).await.map_err(|failure| (failure, Vec::new()))?;
        let result = cut_and_recover(&mut world, case, cut, mischief).await;
        result.map_err(|failure| (failure, world.room.trace.lines()))
    })
}

async fn cut_and_recover(world: &mut World, case: Case, cut: &Cut, mischief: Mischief) -> Result<(), Failure> {
    let struck = Arc::new(Mutex::new(false));
    let once = Once { index: cut.index, seen: 0, fault: cut.fault.clone(), struck: Arc::clone(&struck) };
    invoke(world, case, once).await?;
    if !*struck.lock().unwrap_or_else(PoisonError::into_inner) {
        return Err(Failure::NotConverged(vec!["the cut was never reached".to_owned()]));
    }
    do_mischief(world, case.scenario, mischief);
    let (_, stuck) = world.come_to_rest(3, &Places::new()).await?;
    // Without protection a user can take the base away, but only a user.
    let guarded = case.strategy != ProtectionStrategy::Nothing || mischief == Mischief::None;
    if guarded && !stuck.is_empty() {
        return Err(Failure::NotConverged(vec![format!("{stuck:?} need a person")]));
    }
    Ok(())
}

/// The invocation that is cut. If the conflict arises meanwhile, its first receive fails, and what makes
/// the conflict comes before it is planned again.
async fn invoke(world: &mut World, case: Case, faults: impl Faults + 'static) -> Result<(), Failure> {
    if !case.scenario.is_meanwhile() {
        world.set_faults(faults);
        return world.invoke().await.map(drop);
    }
    world.set_faults(FirstReceiveFails { failed: false, then: faults });
    let (room, receiver) = (Arc::clone(&world.room), world.machine(Host::Receiver).clone());
    let target = world.on_receiver(FILESYSTEM);
    let user = async {
        tokio::time::sleep(BEFORE_SECOND_PLAN).await;
        receiver.create(&target);
        write_and_snapshot(&receiver, &target, "own", 7);
        room.user_did("a snapshot of its own on the receiver", &case.scenario.diverged());
    };
    let (invoked, ()) = tokio::join!(world.invoke(), user);
    invoked.map(drop)
}

/// Less than the shortest wait before a filesystem is planned again.
const BEFORE_SECOND_PLAN: Duration = Duration::from_millis(500);

fn do_mischief(world: &World, scenario: Scenario, mischief: Mischief) {
    let sender = world.machine(Host::Sender);
    if mischief == Mischief::None {
        return;
    }
    if mischief == Mischief::DestroyAllButANewer {
        write_and_snapshot(sender, FILESYSTEM, "newer", 9);
    }
    for name in sender.snapshots(FILESYSTEM) {
        if name != "newer" {
            // Those that are held refuse.
            let _ = sender.destroy_snapshot(FILESYSTEM, &name);
        }
    }
    world.user_did(format_args!("{mischief:?}"), &scenario.diverged());
}

/// Adds a file and takes a snapshot, both called `name`.
fn write_and_snapshot(machine: &Machine, filesystem: &str, name: &str, seed: u64) {
    #[allow(clippy::expect_used, reason = "a scene that cannot be set says nothing")]
    machine.write(filesystem, name, FILE, seed).and_then(|()| machine.snapshot(filesystem, name)).expect("the scene");
}

fn conflict_policy(scenario: Scenario) -> ConflictPolicy {
    match scenario {
        Scenario::Diverged | Scenario::OnlyDiverged | Scenario::Modified | Scenario::DivergedMeanwhile => {
            ConflictPolicy { diverged: WhenDiverged::RollbackReceiver, ..ConflictPolicy::default() }
        }
        Scenario::Renamed | Scenario::RenamedMeanwhile => {
            ConflictPolicy { no_common: WhenNothingInCommon::RenameAside, ..ConflictPolicy::default() }
        }
        _ => ConflictPolicy::default(),
    }
}

async fn prepare(case: Case, print: bool) -> Result<World, Failure> {
    let Case { scenario, strategy, direction } = case;
    let setup = Setup { print, direction, ..Setup::new(1) }.protected_by(strategy);
    let setup = Setup { conflicts: conflict_policy(scenario), ..setup };
    let setup = Setup { filesystems: crate::world::filter(&[("src/data<", true), ("src/data", false)]), ..setup };
    let mut world = World::new(setup);
    let sender = world.machine(Host::Sender).clone();
    sender.create(FILESYSTEM);
    let snapshot = |name: &str, seed| write_and_snapshot(&sender, FILESYSTEM, name, seed);
    match scenario {
        Scenario::Initial | Scenario::RenamedMeanwhile => snapshot("one", 1),
        Scenario::Renamed => {
            sender.create(CHILD);
            snapshot("one", 1);
            write_and_snapshot(&sender, CHILD, "child", 5);
            let receiver = world.machine(Host::Receiver);
            receiver.create(&world.on_receiver(CHILD));
            for (filesystem, name) in [(FILESYSTEM, "own"), (FILESYSTEM, "own 2"), (CHILD, "own")] {
                write_and_snapshot(receiver, &world.on_receiver(filesystem), name, 7);
            }
        }
        Scenario::DivergedMeanwhile => {
            snapshot("one", 1);
            world.invoke().await?;
            snapshot("two", 2);
        }
        Scenario::ResumedInitial => {
            snapshot("one", 1);
            cut_stream(&mut world).await?;
        }
        Scenario::Incremental | Scenario::ResumedIncremental | Scenario::Confirm => {
            snapshot("one", 1);
            world.invoke().await?;
            snapshot("two", 2);
            match scenario {
                Scenario::ResumedIncremental => cut_stream(&mut world).await?,
                Scenario::Confirm => lose_reply(&mut world).await?,
                _ => {}
            }
        }
        Scenario::Diverged | Scenario::OnlyDiverged | Scenario::Modified => {
            snapshot("one", 1);
            world.invoke().await?;
            let received = world.on_receiver(FILESYSTEM);
            let receiver = world.machine(Host::Receiver);
            match scenario {
                Scenario::Modified => {
                    #[allow(clippy::expect_used, reason = "a scene that cannot be set says nothing")]
                    receiver.write(&received, "own", FILE, 7).expect("the scene");
                }
                _ => ["own", "own 2"].into_iter().for_each(|own| write_and_snapshot(receiver, &received, own, 7)),
            }
            if scenario != Scenario::OnlyDiverged {
                snapshot("two", 2);
            }
        }
        Scenario::TwoStepsFromCursor => {
            snapshot("one", 1);
            world.invoke().await?;
            snapshot("two", 2);
            snapshot("three", 3);
            // Without protection there is no cursor that could replace it.
            if strategy != ProtectionStrategy::Nothing {
                let _ = sender.destroy_snapshot(FILESYSTEM, "one");
            }
        }
        Scenario::OntoPlaceholder | Scenario::ResumedOntoPlaceholder => {
            sender.create(CHILD);
            write_and_snapshot(&sender, CHILD, "child", 5);
            world.user_did("child", &Places::new());
            world.invoke().await?;
            snapshot("one", 1);
            if scenario == Scenario::ResumedOntoPlaceholder {
                cut_stream(&mut world).await?;
            }
        }
    }
    world.user_did("the scene is set", &scenario.diverged());
    Ok(world)
}

/// An invocation whose stream breaks in the middle, without a second attempt.
async fn cut_stream(world: &mut World) -> Result<(), Failure> {
    world.set_faults(KillAtByte(FILE as u64 / 2));
    world.invoke().await?;
    world.set_faults(crate::fault::NoFaults);
    Ok(())
}

/// An invocation whose step arrives, and whose daemon dies before it hears of it.
async fn lose_reply(world: &mut World) -> Result<(), Failure> {
    world.set_faults(KillAtReply);
    world.invoke().await?;
    world.set_faults(crate::fault::NoFaults);
    Ok(())
}

const KILLS: [Fault; 3] =
    [Fault::Kill(Victims::One(Host::Sender)), Fault::Kill(Victims::One(Host::Receiver)), Fault::Kill(Victims::All)];

/// How an invocation can be cut at a site.
fn ways(index: usize, site: &Site) -> Vec<Cut> {
    let faults: Vec<Fault> = match site {
        Site::Before(_) | Site::Between(_) | Site::After(_) => KILLS.to_vec(),
        Site::Connect | Site::Call(_) | Site::Reply(_) => KILLS.into_iter().chain([Fault::Disconnect]).collect(),
        Site::Stream { .. } => {
            // Nothing, a part of the first record, the first record, the middle, nearly everything.
            let bytes = [0, 100, 312, FILE as u64 / 2, FILE as u64];
            let kinds = || KILLS.into_iter().chain([Fault::Disconnect]);
            bytes.iter().flat_map(|at| kinds().map(|fault| Fault::AtByte(*at, Box::new(fault)))).collect()
        }
    };
    faults.into_iter().map(|fault| Cut { index, site: site.clone(), fault }).collect()
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Site>>>);

impl Faults for Recorder {
    fn at(&mut self, site: &Site) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(site.clone());
        None
    }
}

struct Once {
    index: usize,
    seen: usize,
    fault: Fault,
    struck: Arc<Mutex<bool>>,
}

impl Faults for Once {
    fn at(&mut self, _: &Site) -> Option<Fault> {
        self.seen += 1;
        (self.seen == self.index + 1).then(|| {
            *self.struck.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.fault.clone()
        })
    }
}

/// The first receive fails as if the filesystem were busy, and only then anything else happens.
struct FirstReceiveFails<F> {
    failed: bool,
    then: F,
}

impl<F: Faults> Faults for FirstReceiveFails<F> {
    fn at(&mut self, site: &Site) -> Option<Fault> {
        if !self.failed && matches!(site, Site::Before(op) if op.verb == "receive") {
            self.failed = true;
            return Some(Fault::Error(ErrorKind::Busy));
        }
        self.then.at(site)
    }
}

struct KillAtByte(u64);

impl Faults for KillAtByte {
    fn at(&mut self, site: &Site) -> Option<Fault> {
        let receive = matches!(site, Site::Stream { reader: crate::fault::StreamReader::Receive, .. });
        receive.then(|| Fault::AtByte(self.0, Box::new(Fault::Kill(Victims::All))))
    }
}

struct KillAtReply;

impl Faults for KillAtReply {
    fn at(&mut self, site: &Site) -> Option<Fault> {
        // The one of a push, the other of a pull.
        let told = [Site::Reply("receive"), Site::Call("send_completed")];
        told.contains(site).then_some(Fault::Kill(Victims::All))
    }
}
