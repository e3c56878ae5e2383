//! The life of a fleet from a seed: whole daemons with all their jobs, hours of users, operators and
//! faults, and a quiet end.

use std::sync::Arc;
use std::time::Duration;

use daemon::SignalError;
use model::JobName;

use crate::chaos::{Chaos, Failed, Rest, jump, some_victims};
use crate::dice::Dice;
use crate::fault::NoFaults;
use crate::fleet::{Fleet, Life};
use crate::flow::Places;
use crate::layout::{Layout, Rhythm, random_protection};
use crate::network::Outage;
use crate::process::Host;
use crate::users::Users;
use crate::world::{Failure, simulate};

/// No invocation that somebody waits for may take longer, on the world's clock, when nothing goes wrong.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a daemon that died may be away when nothing goes wrong any longer.
const BACK_AFTER: Duration = Duration::from_secs(60);

/// Rounds in which every job is woken once, until both sides of each must be level.
const ROUNDS: usize = 4;

/// Runs the fleet of a seed.
///
/// # Errors
/// Something unsafe happened, or it did not come to rest.
pub fn run(seed: u64, print: bool) -> Result<Rest, Box<Failed>> {
    simulate(async || {
        let mut dice = Dice::new(seed);
        let layout = Layout::random(&mut dice.part());
        let fleet = Fleet::start(layout, seed, &mut dice, print);
        let users = Users::new(&fleet.room, &fleet.machines, dice.part());
        let mut campaign = Campaign { users, dice, fleet };
        let result = campaign.run().await;
        let trace = campaign.fleet.room.trace.lines();
        match result {
            Ok((invocations, stuck)) => {
                let faults = trace.iter().filter(|line| line.contains(" ! ")).count();
                let ops = campaign.fleet.room.ops().iter().sum();
                Ok(Rest { invocations, stuck, faults, ops, trace })
            }
            Err(failure) => Err(Box::new(Failed { failure, trace })),
        }
    })
}

struct Campaign {
    fleet: Arc<Fleet>,
    users: Users,
    dice: Dice,
}

impl Campaign {
    async fn run(&mut self) -> Result<(usize, usize), Failure> {
        for _ in 0..1 + self.dice.below(5) {
            self.users.create_filesystem();
        }
        for _ in 0..2 + self.dice.below(4) {
            self.trouble().await?;
        }
        self.end_trouble().await?;
        self.come_to_rest().await
    }

