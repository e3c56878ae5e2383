//! What is said of hooks, and that a failure is said once.

use model::event::{Hook, HookEdge, OutputStream};

use super::*;

const HOOK: &str = "/etc/zrepl/hooks/freeze";

fn of_hook(what: Hook) -> Event {
    let (filesystem, snapshot) = (dataset("p/a"), VersionName::parse("zrepl_1").unwrap());
    event(Some("j"), What::Hook { filesystem, snapshot, what })
}

fn says(stream: OutputStream, line: &str) -> Event {
    of_hook(Hook::Output { hook: HOOK.to_owned(), stream, line: line.to_owned() })
}

fn failed(edge: HookEdge) -> Event {
    let error = "exit status: 1; it said: busy (mend it)".to_owned();
    of_hook(Hook::Failed { hook: HOOK.to_owned(), edge, error })
}

/// One that writes and succeeds before the snapshot, and fails after it.
fn undone_badly() -> Vec<Event> {
    vec![
        of_hook(Hook::PreEdges),
        says(OutputStream::Stdout, "frozen"),
        says(OutputStream::Stderr, "slowly"),
        of_hook(Hook::PostEdges),
        says(OutputStream::Stdout, "thawing"),
        says(OutputStream::Stderr, "busy"),
        failed(HookEdge::Post),
        event(
            Some("j"),
            What::Snapshotting(Snapshotting::HooksFinished {
                filesystem: dataset("p/a"),
                report: format!("01 Ok {HOOK}\n02 Err {HOOK}: exit status: 1; it said: busy (mend it)\n"),
                had_error: true,
            }),
        ),
    ]
}

#[test]
fn each_line_of_a_hook_is_told_at_once_and_its_failure_in_one_line() {
    check(
        LogLevel::Info,
        layout(LogFormat::Human, false, false),
        &undone_badly(),
        &expect![[r#"
            [INFO][j][hook][sQaZ$7ww6$7ww6.QtEY]: run pre-edges in configuration order fs="p/a" snap="zrepl_1"
            [INFO][j][hook][sQaZ$7ww6$7ww6.QtEY]: hook output fs="p/a" snap="zrepl_1" stdout="frozen" command="/etc/zrepl/hooks/freeze"
            [WARN][j][hook][sQaZ$7ww6$7ww6.QtEY]: hook output fs="p/a" snap="zrepl_1" stderr="slowly" command="/etc/zrepl/hooks/freeze"
            [INFO][j][hook][sQaZ$7ww6$7ww6.QtEY]: run post-edges for successful pre-edges in reverse configuration order fs="p/a" snap="zrepl_1"
            [INFO][j][hook][sQaZ$7ww6$7ww6.QtEY]: hook output fs="p/a" snap="zrepl_1" stdout="thawing" command="/etc/zrepl/hooks/freeze"
            [WARN][j][hook][sQaZ$7ww6$7ww6.QtEY]: hook output fs="p/a" snap="zrepl_1" stderr="busy" command="/etc/zrepl/hooks/freeze"
            [ERRO][j][hook][sQaZ$7ww6$7ww6.QtEY]: hook invocation failed for post-edge fs="p/a" snap="zrepl_1" hook="/etc/zrepl/hooks/freeze" err="exit status: 1; it said: busy (mend it)"
        "#]],
    );
}

#[test]
fn a_hook_is_given_as_the_cause_of_a_failed_snapshot_only_if_it_prevented_it() {
    let taken = || {
        let (filesystem, snapshot) = (dataset("p/a"), snapshot("1").name);
        let result = Err("out of space".to_owned());
        event(Some("j"), What::Snapshotting(Snapshotting::Taken { filesystem, snapshot, result }))
    };
    let told = |events: Vec<Event>| {
        let lines = written(LogLevel::Warn, layout(LogFormat::Human, false, false), &events);
        lines.lines().last().unwrap().to_owned()
    };
    let harmless = told(vec![failed(HookEdge::Pre), taken()]);
    assert!(harmless.starts_with("[ERRO]") && harmless.contains("out of space"), "{harmless}");
    let fatal = told(vec![failed(HookEdge::Pre), of_hook(Hook::Prevented { hook: HOOK.to_owned() }), taken()]);
    assert!(
        fatal.starts_with("[WARN]") && fatal.contains("the hook /etc/zrepl/hooks/freeze failed (see above)"),
        "{fatal}"
    );
}

#[test]
fn snapshots_that_failed_are_told_with_the_invocation_that_follows() {
    let (filesystem, snapshot) = (dataset("p/a"), snapshot("1").name);
    let result = Err("out of space".to_owned());
    let taken = event(Some("j"), What::Snapshotting(Snapshotting::Taken { filesystem, snapshot, result }));
    let finished =
        |number| event(Some("j"), What::InvocationFinished { number, summary: InvocationSummary::default() });
    let lines = written(LogLevel::Info, layout(LogFormat::Logfmt, false, false), &[taken, finished(1), finished(2)]);
    let failed: Vec<bool> = lines.lines().map(|line| line.contains(" snapshots_failed=1 ")).collect();
    assert_eq!(failed, [false, true, false], "{lines}");
}
