//! `cargo xtask fuzz`: inputs that are changed until they reach code that none before did.
//!
//! Stable Rust has no switch for this, but the coverage pass of LLVM can be asked for by name.
//! Adding a target is a file in `fuzz/targets`, a `[[bin]]` in `fuzz/Cargo.toml` and an entry in
//! [`TARGETS`].

mod corpus;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{cache, cargo, children};

/// Something that takes bytes from outside.
struct Target {
    /// Of the program, of the folder of found inputs, and on the command line.
    name: &'static str,
    about: &'static str,
    /// Folder of the workspace with ordinary inputs to start from.
    seeds: &'static str,
    /// Longer inputs are not tried, bytes.
    max_length: usize,
}

const TARGETS: &[Target] = &[
    Target {
        name: "config",
        about: "the reader of configurations and all that it says",
        seeds: "tests/configs",
        max_length: 16_384,
    },
    Target { name: "handshake", about: "banner and label of a peer", seeds: "fuzz/seeds/handshake", max_length: 4_096 },
    Target {
        name: "frames",
        about: "frames, streams and times of a data connection",
        seeds: "fuzz/seeds/frames",
        max_length: 16_384,
    },
    Target {
        name: "headers",
        about: "the filter before the HTTP library of the control service",
        seeds: "fuzz/seeds/headers",
        max_length: 4_096,
    },
    Target {
        name: "messages",
        about: "requests and responses of a peer, and what is made of them",
        seeds: "fuzz/seeds/messages",
        max_length: 4_096,
    },
];

/// An input that takes more memory is a finding, MiB.
const MEMORY_LIMIT: u32 = 1024;
/// An input that takes longer is a finding, seconds.
const TIME_LIMIT: u32 = 5;

/// Longer inputs are not kept with the sources, bytes. What only longer ones reach is found again soon.
const KEPT_LENGTH: usize = 1024;

/// Coverage of edges and the values that comparisons see, as libFuzzer wants it.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Look for inputs that make a reader panic, hang or use too much memory
///
/// Without a name, list what there is. What was learnt is kept in ~/.cache/zrepl-dev/fuzz and is
/// where the next run starts, besides what is kept in fuzz/corpus with the sources. Needs a C++ compiler.
#[derive(Args)]
#[command(after_help = "Examples: cargo xtask fuzz config --for 10m; cargo xtask fuzz frames --keep")]
pub(crate) struct Arguments {
    /// What to fuzz
    name: Option<String>,
    /// How long to look, like 90s, 10m or 8h
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = duration)]
    length: Duration,
    /// Do not look: of all inputs that are known, put into fuzz/corpus the fewest and shortest that reach
    /// the same code
    #[arg(long, requires = "name")]
    keep: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number and a unit, s, m or h".into()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    // libFuzzer takes zero for no limit.
    match number.checked_mul(seconds).filter(|seconds| (1..=i32::MAX as u64).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err("between 1s and some years".into()),
    }
}

/// Runs `cargo xtask fuzz`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Some(name) = &arguments.name else {
        for target in TARGETS {
            println!("{:<10} {}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    };
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) if arguments.keep => keep(target),
        Some(target) => fuzz(target, arguments.length),
        None => bail!("nothing named {name} can be fuzzed; `cargo xtask fuzz` lists what can"),
    }
}

