//! The command lines: pure functions from arguments of the model to words.

use model::{DatasetName, HoldTag, NameError, PropertyName, VersionKind, VersionName, VersionRef};

use crate::listing::Hold;
use crate::ops::{PlaceholderEncryption, ReceiveArgs, ReceiveTarget, SendArgs, SendFlags, SendSource, Snapshot};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Zfs,
    Zpool,
}

/// What kind of command it is, which decides how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Only reads.
    Query,
    /// Changes something; waits for a transaction group, or for many.
    Change,
    /// Moves a stream; no limit but that data keeps moving.
    Stream,
}

/// One command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argv {
    pub(crate) program: Program,
    pub(crate) class: Class,
    pub(crate) args: Vec<String>,
    /// A word that `zfs` would take for an option. ZFS has no such names, but a peer may send one.
    pub(crate) refused: Option<NameError>,
}

impl Argv {
    fn new(program: Program, class: Class, options: &[&str]) -> Self {
        Self { program, class, args: options.iter().map(ToString::to_string).collect(), refused: None }
    }

    fn zfs(class: Class, options: &[&str]) -> Self {
        Self::new(Program::Zfs, class, options)
    }

    fn option(mut self, word: impl ToString) -> Self {
        self.args.push(word.to_string());
        self
    }

    fn option_if(self, wanted: bool, word: &str) -> Self {
        if wanted { self.option(word) } else { self }
    }

    /// A word that is a name or a value.
    fn operand(mut self, word: impl ToString) -> Self {
        let word = word.to_string();
        if word.is_empty() || word.starts_with('-') {
            let problem = "is empty or starts with '-', which zfs would take for an option".to_owned();
            self.refused.get_or_insert(NameError { what: "name", name: word.clone(), problem });
        }
        self.option(word)
    }

    fn operands<T: ToString>(self, words: impl IntoIterator<Item = T>) -> Self {
        words.into_iter().fold(self, Argv::operand)
    }

    /// Bytes that the words take in the argument area of a process: text, terminator and pointer.
    pub(crate) fn cost(word_len: usize) -> usize {
        word_len + 1 + size_of::<usize>()
    }
}

/// The columns of [`list_versions`].
pub(crate) const VERSION_COLUMNS: &str = "name,guid,createtxg,creation,userrefs";

/// The properties of [`get_datasets`]. A value with a line break can only be the last one, which is
/// why a person's own text comes last.
pub(crate) const DATASET_PROPERTIES: &str = "type,keystatus,receive_resume_token,zrepl:placeholder";

/// How far below the named datasets a query looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    All,
    ThisOne,
}

/// Versions of datasets. The order of ZFS is not asked for: sorting costs it half as much time again.
pub(crate) fn list_versions(depth: Depth, roots: &[DatasetName]) -> Argv {
    let argv = match depth {
        Depth::All => Argv::zfs(Class::Query, &["list", "-Hp", "-r"]),
        Depth::ThisOne => Argv::zfs(Class::Query, &["list", "-Hp", "-d", "1"]),
    };
    argv.option("-t").option("snapshot,bookmark").option("-o").option(VERSION_COLUMNS).operands(roots)
}

/// Properties of datasets. Received and inherited values are left to ZFS to drop: they count for
/// nothing, and text that a peer chose would otherwise be in the output, line breaks included.
pub(crate) fn get_datasets(depth: Depth, roots: &[DatasetName]) -> Argv {
    Argv::zfs(Class::Query, &["get", "-Hp", "-s", "local,none"])
        .option_if(depth == Depth::All, "-r")
        .option("-t")
        .option("filesystem,volume")
        .option("-o")
        .option("name,property,value,source")
        .option(DATASET_PROPERTIES)
        .operands(roots)
}

/// What tells whether a dataset is empty; the one that only newer versions of ZFS know is asked for
/// on demand. `mountpoint` is last, a person's own text.
pub(crate) fn get_contents(name: &DatasetName, with_snapshots_changed: bool) -> Argv {
    let properties = match with_snapshots_changed {
        true => "type,logicalreferenced,mounted,snapshots_changed,mountpoint",
        false => "type,logicalreferenced,mounted,mountpoint",
    };
    Argv::zfs(Class::Query, &["get", "-Hp", "-o", "property,value"]).option(properties).operand(name)
}

pub(crate) fn get_guid(object: &str) -> Argv {
    Argv::zfs(Class::Query, &["get", "-Hp", "-o", "value", "guid"]).operand(object)
}

