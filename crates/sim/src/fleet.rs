//! Machines on which whole daemons run, die, and are started again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::events::{Events, Reader};
use daemon::{Daemon, World};
use model::JobName;
use tokio_util::sync::CancellationToken;
use wire::{Connector, LocalNetwork};
use zfs::Zfs;

use crate::check::Watch;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::fault::NoFaults;
use crate::layout::{Layout, Rhythm};
use crate::machine::Machine;
use crate::network::Network;
use crate::process::{Host, Process};
use crate::report::Reporter;
use crate::room::Room;
use crate::time::SimTime;
use crate::trace::Trace;

/// How long a daemon is away after it died, as a rule.
const RESTART: Duration = Duration::from_millis(1500);

/// A life of a daemon.
#[derive(Clone)]
pub struct Life {
    /// Its process.
    pub process: Process,
    /// The daemon itself.
    pub daemon: Arc<Daemon>,
}

/// Machines with their daemons.
pub struct Fleet {
    /// What its parts share.
    pub room: Arc<Room>,
    /// By the position of their hosts.
    pub machines: Vec<Machine>,
    /// Between them.
    pub network: Arc<Network>,
    /// Cancelled when nothing goes wrong any longer.
    pub quiet: CancellationToken,
    layout: Mutex<(Layout, Rhythm)>,
    lives: Mutex<[Option<Life>; 3]>,
}

impl Fleet {
    /// Machines whose daemons run from now on, whatever happens to them. Only within a tokio runtime whose
    /// time is paused.
    pub fn start(layout: Layout, seed: u64, dice: &mut Dice, print: bool) -> Arc<Self> {
        let time = SimTime::start();
        let machines: Vec<Machine> =
            layout.sites.iter().map(|site| Machine::new(site.host, site.pool, seed, &time)).collect();
        for (host, root) in layout.replications.iter().map(|replication| replication.root()) {
            machines[host.index()].create(root);
        }
        let flows = layout.replications.iter().map(|replication| replication.flow.clone()).collect();
        let watch = Watch::new(Box::new(machines.clone()), flows);
        let room = Arc::new(Room::new(time.clone(), Trace::new(time, print), watch, Box::new(NoFaults)));
        let network = Network::new(Arc::clone(&room));
        let hosts: Vec<Host> = layout.sites.iter().map(|site| site.host).collect();
        room.trace.tell(' ', format_args!("{:?}", layout.shape));
        let fleet = Arc::new(Self {
            room,
            machines,
            network,
            quiet: CancellationToken::new(),
            layout: Mutex::new((layout, Rhythm::Configured)),
            lives: Mutex::default(),
        });
        for host in hosts {
            fleet.machines[host.index()].attach(host, &fleet.room);
            tokio::spawn(Arc::clone(&fleet).keep_running(host, dice.part()));
        }
        fleet
    }

    /// The daemon of a machine, if one runs.
    pub fn life(&self, host: Host) -> Option<Life> {
        self.lock_lives()[host.index()].clone().filter(|life| life.process.is_alive())
    }

    /// What the daemons' configurations are made from.
    pub fn layout(&self) -> Layout {
        self.lock_layout().0.clone()
    }

    /// Whether daemons do anything by themselves, from their next start on.
    pub fn rhythm(&self) -> Rhythm {
        self.lock_layout().1
    }

    /// Changes what daemons are configured to do from their next start on.
    pub fn configure(&self, change: impl FnOnce(&mut Layout, &mut Rhythm)) {
        let (layout, rhythm) = &mut *self.lock_layout();
        change(layout, rhythm);
    }

    /// Stops a daemon as a service manager does, which starts it again a moment later. What it still waits
    /// for after its time is over, if anything.
    pub async fn stop(&self, host: Host) -> Option<String> {
        let Life { process, daemon } = self.life(host)?;
        self.room.trace.tell(host, "daemon is stopped");
        let stopped = process.run(async { daemon.stop("terminated").await }).await;
        process.kill();
        stopped?.err().map(|running| running.to_string())
    }

    fn lock_lives(&self) -> MutexGuard<'_, [Option<Life>; 3]> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_layout(&self) -> MutexGuard<'_, (Layout, Rhythm)> {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a machine's daemon, and starts it again whenever it died.
    async fn keep_running(self: Arc<Self>, host: Host, mut dice: Dice) {
        loop {
            let process = self.room.restart(host);
            match self.start_daemon(host, &process) {
                Ok(daemon) => {
                    let life = Life { process: process.clone(), daemon: Arc::new(daemon) };
                    self.lock_lives()[host.index()] = Some(life);
                }
                Err(error) => {
                    self.room.watch(|watch| watch.violated(format!("the daemon of {host} does not start: {error}")));
                    return;
                }
            }
            process.death().await;
            // Without this nothing polls its tasks again either: they are aborted.
            self.lock_lives()[host.index()] = None;
            process.reap().await;
            let pause = if dice.chance(100) { Duration::from_secs(dice.below(3600) as u64) } else { RESTART };
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.quiet.cancelled() => tokio::time::sleep(RESTART).await,
            }
        }
    }

    fn start_daemon(&self, host: Host, process: &Process) -> Result<Daemon, String> {
        let (layout, rhythm) = self.lock_layout().clone();
        let text = layout.config(host, rhythm);
        let parsed = config::parse("zrepl.yml", &text).map_err(|error| format!("{error:?}\n{text}"))?;
        let world = self.world_of(host, process, &layout);
        self.network.serve(host, process.clone(), world.network.clone());
        Daemon::start(parsed.config, world).map_err(|error| error.to_string())
    }

    /// What a daemon finds around it.
    fn world_of(&self, host: Host, process: &Process, layout: &Layout) -> World {
        let (room, life, machine) = (Arc::clone(&self.room), process.clone(), self.machines[host.index()].clone());
        let disk = move |job: Option<&JobName>| -> Arc<dyn Zfs> {
            let job = job.cloned().unwrap_or_else(nobody);
            Disk::new(Arc::clone(&room), host, life.clone(), job, machine.zfs())
        };
        let own = disk(None);
        let dials: Vec<(JobName, Arc<dyn Connector>)> = layout
            .replications
            .iter()
            .filter(|replication| replication.flow.driver == host)
            .map(|replication| {
                let to = (replication.dialed(), replication.listener.as_str());
                let link = self.network.link((host, process.clone()), to, replication.client.clone());
                (replication.flow.active().clone(), link)
            })
            .collect();
        let way = move |job: &JobName, local: Arc<dyn Connector>| -> Arc<dyn Connector> {
            dials.iter().find(|(active, _)| active == job).map_or(local, |(_, link)| Arc::clone(link))
        };
        World {
            job_zfs: Arc::new(move |_, events: &Events| disk(events.job())),
            clock: self.room.time.clock(),
            network: LocalNetwork::default(),
            connector: Arc::new(way),
            readers: vec![Arc::new(Reporter::new(host, process.clone(), &self.room)) as Arc<dyn Reader>],
            ..World::new(own)
        }
    }
}

/// Whom operations outside of jobs belong to.
fn nobody() -> JobName {
    #[allow(clippy::expect_used, reason = "a literal")]
    JobName::parse("no job").expect("a job name")
}
