//! What is legal and bites, each with a twin that is all right. The files of `tests/configs/valid`
//! show the same warnings in full.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends when its ground is missing")]

/// What is warned about in these jobs, without excerpts and hints.
fn warnings(jobs: &[String]) -> Vec<String> {
    let text = format!("jobs:\n- {}\n", jobs.join("\n- "));
    let loaded = config::parse("w.yml", &text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    loaded.warnings.iter().map(|warning| warning.message().to_owned()).collect()
}

const NONE: [&str; 0] = [];
/// Keeps everything, and is worth no warning.
const ALL: &str = r#"{type: regex, regex: ".*"}"#;

fn snap(name: &str, filesystems: &str, prefix: &str, keep: &str) -> String {
    format!(
        "{{type: snap, name: {name}, filesystems: {{{filesystems}}}, \
         snapshotting: {{type: periodic, interval: 1h, prefix: {prefix}}}, pruning: {{keep: [{keep}]}}}}"
    )
}

fn push(name: &str, filesystems: &str) -> String {
    format!(
        "{{type: push, name: {name}, filesystems: {{{filesystems}}}, snapshotting: {{type: manual}}, \
         connect: {{type: local, listener_name: door, client_identity: me}}, \
         pruning: {{keep_sender: [{ALL}], keep_receiver: [{ALL}]}}}}"
    )
}

fn sink(name: &str, root: &str, door: &str, recv: &str) -> String {
    format!("{{type: sink, name: {name}, root_fs: {root}, serve: {{type: local, listener_name: {door}}}{recv}}}")
}

fn pull(filesystems: &str, root: &str) -> [String; 2] {
    let source = format!(
        "{{type: source, name: source, filesystems: {{{filesystems}}}, snapshotting: {{type: manual}}, \
         serve: {{type: local, listener_name: door}}}}"
    );
    let pull = format!(
        "{{type: pull, name: pull, root_fs: {root}, interval: 1h, \
         connect: {{type: local, listener_name: door, client_identity: me}}, \
         pruning: {{keep_sender: [{ALL}], keep_receiver: [{ALL}]}}}}"
    );
    [source, pull]
}

/// What is warned about in the rules of a job whose snapshots begin with `z_`.
fn of_rules(keep: &str) -> Vec<String> {
    warnings(&[snap("a", "a: true", "z_", keep)])
}

#[test]
fn a_pattern_that_also_matches_in_the_middle() {
    let unanchored = |pattern: &str| vec![format!("`{pattern}` also matches in the middle of a name")];
    for pattern in ["z_", "(z_|y_)", "z_.*", "^z_|y_", "(?i)z_", "a$|b", "x?y"] {
        let rules = format!("{ALL}, {{type: regex, regex: \"{pattern}\"}}");
        assert_eq!(of_rules(&rules), unanchored(pattern));
    }
    let rules = format!("{ALL}, {{type: last_n, count: 1, regex: z_}}");
    assert_eq!(of_rules(&rules), unanchored("z_"));
    let rules = format!("{ALL}, {{type: grid, grid: 1x1h(keep=all), regex: z_}}");
    assert_eq!(of_rules(&rules), unanchored("z_"));
    for pattern in ["^z_", "(^z_|^y_)", r"\\Az_", ".*", "", "(?:^z_)", "^(z|y)_", "(?i)^z", "_daily$"] {
        let rules = format!("{ALL}, {{type: last_n, count: 1, regex: \"{pattern}\"}}");
        assert_eq!(of_rules(&rules), NONE, "{pattern}");
    }
}

#[test]
fn a_grid_that_does_not_begin_by_keeping_all() {
    let by_hand = r#"{type: regex, negate: true, regex: "^z_"}"#;
    let of_grid = |grid: &str, more: &str| {
        of_rules(&format!("{by_hand}, {{type: grid, grid: \"{grid}\", regex: \"^z_\"}}{more}"))
    };
    let newest = ["the newest snapshot is destroyed as soon as there are two in the first interval"];
    assert_eq!(of_grid("24x1h | 30x1d", ""), newest);
    assert_eq!(of_grid("1x1h(keep=3) | 30x1d", ""), newest);
    assert_eq!(of_grid("24x1h", r#", {type: last_n, count: 1, regex: "^y_"}"#), newest);
    assert_eq!(of_grid("1x1h(keep=all) | 24x1h", ""), NONE);
    assert_eq!(of_grid("24x1h", ", {type: last_n, count: 2}"), NONE);
    assert_eq!(of_grid("24x1h", r#", {type: last_n, count: 2, regex: "^z_"}"#), NONE);
}

#[test]
fn rules_that_destroy_all_that_was_made_by_hand() {
    let all_go = ["these rules destroy all snapshots that were made by hand or by other programs"];
    assert_eq!(of_rules(r#"{type: last_n, count: 9, regex: "^z_"}"#), all_go);
    assert_eq!(of_rules(r#"{type: grid, grid: "1x1h(keep=all) | 24x1h", regex: "^z_"}"#), all_go);
    assert_eq!(of_rules("{type: last_n, count: 9}"), NONE);
    for keeping in [r#"{type: regex, negate: true, regex: "^z_"}"#, r#"{type: regex, regex: "^manual"}"#] {
        assert_eq!(of_rules(&format!(r#"{{type: last_n, count: 9, regex: "^z_"}}, {keeping}"#)), NONE);
    }
}

#[test]
fn filesystems_that_two_jobs_snapshot() {
    let both = |one: &str, two: &str| warnings(&[snap("a", one, "a_", ALL), snap("b", two, "b_", ALL)]);
    for (one, two, example) in [
        (r#""p<": true"#, "p/x: true", "`p/x`"),
        ("p/x: true", r#""p<": true"#, "`p/x`"),
        (r#""p<": true"#, r#""p/x<": true"#, "`p/x`"),
        (r#""p<": true, "p/x": false"#, r#""p/x<": true"#, "filesystems below `p/x`"),
        (r#""<": true"#, r#""p<": true"#, "`p`"),
    ] {
        assert_eq!(both(one, two), [format!("job `a` snapshots {example} as well")], "{one} {two}");
    }
    for (one, two) in [("p: true", "p/x: true"), (r#""p<": true, "p/x<": false"#, r#""p/x<": true"#)] {
        assert_eq!(both(one, two), NONE, "{one} {two}");
    }
}

#[test]
fn prefixes_that_begin_alike() {
    let of = |one: &str, two: &str, filesystems: &str| {
        warnings(&[snap("a", "p: true", one, ALL), snap("b", filesystems, two, ALL)])
    };
    assert_eq!(of("z_", "z_", "p: true"), ["job `a` has the prefix `z_` as well"]);
    assert_eq!(of("z_", "z_", "q: true"), NONE);
    for (one, two) in [("z_", "z_hourly_"), ("z_hourly_", "z_")] {
        assert_eq!(of(one, two, "p: true"), [format!("prefix `{two}` and `{one}` of job `a` begin alike")]);
        assert_eq!(of(one, two, "q: true"), NONE);
    }
}

#[test]
fn roots_within_each_other() {
    let sinks = |one: &str, two: &str| warnings(&[sink("a", one, "x", ""), sink("b", two, "y", "")]);
    assert_eq!(sinks("p/in", "p/in/deeper"), ["`root_fs` overlaps with `p/in` of another job"]);
    assert_eq!(sinks("p/in/deeper", "p/in"), ["`root_fs` overlaps with `p/in` of another job"]);
    assert_eq!(sinks("p/in", "p/in"), ["`root_fs` overlaps with `p/in` of another job"]);
    assert_eq!(sinks("p/in", "p/inner"), NONE);
}

#[test]
fn gaps_that_need_a_choice_about_placeholders() {
    let of = |filesystems: &str, recv: &str| warnings(&[push("a", filesystems), sink("b", "vault/in", "door", recv)]);
    let gap = |above: &str| {
        [format!("filesystems below `{above}` are replicated without it, and the receiver cannot make it")]
    };
    assert_eq!(of(r#""p/data<": true"#, ""), gap("p"));
    assert_eq!(of(r#""p<": true, "p/tmp<": false, "p/tmp/kept": true"#, ""), gap("p/tmp"));
    assert_eq!(of(r#""p<": true, "p/tmp<": false"#, ""), NONE);
    for choice in ["inherit", "off"] {
        let recv = format!(", recv: {{placeholder: {{encryption: {choice}}}}}");
        assert_eq!(of(r#""p/data<": true"#, &recv), NONE);
    }
    assert_eq!(warnings(&pull(r#""p/data<": true"#, "vault/in")), gap("p"));
}

#[test]
fn a_backup_that_is_replicated_into_itself() {
    let of = |filesystems: &str| warnings(&[push("a", filesystems), sink("b", "p/in", "door", "")]);
    let itself = ["what is received below `p/in` would be replicated again, and so on"];
    for filesystems in [
        r#""<": true"#,
        r#""p<": true"#,
        r#""p<": true, "p/in<": false, "p/in/me<": true"#,
        r#""p<": true, "p/in": false"#,
    ] {
        assert!(of(filesystems).contains(&itself[0].to_owned()), "{filesystems}");
    }
    assert_eq!(of(r#""p<": true"#), itself);
    for filesystems in [
        r#""p<": true, "p/in<": false"#,
        r#""p": true, "p/in": true"#,
        r#""p<": true, "p/in/me<": false"#,
        r#""q<": true"#,
    ] {
        assert_eq!(of(filesystems), NONE, "{filesystems}");
    }
    assert_eq!(warnings(&pull(r#""p<": true"#, "p/in")), itself);
    assert_eq!(warnings(&pull(r#""p<": true, "p/in<": false"#, "p/in")), NONE);
    // Another sink is not the one that the job sends to.
    assert_eq!(
        warnings(&[push("a", r#""p<": true"#), sink("b", "q/in", "door", ""), sink("c", "p/in", "other", "")]),
        NONE
    );
}

#[test]
fn listeners_that_take_each_others_place() {
    let of = |one: &str, two: &str| {
        let sink = |name: &str, listen: &str| {
            format!(
                "{{type: sink, name: {name}, root_fs: p/{name}, \
                 serve: {{type: tcp, listen: \"{listen}\", clients: {{\"192.0.2.1\": a}}}}}}"
            )
        };
        warnings(&[sink("a", one), sink("b", two)])
    };
    assert_eq!(of(":8888", "0.0.0.0:8888"), ["another job already listens at `0.0.0.0:8888`"]);
    assert_eq!(of("127.0.0.1:8888", "127.0.0.1:8889"), NONE);
    assert_eq!(of("127.0.0.1:0", "127.0.0.1:0"), NONE);
    let same = [sink("a", "p/a", "door", ""), sink("b", "p/b", "door", "")];
    assert_eq!(warnings(&same), ["another job already has the listener name `door`"]);
    assert_eq!(warnings(&[push("a", r#""p<": true"#)]), ["no sink job has the listener name `door`"]);
}

#[test]
fn the_anchor_that_is_proposed_is_for_all_alternatives() {
    let text = format!("jobs: [{}]", snap("a", "p: true", "z_", &format!("{{type: regex, regex: 'a_|b_'}}, {ALL}")));
    let loaded = config::parse("w.yml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings[0].to_string().contains("write `^(?:a_|b_)` for names that begin so"));
}

#[test]
fn a_common_snapshot_that_nothing_protects_is_at_the_mercy_of_other_jobs() {
    let push = |protection: &str| {
        push("p", r#""tank<": true"#).replacen(
            "pruning:",
            &format!("replication: {{protection: {protection}}}, pruning:"),
            1,
        )
    };
    let door = || sink("s", "vault", "door", ", recv: {placeholder: {encryption: inherit}}");
    let keep = r#"{type: last_n, count: 3}"#;
    let of = |protection: &str, filesystems: &str, keep: &str| {
        warnings(&[push(protection), door(), snap("other", filesystems, "z_", keep)])
    };
    let nothing = "{initial: guarantee_nothing, incremental: guarantee_nothing}";
    let warned = ["job `other` prunes `tank/a` and may destroy what this job has to continue"];
    assert_eq!(of(nothing, "tank/a: true", keep), warned);
    assert_eq!(of("{incremental: guarantee_nothing}", "tank/a: true", keep), warned);
    assert_eq!(of("{incremental: guarantee_incremental}", "tank/a: true", keep), NONE);
    assert_eq!(of(nothing, "pond/a: true", keep), NONE);
    assert_eq!(of(nothing, "tank/a: true", ALL), NONE);
}

#[test]
fn the_rule_that_keeps_what_people_made_is_about_the_names_that_the_other_rules_are_about() {
    let hint = |jobs: &[String]| {
        let text = format!("jobs:\n- {}\n", jobs.join("\n- "));
        let loaded = config::parse("w.yml", &text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        let mut hints = loaded.warnings.iter().map(ToString::to_string).filter(|text| text.contains("negate: true"));
        hints.next().expect("a hint")
    };
    let last = |regex: &str| format!("{{type: last_n, count: 2, regex: '{regex}'}}");
    let of_prefix = |prefix: &str| hint(&[snap("a", "p: true", prefix, r#"{type: last_n, count: 2, regex: "^z"}"#)]);
    assert!(of_prefix("z_").contains(r#"regex: "^z_"}` to keep"#));
    assert!(of_prefix("z.").contains(r"regex: '^z\.'}` to keep"), "{}", of_prefix("z."));
    let [source, pull] = pull("p: true", "q");
    let of_rules = |rules: &str| {
        let pull = pull.replacen(&format!("keep_sender: [{ALL}]"), &format!("keep_sender: [{rules}]"), 1);
        hint(&[source.clone(), pull])
    };
    let kept = "{type: regex, regex: '^keep_'}";
    assert!(of_rules(&last("^auto_")).contains(r#"regex: "^auto_"}` to keep"#));
    let told = of_rules(&format!("{kept}, {}, {}", last("^a_"), last("^b_")));
    assert!(told.contains(r#"regex: "^a_|^b_"}` to keep"#), "{told}");
    assert!(of_rules(kept).contains(r#"regex: "^zrepl_"}` to keep"#), "the opposite of a rule would keep everything");
}