    fn hosts(&self) -> &'static [Host] {
        if self.fleet.machines.len() > 2 { &Host::ALL } else { &Host::BOTH }
    }

    fn some_host(&mut self) -> Host {
        let hosts = self.hosts();
        self.dice.pick(hosts).copied().unwrap_or(Host::Sender)
    }

    /// Some minutes or hours in which anything happens.
    async fn trouble(&mut self) -> Result<(), Failure> {
        let permille = *self.dice.pick(&[0, 5, 20, 60, 120]).unwrap_or(&0);
        self.fleet.room.set_faults(Box::new(Chaos { dice: self.dice.part(), hosts: self.hosts(), permille }));
        for _ in 0..3 + self.dice.below(8) {
            if self.dice.chance(550) {
                self.users.act()
            } else {
                self.operator_acts().await?
            }
            let most = *self.dice.pick(&[2, 60, 600, 1800]).unwrap_or(&60);
            tokio::time::sleep(Duration::from_secs(self.dice.below(most) as u64)).await;
            self.note_unguarded();
            self.check()?;
        }
        for host in self.hosts() {
            if self.dice.chance(700) {
                self.fleet.machines[host.index()].set_imported(true);
                self.fleet.machines[host.index()].set_free(None);
            }
        }
        Ok(())
    }

    /// Without protection, users take bases away as they like.
    fn note_unguarded(&mut self) {
        let stuck = self.fleet.room.watch(|watch| {
            let mut stuck = watch.standings(&Places::new()).stuck;
            stuck.retain(|(flow, _)| !watch.flows()[*flow].guarded);
            stuck
        });
        self.users.broken.extend(stuck);
    }

    fn check(&self) -> Result<(), Failure> {
        match self.fleet.room.watch(|watch| watch.violations().to_vec()) {
            violations if violations.is_empty() => Ok(()),
            violations => Err(Failure::Unsafe(violations)),
        }
    }

    fn tell(&self, what: impl std::fmt::Display) {
        self.fleet.room.trace.tell('u', what);
    }

    async fn operator_acts(&mut self) -> Result<(), Failure> {
        match self.dice.below(16) {
            0..=4 => self.wake().await?,
            5..=6 => self.reset().await?,
            7 => self.ask_for_snapshots().await?,
            8 => {
                let hosts = self.hosts();
                self.fleet.room.kill(some_victims(&mut self.dice, hosts));
            }
            9 => self.restart().await,
            10..=11 => self.cut_off(),
            12 => jump(&self.fleet.room, &mut self.dice),
            13 => self.take_pool_away(),
            14 => self.fill_pool(),
            _ => self.change_policy(),
        }
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Failure> {
        let Some((host, job)) = self.dice.pick(&self.fleet.layout().woken()).cloned() else { return Ok(()) };
        self.tell(format_args!("signal wakeup {job}"));
        let Some(Life { process, daemon }) = self.fleet.life(host) else { return Ok(()) };
        let answer = process.run(async { daemon.wakeup(job.as_str()).await }).await;
        expected(answer, &[SignalError::AlreadyWokenUp])
    }

    async fn reset(&mut self) -> Result<(), Failure> {
        let Some((host, job)) = self.dice.pick(&self.fleet.layout().woken()).cloned() else { return Ok(()) };
        self.tell(format_args!("signal reset {job}"));
        let Some(Life { process, daemon }) = self.fleet.life(host) else { return Ok(()) };
        let answer = process.run(async { daemon.reset(job.as_str()).await }).await;
        expected(answer, &[SignalError::AlreadyReset])
    }

    async fn ask_for_snapshots(&mut self) -> Result<(), Failure> {
        let Some((host, job)) = self.dice.pick(&self.fleet.layout().snapshotted()).cloned() else { return Ok(()) };
        self.tell(format_args!("signal snapshot {job}"));
        let Some(Life { process, daemon }) = self.fleet.life(host) else { return Ok(()) };
        let answer = process.run(async { daemon.snapshot(job.as_str()).await }).await;
        let by_others = SignalError::SnapshotsByOthers(job.to_string());
        expected(answer, &[SignalError::AlreadySnapshotting, by_others])
    }

    async fn restart(&mut self) {
        let host = self.some_host();
        // In trouble an operation may take longer than a stop waits.
        self.fleet.stop(host).await;
    }

    fn cut_off(&mut self) {
        let host = self.some_host();
        let most = *self.dice.pick(&[30, 600, 4 * 3600]).unwrap_or(&30);
        let seconds = self.dice.below(most) as u64;
        let outage = if self.dice.chance(500) { Outage::Refused } else { Outage::Silent };
        self.tell(format_args!("{host} is cut off for {seconds} s: {outage:?}"));
        self.fleet.network.cut_off(host, Duration::from_secs(seconds), outage);
    }

    fn take_pool_away(&mut self) {
        let host = self.some_host();
        self.tell(format_args!("pool of {host} is exported"));
        self.fleet.machines[host.index()].set_imported(false);
    }

    fn fill_pool(&mut self) {
        let host = self.some_host();
        let free = self.dice.below(4000) as u64;
        self.tell(format_args!("pool of {host} has {free} bytes left"));
        self.fleet.machines[host.index()].set_free(Some(free));
    }

    /// Takes effect when the daemon is started the next time.
    fn change_policy(&mut self) {
        let dice = &mut self.dice;
        let mut what = String::new();
        self.fleet.configure(|layout, _| {
            let which = dice.below(layout.replications.len());
            let replication = &mut layout.replications[which];
            if replication.flow.guarded {
                replication.protection = random_protection(dice, true);
                what = format!("{} is configured for {:?}", replication.flow.active(), replication.protection);
            }
        });
        self.tell(what);
    }

    /// Nothing goes wrong from now on. Now and then the daemons are stopped and configured to do nothing by
    /// themselves, so that nothing may change when all are level.
    async fn end_trouble(&mut self) -> Result<(), Failure> {
        self.tell("nothing goes wrong from now on");
        self.fleet.room.set_faults(Box::new(NoFaults));
        self.fleet.network.repair();
        for host in self.hosts() {
            self.fleet.machines[host.index()].set_imported(true);
            self.fleet.machines[host.index()].set_free(None);
        }
        let manual = self.dice.chance(600);
        if manual {
            self.fleet.configure(|_, rhythm| *rhythm = Rhythm::Manual);
        }
        self.fleet.quiet.cancel();
        for host in self.hosts().iter().filter(|_| manual) {
            // Whatever was told to take its time before has to end first.
            tokio::time::sleep(Duration::from_secs(120)).await;
            if let Some(still) = self.fleet.stop(*host).await {
                return Err(Failure::Unsafe(vec![format!("{host} did not stop: {still}")]));
            }
        }
        self.check()
    }

    async fn come_to_rest(&mut self) -> Result<(usize, usize), Failure> {
        let jobs: Vec<(Host, JobName)> =
            self.fleet.layout().replications.iter().map(|one| (one.flow.driver, one.flow.active().clone())).collect();
        let mut behind = Vec::new();
        for round in 1..=ROUNDS {
            self.wake_all_and_wait(&jobs).await?;
            self.note_unguarded();
            let standings = self.fleet.room.standings(&self.users.broken);
            behind = standings.behind;
            if !behind.is_empty() {
                continue;
            }
            let unexpected: Vec<_> = standings.stuck.iter().filter(|one| !self.users.broken.contains(*one)).collect();
            if !unexpected.is_empty() {
                let problem = format!("{unexpected:?} need a person, and no user is to blame");
                return Err(Failure::NotConverged(vec![problem]));
            }
            // What is refused for its name is tried each time.
            if self.fleet.rhythm() == Rhythm::Manual && standings.clashing.is_empty() {
                self.become_still(&jobs).await?;
            }
            return Ok((round, standings.stuck.len() + standings.clashing.len()));
        }
        Err(Failure::NotConverged(behind))
    }

    /// When all are level, one job may still prune what another one held before, but no more.
    async fn become_still(&self, jobs: &[(Host, JobName)]) -> Result<(), Failure> {
        for _ in 0..2 {
            let changes = self.fleet.room.changes();
            self.wake_all_and_wait(jobs).await?;
            if self.fleet.room.changes() == changes {
                return Ok(());
            }
        }
        Err(Failure::NotIdempotent)
    }

    async fn wake_all_and_wait(&self, jobs: &[(Host, JobName)]) -> Result<(), Failure> {
        for (host, job) in jobs {
            let life = tokio::time::timeout(BACK_AFTER, async {
                loop {
                    match self.fleet.life(*host) {
                        Some(life) => return life,
                        None => tokio::time::sleep(Duration::from_secs(1)).await,
                    }
                }
            });
            let away = |_| Failure::NotConverged(vec![format!("the daemon of {host} is not back")]);
            let Life { process, daemon } = life.await.map_err(away)?;
            self.tell(format_args!("signal wakeup --wait {job}"));
            let invocation = process.run(async { daemon.wakeup_and_wait(job.as_str()).await });
            let outcome = tokio::time::timeout(PATIENCE, invocation).await.map_err(|_| Failure::Hangs)?;
            expected(outcome.map(|outcome| outcome.map(|_| ())), &[])?;
            self.check()?;
        }
        Ok(())
    }
}

/// Whether a signal was answered as it may be; none if the daemon died.
fn expected(answer: Option<Result<(), SignalError>>, refusals: &[SignalError]) -> Result<(), Failure> {
    match answer {
        Some(Err(refused)) if !refusals.contains(&refused) => Err(Failure::Unsafe(vec![refused.to_string()])),
        _ => Ok(()),
    }
}
