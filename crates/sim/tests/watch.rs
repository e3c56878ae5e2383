//! What the watch over safety must notice: a watch that never barks proves nothing.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test tells its failure by a panic")]

use model::JobName;
use sim::flow::Places;
use sim::machine::Machine;
use sim::process::Host;
use sim::world::{Setup, World, simulate};

const FILESYSTEM: &str = "src/data/fs";
const RECEIVED: &str = "dst/sink/client/src/data/fs";

fn write_and_snapshot(machine: &Machine, name: &str) {
    machine.write(FILESYSTEM, name, 2000, name.len() as u64).unwrap();
    machine.snapshot(FILESYSTEM, name).unwrap();
}

/// A world in which `snapshots` were replicated one by one.
async fn replicated(snapshots: &[&str]) -> World {
    let mut world = World::new(Setup::new(1));
    let sender = world.machine(Host::Sender).clone();
    sender.create(FILESYSTEM);
    for snapshot in snapshots {
        write_and_snapshot(&sender, snapshot);
        world.user_did(snapshot, &Places::new());
        world.invoke().await.unwrap();
    }
    world
}

/// What the watch says if this happens while a job works on a machine.
fn noticed(world: &World, host: Host, job: &str, deed: impl FnOnce(&Machine)) -> Vec<String> {
    let (process, job) = (world.room.process(host), JobName::parse(job).unwrap());
    let op = world.room.begin_op((host, &process, &job), "deed", String::new(), true);
    deed(world.machine(host));
    world.room.look(&op);
    world.room.watch(|watch| watch.violations().to_vec())
}

#[test]
fn a_hold_is_the_business_of_its_job_alone() {
    simulate(async || {
        let tag = "zrepl_last_received_J_sink";
        let release = |machine: &Machine| machine.release(RECEIVED, "one", tag).unwrap();
        let world = replicated(&["one"]).await;
        assert_eq!(noticed(&world, Host::Receiver, "sink", release), Vec::<String>::new());
        let world = replicated(&["one"]).await;
        let found = noticed(&world, Host::Receiver, "other", release);
        assert!(found.len() == 1 && found[0].contains("foreign hold"), "{found:?}");
    });
}

#[test]
fn what_no_plan_has_named_must_stay() {
    simulate(async || {
        let world = replicated(&["one", "two"]).await;
        let destroy = |machine: &Machine| machine.destroy_snapshot(FILESYSTEM, "one").unwrap();
        let found = noticed(&world, Host::Sender, "push", destroy);
        assert!(found.len() == 1 && found[0].contains("no plan has named it"), "{found:?}");
    });
}

#[test]
fn the_base_must_stay_the_base() {
    simulate(async || {
        let world = replicated(&["one", "two"]).await;
        let found = noticed(&world, Host::Sender, "push", |machine| machine.rollback(FILESYSTEM, "one").unwrap());
        assert!(found.iter().any(|one| one.contains("the newest common version")), "{found:?}");
    });
}

#[test]
fn a_base_that_is_gone_from_the_receiver_is_noticed() {
    simulate(async || {
        let world = replicated(&["one"]).await;
        let found = noticed(&world, Host::Receiver, "sink", |machine| {
            machine.release(RECEIVED, "one", "zrepl_last_received_J_sink").unwrap();
            machine.destroy_snapshot(RECEIVED, "one").unwrap();
        });
        assert!(found.iter().any(|one| one.contains("has no common version any longer")), "{found:?}");
    });
}

#[test]
fn a_leftover_hold_is_stale() {
    simulate(async || {
        let mut world = replicated(&["one", "two"]).await;
        let level = world.standings(&Places::new());
        assert_eq!((level.behind, level.stuck), (Vec::new(), Vec::new()));
        world.machine(Host::Receiver).hold(RECEIVED, "one", "zrepl_last_received_J_sink").unwrap();
        world.machine(Host::Sender).hold(FILESYSTEM, "one", "zrepl_STEP_J_push").unwrap();
        world.user_did("holds appear", &Places::new());
        let behind = world.standings(&Places::new()).behind;
        assert!(behind.len() == 1 && behind[0].contains("step holds"), "{behind:?}");
        world.come_to_rest(1, &Places::new()).await.unwrap();
    });
}
