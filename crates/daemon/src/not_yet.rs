//! What a configuration may ask for and this version cannot do. A daemon that left it out in silence
//! would look as if it replicated.

use config::Config;
use config::types::Job;

/// Each with the job and the field; empty if the daemon can do everything.
pub(crate) fn not_yet(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for job in &config.jobs {
        let name = job.name();
        if sends_saved(job) {
            found.push(format!("job `{name}`: {NO_SAVED}"));
        }
    }
    found
}

/// zrepl has the option; with it every one of its sends fails but the resumed ones, which ignore it.
const NO_SAVED: &str = "`send.saved` cannot be used: ZFS sends what an interrupted receive left only by itself (`zfs \
                        send -S` takes no snapshot and no other option); remove it";

fn sends_saved(job: &Job) -> bool {
    match job {
        Job::Push(job) => job.send.saved,
        Job::Source(job) => job.send.saved,
        Job::Sink(_) | Job::Pull(_) | Job::Snap(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
global:
  logging:
  - {type: stdout, level: warn, format: human}
  - {type: syslog, level: warn, format: human}
  - {type: tcp, level: warn, format: human, address: "log:514"}
  monitoring: [{type: prometheus, listen: ":9811"}]
jobs:
- type: push
  name: a
  connect: {type: tcp, address: "other:8888"}
  filesystems: {"a<": true}
  send: {saved: true, bandwidth_limit: {max: 1 MiB}}
  snapshotting: {type: manual}
  pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
- type: sink
  name: b
  root_fs: b
  serve: {type: stdinserver, client_identities: [c]}
  recv: {bandwidth_limit: {max: 1 MiB}}
- type: pull
  name: c
  connect: {type: tcp, address: "other:8888"}
  root_fs: c
  interval: manual
  recv: {bandwidth_limit: {max: 1 MiB}}
  pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
- type: source
  name: d
  serve: {type: tcp, listen: ":8888", clients: {"10.0.0.1": c}}
  filesystems: {"d<": true}
  send: {saved: true}
  snapshotting: {type: manual}
- type: snap
  name: e
  filesystems: {"e<": true}
  snapshotting: {type: manual}
  pruning: {keep: [{type: last_n, count: 1}]}
"#;

    #[test]
    fn everything_that_cannot_be_done_is_named() {
        let config = config::parse("zrepl.yml", CONFIG).unwrap().config;
        let found = not_yet(&config);
        let found: Vec<_> =
            found.iter().map(|one| one.strip_suffix(" cannot be used by this version yet").unwrap_or(one)).collect();
        assert_eq!(
            found,
            [
                "job `a`: `send.saved` cannot be used: ZFS sends what an interrupted receive left only by itself (`zfs send -S` \
                 takes no snapshot and no other option); remove it",
                "job `d`: `send.saved` cannot be used: ZFS sends what an interrupted receive left only by itself (`zfs send -S` \
                 takes no snapshot and no other option); remove it",
            ]
        );
    }
}
