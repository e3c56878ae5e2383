//! Worlds that once went wrong, cut down to what it took.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test tells its failure by a panic")]

use model::plan::prune::KeepRule;
use model::protection::ProtectionStrategy;
use sim::fault::{Fault, Faults, NoFaults, Site, StreamReader, Victims};
use sim::flow::Places;
use sim::machine::Machine;
use sim::process::Host;
use sim::world::{Setup, World, simulate};

fn write_and_snapshot(machine: &Machine, filesystem: &str, name: &str) {
    for file in ["one", "two"] {
        machine.write(filesystem, file, 2000, name.len() as u64).unwrap();
    }
    machine.snapshot(filesystem, name).unwrap();
}

/// Both daemons die when the receiver has read so many bytes of a stream.
struct DieAtByte(u64);

impl Faults for DieAtByte {
    fn at(&mut self, site: &Site) -> Option<Fault> {
        let receives = matches!(site, Site::Stream { reader: StreamReader::Receive, .. });
        receives.then(|| Fault::AtByte(self.0, Box::new(Fault::Kill(Victims::All))))
    }
}

/// The parent's first step was interrupted, then its snapshot was destroyed, so nothing makes the child
/// wait. ZFS creates the child below the state of the interrupted receive, and would then never again
/// discard that state (`dataset already exists`) or receive another full stream there.
#[test]
fn a_child_does_not_arrive_below_an_interrupted_receive() {
    simulate(async || {
        let mut world = World::new(Setup::new(1).protected_by(ProtectionStrategy::Incremental));
        let sender = world.machine(Host::Sender).clone();
        sender.create("src/data/parent/child");
        write_and_snapshot(&sender, "src/data/parent", "first");
        world.user_did("first", &Places::new());
        world.set_faults(DieAtByte(3500));
        world.invoke().await.unwrap();
        let target = "dst/sink/client/src/data/parent";
        let left = world.machine(Host::Receiver).picture();
        assert!(left[target].partial.is_some() && left[target].versions.is_empty(), "{:?}", left[target]);

        sender.destroy_snapshot("src/data/parent", "first").unwrap();
        write_and_snapshot(&sender, "src/data/parent/child", "of child");
        world.user_did("first destroyed, child snapshotted", &Places::new());
        world.set_faults(NoFaults);
        world.invoke().await.unwrap();
        assert_eq!(world.machine(Host::Receiver).snapshots(&format!("{target}/child")), ["of child"]);

        write_and_snapshot(&sender, "src/data/parent", "second");
        world.user_did("second", &Places::new());
        assert_eq!(world.come_to_rest(1, &Places::new()).await, Ok((1, Vec::new())));
        assert_eq!(world.machine(Host::Receiver).snapshots(target), ["second"]);
    });
}

/// A rollback takes the cursor away and leaves an older snapshot as the only common version. While the
/// receiver cannot be asked, no rule of the sender may let that one go.
#[test]
fn a_sender_without_cursor_prunes_nothing_while_the_receiver_is_away() {
    simulate(async || {
        let keep_last = KeepRule::LastN { count: 1, regex: None };
        let mut world = World::new(Setup { keep_sender: vec![keep_last], ..Setup::new(1) });
        let sender = world.machine(Host::Sender).clone();
        let filesystem = "src/data/fs";
        sender.create(filesystem);
        write_and_snapshot(&sender, filesystem, "common");
        world.user_did("common", &Places::new());
        world.invoke().await.unwrap();
        sender.hold(filesystem, "common", "keep").unwrap();
        write_and_snapshot(&sender, filesystem, "lost later");
        world.user_did("lost later", &Places::new());
        world.invoke().await.unwrap();

        sender.rollback(filesystem, "common").unwrap();
        sender.release(filesystem, "common", "keep").unwrap();
        write_and_snapshot(&sender, filesystem, "new");
        world.user_did("rolled back", &Places::from([(0, filesystem.to_owned())]));
        world.machine(Host::Receiver).set_imported(false);
        world.invoke().await.unwrap();
        assert_eq!(sender.snapshots(filesystem), ["common", "new"]);
    });
}

/// The sides have diverged. What is live on the receiver belongs to its newest snapshot, of which it may
/// have the only copy: rules that do not name it must not let it go.
#[test]
fn a_receiver_that_has_diverged_keeps_its_newest_snapshot() {
    simulate(async || {
        let keep = KeepRule::Regex { regex: regex::Regex::new("^common$").unwrap(), negate: false };
        let setup = Setup { keep_receiver: vec![keep], ..Setup::new(1) };
        let mut world = World::new(setup.protected_by(ProtectionStrategy::Nothing));
        let sender = world.machine(Host::Sender).clone();
        let filesystem = "src/data/fs";
        sender.create(filesystem);
        for name in ["common", "lost later"] {
            write_and_snapshot(&sender, filesystem, name);
            world.user_did(name, &Places::new());
            world.invoke().await.unwrap();
        }
        sender.destroy_snapshot(filesystem, "lost later").unwrap();
        world.user_did("destroyed", &Places::new());
        world.invoke().await.unwrap();
        let there = world.machine(Host::Receiver).snapshots("dst/sink/client/src/data/fs");
        assert_eq!(there, ["common", "lost later"]);
    });
}