pub(crate) fn holds(snapshots: &[&Snapshot]) -> Argv {
    Argv::zfs(Class::Query, &["holds", "-H"]).operands(snapshots)
}

pub(crate) fn create_placeholder(name: &DatasetName, encryption: PlaceholderEncryption) -> Argv {
    let argv = Argv::zfs(Class::Change, &["create", "-o", "zrepl:placeholder=on", "-o", "mountpoint=none"]);
    match encryption {
        PlaceholderEncryption::Inherit => argv,
        PlaceholderEncryption::Off => argv.option("-o").option("encryption=off"),
    }
    .operand(name)
}

pub(crate) fn set_property(name: &DatasetName, property: &PropertyName, value: &str) -> Argv {
    Argv::zfs(Class::Change, &["set"]).operand(format!("{property}={value}")).operand(name)
}

pub(crate) fn snapshot(snapshots: &[&Snapshot]) -> Argv {
    Argv::zfs(Class::Change, &["snapshot"]).operands(snapshots)
}

pub(crate) fn bookmark(dataset: &DatasetName, source: &VersionRef, bookmark: &VersionName) -> Argv {
    Argv::zfs(Class::Change, &["bookmark"]).operand(version(dataset, source)).operand(format!("{dataset}#{bookmark}"))
}

pub(crate) fn hold(tag: &HoldTag, snapshots: &[&Snapshot]) -> Argv {
    Argv::zfs(Class::Change, &["hold"]).operand(tag).operands(snapshots)
}

pub(crate) fn release(tag: &HoldTag, snapshots: &[&Snapshot]) -> Argv {
    Argv::zfs(Class::Change, &["release"]).operand(tag).operands(snapshots)
}

pub(crate) fn destroy_snapshots(dataset: &DatasetName, names: &[&VersionName]) -> Argv {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    destroy(format!("{dataset}@{}", names.join(",")))
}

pub(crate) fn destroy(object: impl ToString) -> Argv {
    Argv::zfs(Class::Change, &["destroy"]).operand(object)
}

/// Without `-r`, so that nothing but live data can be lost.
pub(crate) fn rollback(snapshot: &Snapshot) -> Argv {
    Argv::zfs(Class::Change, &["rollback"]).operand(snapshot)
}

pub(crate) fn rename(from: &DatasetName, to: &DatasetName) -> Argv {
    Argv::zfs(Class::Change, &["rename"]).operand(from).operand(to)
}

/// `-v -P` on the real send makes ZFS print its estimate before the first byte, so that no second
/// process is needed for it; the stream stays the same.
pub(crate) fn send(args: &SendArgs) -> Argv {
    send_words(Argv::zfs(Class::Stream, &["send", "-v", "-P"]), args)
}

pub(crate) fn estimate_send(args: &SendArgs) -> Argv {
    send_words(Argv::zfs(Class::Query, &["send", "-n", "-v", "-P"]), args)
}

fn send_words(argv: Argv, args: &SendArgs) -> Argv {
    match &args.source {
        SendSource::Resume { token } => argv.option("-t").operand(token),
        SendSource::Snapshot { from, to, flags } => {
            let argv = send_flags(argv, *flags);
            let argv = match from {
                Some(from) => argv.option("-i").operand(version(&args.dataset, from)),
                None => argv,
            };
            argv.operand(version(&args.dataset, to))
        }
    }
}

fn send_flags(argv: Argv, flags: SendFlags) -> Argv {
    argv.option_if(flags.raw, "-w")
        .option_if(flags.properties, "-p")
        .option_if(flags.backup_properties, "-b")
        .option_if(flags.large_blocks, "-L")
        .option_if(flags.compressed, "-c")
        .option_if(flags.embedded, "-e")
}

pub(crate) fn receive(args: &ReceiveArgs) -> Argv {
    let argv = Argv::zfs(Class::Stream, &["recv"])
        .option_if(args.target == ReceiveTarget::Replace, "-F")
        .option_if(args.resumable, "-s");
    let argv = args.inherit.iter().fold(argv, |argv, property| argv.option("-x").operand(property));
    let argv =
        args.set.iter().fold(argv, |argv, (property, value)| argv.option("-o").operand(format!("{property}={value}")));
    argv.operand(format!("{}@{}", args.dataset, args.snapshot))
}

pub(crate) fn abort_receive(name: &DatasetName) -> Argv {
    Argv::zfs(Class::Change, &["recv", "-A"]).operand(name)
}

/// The names of all pools, which says nothing of whether they work.
pub(crate) fn pools() -> Argv {
    Argv::new(Program::Zpool, Class::Query, &["list", "-H", "-o", "name"])
}

