//! What is legal and bites: keep rules that let go of more than was meant, filters that miss or cover
//! what they should not.

use std::collections::HashMap;

use model::filter::Pattern;
use model::plan::prune::KeepRule;
use model::protection::{ProtectionPolicy, ProtectionStrategy};
use model::{DatasetName, FilesystemFilter};
use regex::Regex;
use regex_syntax::hir::Look;

use crate::address::{HostPort, Port};
use crate::decode::Log;
use crate::place::{Place, Spot};
use crate::types::{Connect, Job, Listen, PlaceholderEncryption, Serve, SinkJob, Snapshotting};

/// Names that people give to snapshots.
const BY_HAND: [&str; 3] = ["manual", "manual_x", "before-upgrade"];
/// Stands for any filesystem that no filter names.
const ANY: &str = "any-other";
/// How many filesystems are tried in all comparisons of filters together. Hundreds of ordinary jobs
/// take less; a file that takes more is not worth minutes.
const MAX_TRIED: usize = 200_000;

/// What a job says about its snapshots.
struct Taken<'a> {
    filesystems: &'a FilesystemFilter,
    snapshotting: &'a Snapshotting,
}

impl<'a> Taken<'a> {
    fn of(job: &'a Job) -> Option<Self> {
        let (filesystems, snapshotting) = match job {
            Job::Push(job) => (&job.filesystems, &job.snapshotting),
            Job::Snap(job) => (&job.filesystems, &job.snapshotting),
            Job::Source(job) => (&job.filesystems, &job.snapshotting),
            Job::Sink(_) | Job::Pull(_) => return None,
        };
        Some(Self { filesystems, snapshotting })
    }

    /// None if the job takes none itself.
    fn prefix(&self) -> Option<&'a str> {
        match self.snapshotting {
            Snapshotting::Periodic { naming, .. } | Snapshotting::Cron { naming, .. } => Some(naming.prefix()),
            Snapshotting::Manual => None,
        }
    }
}

/// The keep rules of each job.
pub(crate) fn keep_rules(jobs: &[(&Job, &Spot)], log: &Log) {
    for (job, spot) in jobs {
        let lists: &[(&str, &[KeepRule])] = match job {
            Job::Push(job) => {
                &[("keep_sender", &job.pruning.keep_sender), ("keep_receiver", &job.pruning.keep_receiver)]
            }
            Job::Pull(job) => {
                &[("keep_sender", &job.pruning.keep_sender), ("keep_receiver", &job.pruning.keep_receiver)]
            }
            Job::Snap(job) => &[("keep", &job.keep)],
            Job::Sink(_) | Job::Source(_) => &[],
        };
        let prefix = Taken::of(job).and_then(|taken| taken.prefix());
        for (key, rules) in lists {
            unanchored(rules, spot, key, log);
            newest_of_grid(rules, spot, key, log);
            by_hand(rules, prefix, &spot.place(&["pruning", key]), log);
        }
    }
}

fn pattern(rule: &KeepRule) -> Option<&Regex> {
    match rule {
        KeepRule::NotReplicated { .. } => None,
        KeepRule::LastN { regex, .. } => regex.as_ref(),
        KeepRule::Regex { regex, .. } | KeepRule::Grid { regex, .. } => Some(regex),
    }
}

fn unanchored(rules: &[KeepRule], spot: &Spot, key: &str, log: &Log) {
    for (index, rule) in rules.iter().enumerate() {
        let Some(regex) = pattern(rule).filter(|regex| !is_anchored(regex)) else { continue };
        let place = spot.item_place(&["pruning", key], index, "regex");
        let text = regex.as_str();
        let warning = place.warning(format!("`{text}` also matches in the middle of a name"));
        // An anchor before several alternatives would be part of the first.
        let anchored = if text.contains('|') { format!("^(?:{text})") } else { format!("^{text}") };
        log.report(warning.with_hint(format!("write `{anchored}` for names that begin so")));
    }
}

/// Whether all that a pattern can match begins or ends with the name. One that matches every name needs
/// no anchor.
fn is_anchored(regex: &Regex) -> bool {
    let Ok(parsed) = regex_syntax::parse(regex.as_str()) else { return true };
    let (first, last) = (parsed.properties().look_set_prefix(), parsed.properties().look_set_suffix());
    let at_start = [Look::Start, Look::StartLF, Look::StartCRLF].iter().any(|look| first.contains(*look));
    let at_end = [Look::End, Look::EndLF, Look::EndCRLF].iter().any(|look| last.contains(*look));
    at_start || at_end || regex.is_match("")
}

