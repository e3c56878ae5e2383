//! What the users of the machines do, whatever the daemons do meanwhile.

use std::sync::Arc;

use zfs::ErrorKind;

use crate::dice::Dice;
use crate::flow::{Flow, Places};
use crate::machine::Machine;
use crate::picture::newest_common;
use crate::process::Host;
use crate::room::Room;

/// The filesystems that may exist below `src`; one of them is a volume.
const NAMES: [&str; 7] =
    ["src/data", "src/data/a", "src/data/a/x", "src/data/b", "src/data/b/c", "src/data/b/c/d", "src/data/vol"];
const VOLUME: &str = "src/data/vol";

/// What a user did, if it could be done.
type Done = Result<(), ErrorKind>;

/// The users of all machines.
pub struct Users {
    /// Filesystems whose base they took away by force.
    pub broken: Places,
    room: Arc<Room>,
    machines: Vec<Machine>,
    flows: Vec<Flow>,
    dice: Dice,
    counter: u64,
}

impl Users {
    /// Users who act as `dice` say.
    pub fn new(room: &Arc<Room>, machines: &[Machine], dice: Dice) -> Self {
        let flows = room.watch(|watch| watch.flows().to_vec());
        Self { broken: Places::new(), room: Arc::clone(room), machines: machines.to_vec(), flows, dice, counter: 0 }
    }

    /// One of them does something.
    pub fn act(&mut self) {
        match self.dice.below(20) {
            0..=8 => self.take_snapshot(),
            9 => self.create_filesystem(),
            10..=12 => self.destroy_on_sender(),
            13 => self.destroy_on_receiver(),
            14 => self.roll_back(),
            15 => self.hold_or_bookmark_on_sender(),
            16 => self.hold_or_bookmark_on_receiver(),
            17 => self.destroy_all_snapshots(),
            _ => self.write(),
        }
    }

    /// Those who write are on the machines that do not only hold copies.
    fn some_sender(&mut self) -> Host {
        let is_first = |host: &Host| !self.flows.iter().any(|flow| flow.receiver == *host);
        let hosts: Vec<Host> = self.flows.iter().map(|flow| flow.sender).filter(is_first).collect();
        self.dice.pick(&hosts).copied().unwrap_or(Host::Sender)
    }

    fn machine(&self, host: Host) -> Machine {
        self.machines[host.index()].clone()
    }

    fn some_below(&mut self, host: Host, root: &str) -> Option<String> {
        let all: Vec<String> = self.machine(host).picture().into_keys().filter(|name| name.starts_with(root)).collect();
        self.dice.pick(&all).cloned()
    }

    fn some_filesystem(&mut self) -> Option<(Host, String)> {
        let host = self.some_sender();
        self.some_below(host, NAMES[0]).map(|name| (host, name))
    }

    fn some_snapshot(&mut self) -> Option<(Host, String, String)> {
        let (host, filesystem) = self.some_filesystem()?;
        let snapshots = self.machine(host).snapshots(&filesystem);
        self.dice.pick(&snapshots).map(|name| (host, filesystem, name.clone()))
    }

    fn some_received(&mut self) -> Option<(Host, String, String)> {
        let places: Vec<(Host, String)> = self.flows.iter().map(|flow| (flow.receiver, flow.root.clone())).collect();
        let (host, root) = self.dice.pick(&places).cloned()?;
        let filesystem = self.some_below(host, &root)?;
        let snapshots = self.machine(host).snapshots(&filesystem);
        self.dice.pick(&snapshots).map(|name| (host, filesystem, name.clone()))
    }

    fn did(&self, host: Host, what: impl std::fmt::Display, result: Done) {
        let refused = result.err().map(|kind| format!(": {kind}")).unwrap_or_default();
        self.room.user_did(format_args!("{host}: {what}{refused}"), &self.broken);
    }

    /// Somebody makes a filesystem and writes into it.
    pub fn create_filesystem(&mut self) {
        let host = self.some_sender();
        let name = *self.dice.pick(&NAMES).unwrap_or(&NAMES[0]);
        let machine = self.machine(host);
        if name == VOLUME {
            machine.create("src/data");
            let created = machine.create_volume(name);
            self.did(host, format_args!("create -V {name}"), created);
        } else {
            machine.create(name);
            self.did(host, format_args!("create {name}"), Ok(()));
        }
        self.write_to(host, name);
    }

    fn write(&mut self) {
        if let Some((host, filesystem)) = self.some_filesystem() {
            self.write_to(host, &filesystem);
        }
    }

