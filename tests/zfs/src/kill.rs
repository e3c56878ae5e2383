//! Finds and kills children of the `zfs` kind that work on a case's own pools.

use anyhow::{Result, ensure};

use crate::replication::rig::{On, Stage};

/// Knows the pools whose children it may kill.
pub(crate) struct Killer {
    /// None on the model, which has no processes.
    pools: Option<[String; 2]>,
}

impl Killer {
    /// For the pools of a case.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Self> {
        let pools = match stage.on {
            On::Fake(_) => None,
            On::Real(_) => Some(stage.world.pools().map(|pool| pool.to_string())),
        };
        Ok(Self { pools })
    }

    /// Kills every `zfs VERB` on the pools; a case that goes on as if nothing had happened fails then.
    pub(crate) fn kill(&self, verb: &str) {
        for (process, arguments) in self.children() {
            if arguments.get(1).is_some_and(|argument| argument == verb || (verb == "receive" && argument == "recv")) {
                let _ = std::process::Command::new("bash").args(["-c", &format!("kill -9 {process}")]).status();
            }
        }
    }

    /// Fails if a child still runs.
    pub(crate) fn none_runs(&self) -> Result<()> {
        let children = self.children();
        ensure!(children.is_empty(), "still running: {children:?}");
        Ok(())
    }

    fn children(&self) -> Vec<(u32, Vec<String>)> {
        let Some(pools) = &self.pools else { return Vec::new() };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // Empty for a kernel thread or a zombie.
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let arguments: Vec<String> =
                line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
            let is_zfs = arguments.first().is_some_and(|program| program.rsplit('/').next() == Some("zfs"));
            if is_zfs && arguments.iter().any(|argument| pools.iter().any(|pool| argument.starts_with(pool.as_str()))) {
                found.push((process, arguments));
            }
        }
        found
    }
}
