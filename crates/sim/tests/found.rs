//! Worlds that once went wrong, cut down to what it took.

use std::collections::BTreeSet;

use model::protection::ProtectionStrategy;
use sim::fault::{Fault, Faults, NoFaults, Site, StreamReader, Victims};
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
        receives.then(|| Fault::AtByte(self.0, Box::new(Fault::Kill(Victims::Both))))
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
        world.user_did("first", &[]);
        world.set_faults(DieAtByte(3500));
        world.invoke().await.unwrap();
        let target = "dst/sink/client/src/data/parent";
        let left = world.machine(Host::Receiver).picture();
        assert!(left[target].partial.is_some() && left[target].versions.is_empty(), "{:?}", left[target]);

        sender.destroy_snapshot("src/data/parent", "first").unwrap();
        write_and_snapshot(&sender, "src/data/parent/child", "of child");
        world.user_did("first destroyed, child snapshotted", &[]);
        world.set_faults(NoFaults);
        world.invoke().await.unwrap();
        assert_eq!(world.machine(Host::Receiver).snapshots(&format!("{target}/child")), ["of child"]);

        write_and_snapshot(&sender, "src/data/parent", "second");
        world.user_did("second", &[]);
        assert_eq!(world.come_to_rest(1, &BTreeSet::new()).await, Ok((1, Vec::new())));
        assert_eq!(world.machine(Host::Receiver).snapshots(target), ["second"]);
    });
}