fn newest_of_grid(rules: &[KeepRule], spot: &Spot, key: &str, log: &Log) {
    for (index, rule) in rules.iter().enumerate() {
        let KeepRule::Grid { grid, regex } = rule else { continue };
        let keeps_all = grid.intervals().first().is_some_and(|first| first.keep.is_none());
        if keeps_all || rules.iter().any(|other| keeps_newest(other, regex)) {
            continue;
        }
        let place = spot.item_place(&["pruning", key], index, "grid");
        let warning = place.warning("the newest snapshot is destroyed as soon as there are two in the first interval");
        log.report(warning.with_hint("begin with an interval that keeps all, such as `1x1h(keep=all) | …`"));
    }
}

/// Whether a rule keeps the newest of the snapshots that a pattern matches.
fn keeps_newest(rule: &KeepRule, of: &Regex) -> bool {
    match rule {
        KeepRule::NotReplicated { keep_snapshot_at_cursor } => *keep_snapshot_at_cursor,
        KeepRule::LastN { regex: None, .. } => true,
        KeepRule::LastN { regex: Some(regex), .. } | KeepRule::Regex { regex, negate: false } => {
            regex.as_str() == of.as_str() || regex.is_match("")
        }
        KeepRule::Regex { negate: true, .. } | KeepRule::Grid { .. } => false,
    }
}

/// Pruning is about all snapshots of a filesystem, whoever made them.
fn by_hand(rules: &[KeepRule], prefix: Option<&str>, place: &Place, log: &Log) {
    let own = prefix.map(|prefix| format!("{prefix}20240514_211623_000"));
    let may_keep_others = |rule: &KeepRule| match rule {
        KeepRule::NotReplicated { .. } => false,
        KeepRule::LastN { regex: None, .. } => true,
        KeepRule::Regex { negate: true, .. } => true,
        KeepRule::LastN { regex: Some(regex), .. }
        | KeepRule::Regex { regex, negate: false }
        | KeepRule::Grid { regex, .. } => {
            BY_HAND.iter().any(|name| regex.is_match(name)) || own.as_ref().is_some_and(|own| !regex.is_match(own))
        }
    };
    if !rules.iter().any(may_keep_others) {
        let regex = prefix.map(|prefix| format!("^{}", regex::escape(prefix))).or_else(|| thinned(rules));
        let regex = regex.unwrap_or_else(|| "^zrepl_".to_owned());
        // Between double quotes YAML has a use of its own for the backslash.
        let quote = if regex.contains('\\') { '\'' } else { '"' };
        let warning = place.warning("these rules destroy all snapshots that were made by hand or by other programs");
        let hint = format!("add `{{type: regex, negate: true, regex: {quote}{regex}{quote}}}` to keep them");
        log.report(warning.with_hint(hint));
    }
}

/// The names that rules keep ever fewer of: what has another name is not theirs, and what has such a name
/// must not be kept for ever.
fn thinned(rules: &[KeepRule]) -> Option<String> {
    let of = |rule: &KeepRule| match rule {
        KeepRule::LastN { regex: Some(regex), .. } | KeepRule::Grid { regex, .. } => Some(regex.as_str().to_owned()),
        KeepRule::NotReplicated { .. } | KeepRule::LastN { regex: None, .. } | KeepRule::Regex { .. } => None,
    };
    let mut patterns: Vec<String> = rules.iter().filter_map(of).collect();
    patterns.dedup();
    (!patterns.is_empty()).then(|| patterns.join("|"))
}

