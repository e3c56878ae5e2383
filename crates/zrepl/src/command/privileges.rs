//! What a daemon that is not root must be allowed to do.

use std::fmt::Write;

use config::Config;
use config::types::Job;
use model::{DatasetName, FilesystemFilter};

/// What a side that sends needs: snapshots of its own, streams, and protections on both.
const SEND: &str = "bookmark,destroy,hold,mount,release,send,snapshot";
/// What a side that receives needs. Options of `recv.properties` need their properties besides.
const RECEIVE: &str = "canmount,create,destroy,hold,mount,mountpoint,receive,release,rename,rollback,userprop";

/// A warning, with the commands that help, for a program that runs as this user; none for root.
pub(super) fn advice(user: u32, config: &Config) -> Option<String> {
    if user == 0 || config.jobs.is_empty() {
        return None;
    }
    let mut text = format!(
        "the daemon runs as user {user}, not as root: ZFS must allow it what the jobs do, and mounting needs \
         root on Linux. If something is refused, as root:"
    );
    let mut allow = |job: &Job, what: &str, dataset: &str| {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  zfs allow -u {user} {what} {dataset}  # job {}", job.name());
    };
    for job in &config.jobs {
        match job {
            Job::Push(one) => roots(&one.filesystems).iter().for_each(|root| allow(job, SEND, root)),
            Job::Source(one) => roots(&one.filesystems).iter().for_each(|root| allow(job, SEND, root)),
            Job::Snap(one) => roots(&one.filesystems).iter().for_each(|root| allow(job, SEND, root)),
            Job::Sink(one) => allow(job, RECEIVE, one.root_fs.as_str()),
            Job::Pull(one) => allow(job, RECEIVE, one.root_fs.as_str()),
        }
    }
    Some(text)
}

fn roots(filter: &FilesystemFilter) -> Vec<String> {
    match filter.roots() {
        Some(roots) => roots.iter().map(DatasetName::to_string).collect(),
        None => vec!["POOL".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
jobs:
- type: snap
  name: a
  filesystems: {"p/a<": true, "q/b": true}
  snapshotting: {type: manual}
  pruning: {keep: [{type: last_n, count: 1}]}
- type: sink
  name: b
  root_fs: p/backup
  serve: {type: local, listener_name: l}
"#;

    #[test]
    fn every_job_has_its_line_and_root_has_none() {
        let config = config::parse("zrepl.yml", CONFIG).unwrap().config;
        assert_eq!(advice(0, &config), None);
        let text = advice(7, &config).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  zfs allow -u 7 bookmark,destroy,hold,mount,release,send,snapshot p/a  # job a",
                "  zfs allow -u 7 bookmark,destroy,hold,mount,release,send,snapshot q/b  # job a",
                "  zfs allow -u 7 canmount,create,destroy,hold,mount,mountpoint,receive,release,rename,rollback,userprop \
                 p/backup  # job b",
            ]
        );
    }
}
