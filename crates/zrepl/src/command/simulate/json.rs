//! A simulation as JSON: everything that happened.

use model::plan::prune::{Decision, Rejection};
use model::simulate::{Destroyed, Existing, Round, Sample, SideRules};
use serde_json::{Value, json};

use super::Played;

/// Grows when a field changes its meaning or goes.
const VERSION: u32 = 1;

pub(super) fn document(all: &[Played]) -> Value {
    json!({"version": VERSION, "jobs": all.iter().map(job).collect::<Vec<_>>()})
}

fn job(played: &Played) -> Value {
    let timeline = &played.timeline;
    let side = |side: &SideRules| json!({"side": side.side.to_string(), "rules": side.rules});
    let look = |sample: &Sample| self::sample(sample, &timeline.sides);
    json!({
        "job": played.job,
        "filesystem": played.filesystem.as_ref().map(|name| name.as_str()),
        "from": played.from.to_string(),
        "to": played.to.to_string(),
        "sides": timeline.sides.iter().map(side).collect::<Vec<_>>(),
        "rounds": timeline.rounds.iter().map(round).collect::<Vec<_>>(),
        "samples": timeline.samples.iter().map(look).collect::<Vec<_>>(),
        "end": look(&timeline.end),
    })
}

fn round(round: &Round) -> Value {
    json!({
        "at": round.at.to_string(),
        "snapshot": round.name.as_str(),
        "failed": round.failed,
        "replicated": round.replicated,
        "destroyed": round.destroyed.iter().map(destroyed).collect::<Vec<_>>(),
    })
}

fn destroyed(destroyed: &Destroyed) -> Value {
    let reason = |(rule, why): &(u16, Rejection)| json!({"rule": place(*rule), "why": why.to_string()});
    json!({
        "side": destroyed.side.to_string(),
        "snapshot": destroyed.name.as_str(),
        "creation": destroyed.creation.to_timestamp().to_string(),
        "rejected_by": destroyed.reasons.iter().map(reason).collect::<Vec<_>>(),
    })
}

fn sample(sample: &Sample, sides: &[SideRules]) -> Value {
    let side = |(side, existing): (&SideRules, &Vec<Existing>)| {
        let snapshots = existing.iter().map(self::existing).collect::<Vec<_>>();
        json!({"side": side.side.to_string(), "snapshots": snapshots})
    };
    json!({
        "at": sample.at.to_string(),
        "sides": sides.iter().zip(&sample.existing).map(side).collect::<Vec<_>>(),
    })
}

fn existing(existing: &Existing) -> Value {
    json!({
        "snapshot": existing.name.as_str(),
        "creation": existing.creation.to_timestamp().to_string(),
        "kept_by": existing.kept_by.iter().map(|rule| place(*rule)).collect::<Vec<_>>(),
        "goes_next": existing.decision == Decision::Destroy,
    })
}

/// People count from 1.
fn place(rule: u16) -> u32 {
    u32::from(rule).saturating_add(1)
}