pub(crate) fn extensible_dataset(pool: &str) -> Argv {
    Argv::new(Program::Zpool, Class::Query, &["get", "-Hp", "-o", "value", "feature@extensible_dataset"]).operand(pool)
}

/// Full name of a version.
pub(crate) fn version(dataset: &DatasetName, version: &VersionRef) -> String {
    format!("{dataset}{version}")
}

/// Whether a version kind is written with this delimiter.
pub(crate) fn kind_of(delimiter: u8) -> Option<VersionKind> {
    match delimiter {
        b'@' => Some(VersionKind::Snapshot),
        b'#' => Some(VersionKind::Bookmark),
        _ => None,
    }
}

impl Hold {
    /// The snapshot that carries it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { dataset: self.dataset.clone(), name: self.snapshot.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Guid;

    use super::*;

    fn dataset(name: &str) -> DatasetName {
        DatasetName::parse(name).unwrap()
    }

    fn property(name: &str) -> PropertyName {
        PropertyName::parse(name).unwrap()
    }

    fn snap(text: &str) -> Snapshot {
        let (dataset, name) = text.split_once('@').unwrap();
        Snapshot { dataset: DatasetName::parse(dataset).unwrap(), name: VersionName::parse(name).unwrap() }
    }

    fn reference(text: &str) -> VersionRef {
        VersionRef {
            kind: kind_of(text.as_bytes()[0]).unwrap(),
            name: VersionName::parse(&text[1..]).unwrap(),
            guid: Guid(1),
        }
    }

    #[track_caller]
    fn is(argv: &Argv, words: &[&str]) {
        assert_eq!(argv.refused, None);
        assert_eq!(argv.args, words);
    }

    #[test]
    fn listings() {
        let roots = [dataset("p/a b"), dataset("q")];
        is(
            &list_versions(Depth::All, &roots),
            &[
                "list",
                "-Hp",
                "-r",
                "-t",
                "snapshot,bookmark",
                "-o",
                "name,guid,createtxg,creation,userrefs",
                "p/a b",
                "q",
            ],
        );
        is(
            &list_versions(Depth::ThisOne, &roots[1..]),
            &["list", "-Hp", "-d", "1", "-t", "snapshot,bookmark", "-o", "name,guid,createtxg,creation,userrefs", "q"],
        );
        let tail = ["-t", "filesystem,volume", "-o", "name,property,value,source"];
        let properties = "type,keystatus,receive_resume_token,zrepl:placeholder";
        is(
            &get_datasets(Depth::All, &[]),
            &[&["get", "-Hp", "-s", "local,none", "-r"], &tail[..], &[properties]].concat(),
        );
        is(
            &get_datasets(Depth::ThisOne, &roots[..1]),
            &[&["get", "-Hp", "-s", "local,none"], &tail[..], &[properties, "p/a b"]].concat(),
        );
        let contents = "type,logicalreferenced,mounted,snapshots_changed,mountpoint";
        is(&get_contents(&roots[0], true), &["get", "-Hp", "-o", "property,value", contents, "p/a b"]);
        let contents = "type,logicalreferenced,mounted,mountpoint";
        is(&get_contents(&roots[0], false), &["get", "-Hp", "-o", "property,value", contents, "p/a b"]);
        is(&get_guid("p/a#b"), &["get", "-Hp", "-o", "value", "guid", "p/a#b"]);
        let pool = extensible_dataset("p");
        assert_eq!(pool.program, Program::Zpool);
        is(&pool, &["get", "-Hp", "-o", "value", "feature@extensible_dataset", "p"]);
        assert_eq!(pools().program, Program::Zpool);
        is(&pools(), &["list", "-H", "-o", "name"]);
    }

    #[test]
    fn bulk_commands_take_all_their_items() {
        let (a, b) = (snap("p/a@1 2"), snap("p/b@1"));
        let tag = HoldTag::parse("zrepl_STEP_J_x y").unwrap();
        is(&snapshot(&[&a, &b]), &["snapshot", "p/a@1 2", "p/b@1"]);
        is(&hold(&tag, &[&a, &b]), &["hold", "zrepl_STEP_J_x y", "p/a@1 2", "p/b@1"]);
        is(&release(&tag, &[&a]), &["release", "zrepl_STEP_J_x y", "p/a@1 2"]);
        is(&holds(&[&a, &b]), &["holds", "-H", "p/a@1 2", "p/b@1"]);
        is(&destroy_snapshots(&a.dataset, &[&a.name, &b.name]), &["destroy", "p/a@1 2,1"]);
        is(&destroy("p/a#x"), &["destroy", "p/a#x"]);
        is(&rollback(&a), &["rollback", "p/a@1 2"]);
        is(&rename(&dataset("p/a"), &dataset("p/b c")), &["rename", "p/a", "p/b c"]);
    }