fn fuzz(target: &Target, length: Duration) -> Result<ExitCode> {
    let program = build(target)?;
    let (known, found) = (Known::new(target)?, Found::new(target)?);
    let mut command = command(&program, target.max_length, &found);
    command.arg(format!("-max_total_time={}", length.as_secs()));
    // New inputs go to the first folder; the others are only read.
    let status = children::run(command.args(known.folders()).arg(&found.folder))?;
    let news = found.news()?;
    for path in &news {
        report(path)?;
    }
    if news.is_empty() && !status.success() {
        bail!("the fuzzer ended with {status} without a finding");
    }
    Ok(if news.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn keep(target: &Target) -> Result<ExitCode> {
    let program = build(target)?;
    let (known, found) = (Known::new(target)?, Found::new(target)?);
    let fewest = cache::folder("fuzz")?.join("fewest").join(target.name);
    // Empty.
    corpus::unpack(Path::new(""), &fewest)?;
    let mut command = command(&program, target.max_length.min(KEPT_LENGTH), &found);
    command.arg("-merge=1").arg(&fewest).args(known.folders());
    let status = children::run(&mut command)?;
    // An input that ends the program is left out of the rest, and no failure.
    let news = found.news()?;
    for path in &news {
        report(path)?;
    }
    ensure!(news.is_empty(), "nothing is kept before what was found is put right");
    ensure!(status.success(), "the fuzzer ended with {status}");
    let count = corpus::pack(&fewest, &target.corpus())?;
    println!("{count} inputs in {}", target.corpus().display());
    Ok(ExitCode::SUCCESS)
}

fn build(target: &Target) -> Result<PathBuf> {
    // For a named platform, or build scripts and macros would be instrumented too, which nothing
    // links the runtime to.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = cargo::target_directory()?.join("fuzz");
    let mut command = cargo::cargo(["build", "--quiet", "--target", &triple, "--bin", target.name]);
    command.current_dir(cargo::workspace().join("fuzz"));
    command.env("RUSTFLAGS", INSTRUMENTATION).env("CARGO_TARGET_DIR", &folder);
    if !children::run(&mut command).context("cargo build")?.success() {
        bail!("building the fuzz target {} failed", target.name);
    }
    Ok(folder.join(triple).join("debug").join(target.name))
}

fn command(program: &Path, max_length: usize, found: &Found) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.arg(format!("-max_len={max_length}"));
    command.arg(format!("-rss_limit_mb={MEMORY_LIMIT}"));
    command.arg(format!("-timeout={TIME_LIMIT}"));
    command.arg(format!("-artifact_prefix={}/", found.folder.display()));
    command.arg("-print_final_stats=1");
    command
}

impl Target {
    /// The inputs that are kept with the sources.
    fn corpus(&self) -> PathBuf {
        cargo::workspace().join("fuzz/corpus").join(self.name)
    }
}

/// Folders with the inputs of a target that reach something.
struct Known {
    /// What was learnt on this machine.
    learnt: PathBuf,
    /// What is kept with the sources, unpacked.
    kept: PathBuf,
    /// Ordinary inputs.
    seeds: PathBuf,
}

impl Known {
    fn new(target: &Target) -> Result<Self> {
        let cache = cache::folder("fuzz")?;
        let (learnt, kept) = (cache.join(target.name), cache.join("kept").join(target.name));
        fs::create_dir_all(&learnt).with_context(|| format!("making {}", learnt.display()))?;
        corpus::unpack(&target.corpus(), &kept)?;
        Ok(Self { learnt, kept, seeds: cargo::workspace().join(target.seeds) })
    }

    fn folders(&self) -> [&Path; 3] {
        [&self.learnt, &self.kept, &self.seeds]
    }
}

/// The inputs of a target that once broke something. A test replays them for ever.
struct Found {
    folder: PathBuf,
    before: BTreeSet<PathBuf>,
}

impl Found {
    fn new(target: &Target) -> Result<Self> {
        let folder = cargo::workspace().join("fuzz/found").join(target.name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let before = files(&folder)?;
        Ok(Self { folder, before })
    }

    fn news(&self) -> Result<Vec<PathBuf>> {
        Ok(files(&self.folder)?.difference(&self.before).cloned().collect())
    }
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let read = || -> std::io::Result<_> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    read().with_context(|| format!("reading {}", folder.display()))
}

fn report(path: &Path) -> Result<()> {
    let input = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    println!("found {}:", path.display());
    println!("{}", input.escape_ascii());
    println!("keep the file: a test replays it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_unit_and_are_not_zero() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "0s", "10", "1d", "-1s", "99999999999h", "1h30m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_target_has_a_program_and_seeds() {
        for target in TARGETS {
            let manifest = include_str!("../../fuzz/Cargo.toml");
            assert!(manifest.contains(&format!("name = {:?}", target.name)), "{}", target.name);
            assert!(cargo::workspace().join(target.seeds).is_dir(), "{}", target.name);
        }
    }
}