/// Filesystems that several jobs snapshot.
pub(crate) fn snapshotters(jobs: &[(&Job, &Spot)], log: &Log) {
    let taken = jobs.iter().filter_map(|(job, spot)| {
        let taken = Taken::of(job)?;
        Some((job.name(), taken.prefix()?, candidates(taken.filesystems), taken.filesystems, *spot))
    });
    let taken: Vec<_> = taken.collect();
    let mut left = MAX_TRIED;
    for (index, (_, prefix, tried, filter, spot)) in taken.iter().enumerate() {
        for (other_name, other_prefix, other_tried, other_filter, other_spot) in taken.iter().take(index) {
            let Some(rest) = left.checked_sub(tried.len() + other_tried.len()) else { return };
            left = rest;
            let mut both = tried.iter().chain(other_tried);
            let Some(shared) = both.find(|name| filter.selects(name) && other_filter.selects(name)) else { continue };
            let example = example(shared);
            if prefix.starts_with(other_prefix) || other_prefix.starts_with(prefix) {
                let place = spot.place(&["snapshotting", "prefix"]);
                let message = match prefix == other_prefix {
                    true => format!("job `{other_name}` has the prefix `{prefix}` as well"),
                    false => format!("prefix `{prefix}` and `{other_prefix}` of job `{other_name}` begin alike"),
                };
                let at = other_spot.place(&["snapshotting", "prefix"]).line();
                let hint = format!("that one is at {at}; both snapshot {example} and take each other's for their own");
                log.report(place.warning(message).with_hint(hint));
            } else {
                let message = format!("job `{other_name}` snapshots {example} as well");
                let hint = format!(
                    "it is at {}; each needs keep rules for the other's snapshots",
                    other_spot.place(&["filesystems"]).line()
                );
                log.report(spot.place(&["filesystems"]).warning(message).with_hint(hint));
            }
        }
    }
}

fn example(name: &DatasetName) -> String {
    match name.as_str().strip_suffix(ANY) {
        Some("") => "some filesystems".to_owned(),
        Some(above) => format!("filesystems below `{}`", above.trim_end_matches('/')),
        None => format!("`{name}`"),
    }
}

/// One filesystem for every case that a filter tells apart.
fn candidates(filter: &FilesystemFilter) -> Vec<DatasetName> {
    let mut found = Vec::new();
    for (pattern, _) in filter.entries() {
        match pattern {
            Pattern::Everything => found.extend(DatasetName::parse(ANY)),
            Pattern::Tree(name) | Pattern::Exactly(name) => {
                found.push(name.clone());
                found.extend(below(name));
            }
        }
    }
    found
}

fn below(name: &DatasetName) -> Option<DatasetName> {
    DatasetName::parse(&format!("{name}/{ANY}")).ok()
}

/// Jobs that leave nothing behind that would protect the last common snapshot from other jobs' rules.
pub(crate) fn unprotected_bases(jobs: &[(&Job, &Spot)], log: &Log) {
    let mut left = MAX_TRIED;
    let pruned: Vec<_> = jobs.iter().filter_map(|(job, spot)| Some((*job, *spot, pruned_by(job)?))).collect();
    for (job, spot) in jobs {
        let Job::Push(push) = job else { continue };
        let ProtectionPolicy { initial, incremental } = push.replication.protection;
        if ![initial, incremental].contains(&ProtectionStrategy::Nothing) {
            continue;
        }
        let tried = candidates(&push.filesystems);
        for (other, other_spot, filter) in pruned.iter().filter(|(other, ..)| other.name() != job.name()) {
            let other_tried = candidates(filter);
            let Some(rest) = left.checked_sub(tried.len() + other_tried.len()) else { return };
            left = rest;
            let mut both = tried.iter().chain(&other_tried);
            let shared = both.find(|name| push.filesystems.selects(name) && filter.selects(name));
            let Some(shared) = shared.map(example) else { continue };
            let place = spot.place(&["replication", "protection"]);
            let message =
                format!("job `{}` prunes {shared} and may destroy what this job has to continue", other.name());
            let at = other_spot.place(&["pruning"]).line();
            let hint = format!("its rules are at {at}; `guarantee_incremental` leaves a bookmark to continue from");
            log.report(place.warning(message).with_hint(hint));
        }
    }
}

/// The filesystems here whose snapshots a job may destroy.
fn pruned_by(job: &Job) -> Option<&FilesystemFilter> {
    let (filesystems, rules) = match job {
        Job::Push(job) => (&job.filesystems, &job.pruning.keep_sender),
        Job::Snap(job) => (&job.filesystems, &job.keep),
        Job::Sink(_) | Job::Pull(_) | Job::Source(_) => return None,
    };
    let keeps_all = |rule: &KeepRule| matches!(rule, KeepRule::Regex { regex, negate: false } if regex.is_match(""));
    (!rules.iter().any(keeps_all)).then_some(filesystems)
}