    #[test]
    fn single_commands() {
        let name = dataset("p/a");
        let base = ["create", "-o", "zrepl:placeholder=on", "-o", "mountpoint=none"];
        is(&create_placeholder(&name, PlaceholderEncryption::Inherit), &[&base[..], &["p/a"]].concat());
        is(
            &create_placeholder(&name, PlaceholderEncryption::Off),
            &[&base[..], &["-o", "encryption=off", "p/a"]].concat(),
        );
        is(&set_property(&name, &PropertyName::PLACEHOLDER, "off"), &["set", "zrepl:placeholder=off", "p/a"]);
        let to = VersionName::parse("new").unwrap();
        is(&bookmark(&name, &reference("@1"), &to), &["bookmark", "p/a@1", "p/a#new"]);
        is(&bookmark(&name, &reference("#1"), &to), &["bookmark", "p/a#1", "p/a#new"]);
        is(&abort_receive(&name), &["recv", "-A", "p/a"]);
    }

    fn send_of(from: Option<&str>, flags: SendFlags) -> SendArgs {
        let source = SendSource::Snapshot { from: from.map(reference), to: reference("@2"), flags };
        SendArgs { dataset: dataset("p/a"), source }
    }

    #[test]
    fn each_send_flag_is_its_own_word() {
        let none = SendFlags::default();
        is(&send(&send_of(None, none)), &["send", "-v", "-P", "p/a@2"]);
        is(&send(&send_of(Some("@1"), none)), &["send", "-v", "-P", "-i", "p/a@1", "p/a@2"]);
        is(&send(&send_of(Some("#1"), none)), &["send", "-v", "-P", "-i", "p/a#1", "p/a@2"]);
        for (flags, word) in [
            (SendFlags { raw: true, ..none }, "-w"),
            (SendFlags { properties: true, ..none }, "-p"),
            (SendFlags { backup_properties: true, ..none }, "-b"),
            (SendFlags { large_blocks: true, ..none }, "-L"),
            (SendFlags { compressed: true, ..none }, "-c"),
            (SendFlags { embedded: true, ..none }, "-e"),
        ] {
            is(&send(&send_of(None, flags)), &["send", "-v", "-P", word, "p/a@2"]);
            is(&estimate_send(&send_of(None, flags)), &["send", "-n", "-v", "-P", word, "p/a@2"]);
        }
    }

    #[test]
    fn a_token_carries_the_options_itself() {
        let args = SendArgs { dataset: dataset("p/a"), source: SendSource::Resume { token: "1-ab-c-d".into() } };
        is(&send(&args), &["send", "-v", "-P", "-t", "1-ab-c-d"]);
        is(&estimate_send(&args), &["send", "-n", "-v", "-P", "-t", "1-ab-c-d"]);
    }

    #[test]
    fn receives() {
        let plain = ReceiveArgs {
            dataset: dataset("q/r"),
            snapshot: VersionName::parse("2").unwrap(),
            target: ReceiveTarget::Continue,
            resumable: false,
            set: vec![],
            inherit: vec![],
            stall_limit: Duration::from_secs(1),
        };
        is(&receive(&plain), &["recv", "q/r@2"]);
        is(&receive(&ReceiveArgs { resumable: true, ..plain.clone() }), &["recv", "-s", "q/r@2"]);
        let all = ReceiveArgs {
            target: ReceiveTarget::Replace,
            resumable: true,
            set: vec![(property("canmount"), "off".into()), (property("a:b"), "c d".into())],
            inherit: vec![property("mountpoint"), property("x:y")],
            ..plain
        };
        is(
            &receive(&all),
            &["recv", "-F", "-s", "-x", "mountpoint", "-x", "x:y", "-o", "canmount=off", "-o", "a:b=c d", "q/r@2"],
        );
    }

    #[test]
    fn a_name_that_looks_like_an_option_is_refused() {
        assert!(destroy("-r").refused.is_some());
        assert!(list_versions(Depth::All, &[dataset("p"), dataset("-r")]).refused.is_some());
        assert!(
            send(&SendArgs { dataset: dataset("p"), source: SendSource::Resume { token: "-F".into() } })
                .refused
                .is_some()
        );
    }
}