    fn write_to(&mut self, host: Host, filesystem: &str) {
        let file = if filesystem == VOLUME { String::new() } else { format!("file{}", self.dice.below(4)) };
        let (bytes, seed) = (self.dice.below(1500), self.dice.number());
        // A pool that is away or full refuses.
        let _ = self.machine(host).write(filesystem, &file, bytes, seed);
    }

    fn take_snapshot(&mut self) {
        let Some((host, filesystem)) = self.some_filesystem() else { return };
        self.write_to(host, &filesystem);
        self.counter += 1;
        let prefix = if self.dice.chance(700) { "zrepl" } else { "manual" };
        let name = format!("{prefix}_{}", self.counter);
        let taken = self.machine(host).snapshot(&filesystem, &name);
        self.did(host, format_args!("snapshot {filesystem}@{name}"), taken);
    }

    fn destroy_on_sender(&mut self) {
        let Some((host, filesystem, name)) = self.some_snapshot() else { return };
        let destroyed = self.machine(host).destroy_snapshot(&filesystem, &name);
        self.did(host, format_args!("destroy {filesystem}@{name}"), destroyed);
    }

    /// Without its newest snapshot, what the receiver has counts as modified, and ZFS rightly refuses the
    /// next incremental stream until a person rolls it back: nobody destroys that.
    fn destroy_on_receiver(&mut self) {
        let Some((host, filesystem, name)) = self.some_received() else { return };
        if self.machine(host).snapshots(&filesystem).last() != Some(&name) {
            let destroyed = self.machine(host).destroy_snapshot(&filesystem, &name);
            self.did(host, format_args!("destroy {filesystem}@{name}"), destroyed);
        }
    }

    fn destroy_all_snapshots(&mut self) {
        let Some((host, filesystem)) = self.some_filesystem() else { return };
        for name in self.machine(host).snapshots(&filesystem) {
            let destroyed = self.machine(host).destroy_snapshot(&filesystem, &name);
            self.did(host, format_args!("destroy {filesystem}@{name}"), destroyed);
        }
    }

    fn roll_back(&mut self) {
        let Some((host, filesystem, name)) = self.some_snapshot() else { return };
        let lost: Vec<usize> =
            (0..self.flows.len()).filter(|flow| self.loses_base(*flow, host, &filesystem, &name)).collect();
        let rolled_back = self.machine(host).rollback(&filesystem, &name);
        if rolled_back.is_ok() {
            self.broken.extend(lost.into_iter().map(|flow| (flow, filesystem.clone())));
        }
        self.did(host, format_args!("rollback {filesystem}@{name}"), rolled_back);
    }

    fn loses_base(&self, flow: usize, host: Host, filesystem: &str, to: &str) -> bool {
        let flow = &self.flows[flow];
        let (sender, receiver) = (self.machine(host).picture(), self.machine(flow.receiver).picture());
        let loses = || {
            let sender = sender.get(filesystem).filter(|_| flow.sender == host)?;
            let base = newest_common(sender, receiver.get(&flow.on_receiver(filesystem))?)?;
            let to = sender.snapshots().find(|version| version.name == to)?;
            Some(to.createtxg < base.createtxg)
        };
        loses() == Some(true)
    }

    fn hold_or_bookmark_on_sender(&mut self) {
        if let Some((host, filesystem, name)) = self.some_snapshot() {
            self.hold_or_bookmark(host, &filesystem, &name);
        }
    }

    fn hold_or_bookmark_on_receiver(&mut self) {
        if let Some((host, filesystem, name)) = self.some_received() {
            self.hold_or_bookmark(host, &filesystem, &name);
        }
    }

    fn hold_or_bookmark(&mut self, host: Host, filesystem: &str, name: &str) {
        let machine = self.machine(host);
        if self.dice.chance(500) {
            let tags = ["keep", "zrepl_STEP_J_other", "zrepl_last_received_J_other"];
            let tag = *self.dice.pick(&tags).unwrap_or(&"keep");
            let held = machine.hold(filesystem, name, tag);
            self.did(host, format_args!("hold {tag} {filesystem}@{name}"), held);
        } else {
            self.counter += 1;
            let bookmark = format!("mark_{}", self.counter);
            let made = machine.bookmark(filesystem, name, &bookmark);
            self.did(host, format_args!("bookmark {filesystem}@{name} #{bookmark}"), made);
        }
    }
}