/// Replication within this configuration: what the receiver has to make up, and what it would send
/// to itself.
pub(crate) fn local_pairs(jobs: &[(&Job, &Spot)], log: &Log) {
    let mut passive: HashMap<&str, &Job> = HashMap::new();
    for (job, _) in jobs {
        if let Job::Sink(SinkJob { serve: Serve::Local(serve), .. }) = job {
            passive.insert(&serve.listener_name, job);
        }
        if let Job::Source(source) = job
            && let Serve::Local(serve) = &source.serve
        {
            passive.insert(&serve.listener_name, job);
        }
    }
    for (job, spot) in jobs {
        let connect = match job {
            Job::Push(job) => &job.connect,
            Job::Pull(job) => &job.connect,
            Job::Sink(_) | Job::Source(_) | Job::Snap(_) => continue,
        };
        let Connect::Local(connect) = connect else { continue };
        match (job, passive.get(connect.listener_name.as_str())) {
            (Job::Push(push), Some(Job::Sink(sink))) => {
                let place = spot.place(&["filesystems"]);
                gaps(&push.filesystems, sink.recv.placeholder_encryption, &place, log);
                let received = DatasetName::parse(&format!("{}/{}", sink.root_fs, connect.client_identity));
                into_itself(&push.filesystems, &sink.root_fs, received.as_ref().unwrap_or(&sink.root_fs), &place, log);
            }
            (Job::Pull(pull), Some(Job::Source(source))) => {
                let place = spot.place(&["root_fs"]);
                gaps(&source.filesystems, pull.recv.placeholder_encryption, &place, log);
                into_itself(&source.filesystems, &pull.root_fs, &pull.root_fs, &place, log);
            }
            _ => {}
        }
    }
}

fn gaps(filter: &FilesystemFilter, placeholders: PlaceholderEncryption, place: &Place, log: &Log) {
    if placeholders != PlaceholderEncryption::Unspecified {
        return;
    }
    let selected = candidates(filter).into_iter().filter(|name| filter.selects(name));
    let gap = selected.flat_map(|name| name.ancestors().collect::<Vec<_>>()).find(|above| !filter.selects(above));
    if let Some(above) = gap {
        let message = format!("filesystems below `{above}` are replicated without it, and the receiver cannot make it");
        let hint = "set `recv.placeholder.encryption` of the receiving job to `inherit` or `off`";
        log.report(place.warning(message).with_hint(hint));
    }
}

/// `tree` is where the filesystems that the filter selects go, which may be a part of `root`.
fn into_itself(filter: &FilesystemFilter, root: &DatasetName, tree: &DatasetName, place: &Place, log: &Log) {
    let named = candidates(filter).into_iter().filter(|name| name.is_within(tree));
    if named.chain(below(tree)).any(|received| filter.selects(&received)) {
        let message = format!("what is received below `{root}` would be replicated again, and so on");
        log.report(place.warning(message).with_hint(format!("add `\"{root}<\": false` to the filter of the sender")));
    }
}

/// Sockets that cannot both be opened.
pub(crate) fn listeners(jobs: &[(&Job, &Spot)], log: &Log) {
    let mut known: HashMap<HostPort, String> = HashMap::new();
    for (job, spot) in jobs {
        let serve = match job {
            Job::Sink(job) => &job.serve,
            Job::Source(job) => &job.serve,
            Job::Push(_) | Job::Pull(_) | Job::Snap(_) => continue,
        };
        let (Serve::Tcp(crate::types::TcpServe { listen, .. }) | Serve::Tls(crate::types::TlsServe { listen, .. })) =
            serve
        else {
            continue;
        };
        let Listen { address, .. } = listen;
        if address.port == Port::Number(0) {
            continue;
        }
        let place = spot.place(&["serve", "listen"]);
        // All ways to say every address.
        let host = if ["0.0.0.0", "::"].contains(&address.host.as_str()) { "" } else { &address.host };
        let address = HostPort { host: host.to_owned(), port: address.port.clone() };
        if let Some(line) = known.get(&address) {
            let warning = place.warning(format!("another job already listens at `{}`", listen.address));
            log.report(warning.with_hint(format!("it is at {line}; only one of them can have the address")));
        } else {
            known.insert(address, place.line());
        }
    }
}
