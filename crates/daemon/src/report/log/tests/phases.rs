//! What begins and ends, in the log.

use model::event::Missed;

use super::*;

fn after(millis: i64, what: What) -> Event {
    let event = event(Some("j"), what);
    Event { at: event.at + jiff::SignedDuration::from_millis(millis), ..event }
}

/// An invocation with a step and a pruning that cannot be planned.
fn invocation() -> Vec<Event> {
    let replication = |millis, what| after(millis, What::Replication(what));
    let pruning = |millis, what| after(millis, What::Pruning { side: PruneSide::Sender, what });
    let filesystem = || dataset("p/a");
    vec![
        after(0, What::InvocationStarted { number: 7 }),
        replication(1, Replication::AttemptStarted),
        replication(11, Replication::Planned { plan: Arc::new(ReplicationPlan { filesystems: Vec::new() }) }),
        replication(12, Replication::StepStarted { filesystem: filesystem(), step: 0 }),
        after(13, What::CommandStarted { command: "zfs send".to_owned() }),
        replication(
            1012,
            Replication::StepFinished { filesystem: filesystem(), step: 0, bytes: 1, took: Duration::from_secs(1) },
        ),
        replication(1020, Replication::AttemptFinished),
        pruning(1021, Pruning::Started),
        pruning(1023, Pruning::PlanFailed { error: "no".to_owned() }),
        after(1024, What::InvocationFinished { number: 7, summary: InvocationSummary::default() }),
        after(1025, What::Snapshotting(Snapshotting::RoundStarted { snapshots: vec![], one_by_one: vec![] })),
        after(1026, What::Snapshotting(Snapshotting::HooksStarted { filesystem: filesystem() })),
        after(1027, What::Snapshotting(Snapshotting::Missed { count: 1, why: Missed::Asleep })),
        after(1036, What::JobStopped),
    ]
}

#[test]
fn what_begins_and_ends_is_told_with_its_time_and_where_it_belongs() {
    let all = written(LogLevel::Debug, layout(LogFormat::Human, false, false), &invocation());
    let lines: String = all.split_inclusive('\n').filter(|line| line.contains("[trace.data]")).collect();
    expect![[r#"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7]: begin span zrepl$j$j.invocation-7
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.r1]: begin span zrepl$j$j.invocation-7.replication, attempt 1
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.r1]: begin span zrepl$j$j.invocation-7.replication, attempt 1.plan
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.r1]: finished span zrepl$j$j.invocation-7.replication, attempt 1.plan duration_s="0.010000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.r1.QtEY.s1]: begin span zrepl$j$j.invocation-7.replication, attempt 1.p/a
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.r1.QtEY.s1]: finished span zrepl$j$j.invocation-7.replication, attempt 1.p/a duration_s="1.000000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.r1]: finished span zrepl$j$j.invocation-7.replication, attempt 1 duration_s="1.019000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.ps]: begin span zrepl$j$j.invocation-7.prune_sender
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.ps]: begin span zrepl$j$j.invocation-7.prune_sender.plan
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.ps]: finished span zrepl$j$j.invocation-7.prune_sender.plan duration_s="0.002000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7.ps]: finished span zrepl$j$j.invocation-7.prune_sender duration_s="0.002000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.i7]: finished span zrepl$j$j.invocation-7 duration_s="1.024000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.t1]: begin span zrepl$j$j.round
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.t1.QtEY]: begin span zrepl$j$j.round.p/a
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.t1]: finished span zrepl$j$j.round duration_s="0.011000"
        [DEBG][j][trace.data][sQaZ$7ww6$7ww6.t1.QtEY]: finished span zrepl$j$j.round.p/a duration_s="0.010000"
    "#]].assert_eq(&lines);
}

#[test]
fn nothing_is_told_of_it_above_debug() {
    let all = written(LogLevel::Info, layout(LogFormat::Human, false, false), &invocation());
    assert!(all.contains("invocation finished") && !all.contains("trace.data"), "{all}");
}

#[test]
fn the_clock_may_be_set_back_meanwhile() {
    let summary = InvocationSummary::default();
    let events =
        [after(9, What::InvocationStarted { number: 1 }), after(-9, What::InvocationFinished { number: 1, summary })];
    let lines = written(LogLevel::Debug, layout(LogFormat::Logfmt, false, false), &events);
    assert_eq!(lines.matches(" duration_s=0.000000").count(), 2, "{lines}");
}
