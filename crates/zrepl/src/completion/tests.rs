use super::*;

fn candidates(words: &[&str], described: bool) -> Vec<String> {
    let text = answer_text("zrepl".into(), words.iter().map(OsString::from).collect(), described);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn commands_values_and_options_are_known() {
    let top = candidates(&[""], false);
    for wanted in ["status", "signal", "zfs-abstraction", "pprof", "completion", "gencompletion"] {
        assert!(top.iter().any(|one| one == wanted), "{top:?}");
    }
    assert!(!top.iter().any(|one| one == "gendoc" || one.starts_with('-')), "{top:?}");
    assert_eq!(candidates(&["signal", ""], false), ["wakeup", "reset", "snapshot", ":4"]);
    assert_eq!(candidates(&["status", "--mode", "d"], false), ["dump", ":4"]);
    assert_eq!(candidates(&["status", "--mode=d"], false), ["--mode=dump", ":4"]);
    assert_eq!(candidates(&["migrate", "0"], false), ["0.0.X:0.1:placeholder", ":4"]);
    assert_eq!(candidates(&["zfs-abstraction", "list", "--type", "step"], false), ["step-hold", ":4"]);
    assert!(candidates(&["status", "--max"], false).contains(&"--max-snapshot-age".to_owned()));
}

#[test]
fn candidates_are_explained_where_that_is_wanted() {
    let described = candidates(&["signal", "w"], true);
    assert_eq!(described, ["wakeup\tStart an invocation", ":4"]);
}

#[test]
fn what_is_not_a_question_is_left_to_the_command_line() {
    for words in [&["zrepl"][..], &["zrepl", "status"], &["zrepl", "help", "__complete"], &[]] {
        assert!(answer(words.iter().map(OsString::from)).is_none(), "{words:?}");
    }
}
