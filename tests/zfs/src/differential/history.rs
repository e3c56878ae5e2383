//! Histories: what is done, drawn by seed, in terms that mean the same on every machine.
//!
//! Objects are named by small numbers, so that a history uses the same ones again and again, and stays
//! meaningful when steps are left out of it.

/// One step. Numbers are taken modulo what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Create {
        dataset: usize,
    },
    Write {
        dataset: usize,
        file: u8,
        size: usize,
        seed: u64,
    },
    Remove {
        dataset: usize,
        file: u8,
    },
    Snapshot {
        dataset: usize,
        name: u8,
    },
    Bookmark {
        dataset: usize,
        version: usize,
        name: u8,
    },
    Hold {
        dataset: usize,
        snapshot: u8,
        tag: u8,
    },
    Release {
        dataset: usize,
        snapshot: u8,
        tag: u8,
    },
    Destroy {
        dataset: usize,
        snapshots: Vec<u8>,
    },
    DestroyBookmark {
        dataset: usize,
        name: u8,
    },
    DestroyDataset {
        dataset: usize,
    },
    Clone {
        dataset: usize,
        snapshot: u8,
        number: u8,
    },
    Rollback {
        dataset: usize,
        snapshot: u8,
    },
    SetProperty {
        dataset: usize,
        value: u8,
    },
    /// From the version number `from` (the last number: in full) to the snapshot number `to`, as the
    /// listing orders them, into another dataset.
    Transfer {
        dataset: usize,
        from: usize,
        to: usize,
        target: usize,
        name: u8,
        force: bool,
        resumable: bool,
        properties: bool,
        /// The stream ends early.
        cut: Option<Cut>,
    },
    Resume {
        target: usize,
        into: usize,
        name: u8,
        force: bool,
        cut: Option<Cut>,
    },
    Abort {
        dataset: usize,
    },
}

/// Where a stream ends. Streams of the same content are not equally long on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// After so many bytes: around the first records, where nothing or little is kept.
    Bytes(u64),
    /// After so many thousandths of it.
    Share(u64),
}

pub(super) const DATASETS: usize = 6;
const NAMES: u64 = 4;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    fn name(&mut self) -> u8 {
        self.below(NAMES) as u8
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn cut(&mut self) -> Option<Cut> {
        match self.below(10) {
            0..4 => None,
            4 => Some(Cut::Bytes(self.below(2000))),
            _ => Some(Cut::Share(self.below(950))),
        }
    }
}

/// A history that begins with something to work on.
pub(super) fn random(seed: u64, length: usize) -> Vec<Step> {
    let mut rng = Rng(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut steps: Vec<Step> = [0, 1, 3].map(|dataset| Step::Create { dataset }).to_vec();
    for name in 0..2 {
        steps.push(write(&mut rng, 0));
        steps.push(Step::Snapshot { dataset: 0, name });
    }
    steps.extend((0..length).map(|_| step(&mut rng)));
    steps
}

fn write(rng: &mut Rng, dataset: usize) -> Step {
    let size = [0, 100, 5000, 300_000][rng.index(4)];
    Step::Write { dataset, file: rng.name(), size, seed: rng.below(5) }
}

fn step(rng: &mut Rng) -> Step {
    // The first half of the datasets is on one pool and sends, the other receives; sometimes not.
    let sender = if rng.chance(90) { rng.index(DATASETS / 2) } else { rng.index(DATASETS) };
    let receiver = if rng.chance(90) { DATASETS / 2 + rng.index(DATASETS / 2) } else { rng.index(DATASETS) };
    let any = rng.index(DATASETS);
    match rng.below(100) {
        0..6 => Step::Create { dataset: any },
        6..18 => {
            let dataset = if rng.chance(75) { sender } else { receiver };
            write(rng, dataset)
        }
        18..21 => Step::Remove { dataset: sender, file: rng.name() },
        21..33 => Step::Snapshot { dataset: if rng.chance(75) { sender } else { receiver }, name: rng.name() },
        33..38 => Step::Bookmark { dataset: any, version: rng.index(8), name: rng.name() },
        38..42 => Step::Hold { dataset: any, snapshot: rng.name(), tag: rng.name() },
        42..45 => Step::Release { dataset: any, snapshot: rng.name(), tag: rng.name() },
        45..52 => {
            let count = 1 + rng.index(3);
            Step::Destroy { dataset: any, snapshots: (0..count).map(|_| rng.name()).collect() }
        }
        52..54 => Step::DestroyBookmark { dataset: any, name: rng.name() },
        54..56 => Step::DestroyDataset { dataset: any },
        56..57 => Step::Clone { dataset: any, snapshot: rng.name(), number: rng.name() },
        57..59 => Step::Rollback { dataset: any, snapshot: rng.name() },
        59..61 => Step::SetProperty { dataset: any, value: rng.name() },
        61..87 => Step::Transfer {
            dataset: sender,
            from: rng.index(6),
            to: rng.index(4),
            target: receiver,
            name: rng.name(),
            force: rng.chance(40),
            resumable: rng.chance(75),
            properties: rng.chance(15),
            cut: rng.cut(),
        },
        87..97 => {
            let into = if rng.chance(90) { receiver } else { any };
            Step::Resume { target: receiver, into, name: rng.name(), force: rng.chance(40), cut: rng.cut() }
        }
        _ => Step::Abort { dataset: receiver },
    }
}
