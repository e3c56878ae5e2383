//! Passwords do not get into messages, whatever else is wrong where they stand.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends when its ground is missing")]

const JOB: &str = "jobs: [{type: snap, name: a, filesystems: {\"a<\": true}, \
                   pruning: {keep: [{type: regex, regex: \".*\"}]}, \
                   snapshotting: {type: periodic, prefix: p, interval: 1m, hooks: [HOOKS]}}]\n";

/// What is said of hooks that each begin in a line of their own.
fn said(hooks: &str) -> config::Errors {
    config::parse("memory", &JOB.replace("HOOKS", hooks)).expect_err("refused")
}

#[test]
fn an_excerpt_hides_a_password_and_the_caret_stays_where_it_was() {
    let errors = said("\n{type: mysql-lock-tables, dsn: \"ü:SECRET™@/\", filesystems: {a: 1}}\n");
    assert_eq!(errors.errors.len(), 1, "{errors}");
    let location = errors.errors[0].location().expect("a place");
    assert_eq!((location.line, location.column), (2, 64));
    let text = errors.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], " --> memory:2:64", "{text}");
    assert_eq!(lines[3], "2 | {type: mysql-lock-tables, dsn: \"***********\", filesystems: {a: 1}}");
    assert_eq!(lines[4].find('^'), Some("2 | ".len() + 63));
}

#[test]
fn what_is_no_yaml_shows_no_password_either() {
    for hooks in [
        "\n{type: mysql-lock-tables, dsn: \"root:SECRET@/, filesystems: {a: true}}\n",
        "\n{type: mysql-lock-tables, dsn: \"root:SECRET@/\"], filesystems: {a: true}}\n",
        "\n{dsn: \"a:SECRET@/\", x: *none, dsn: \"a:SECRET@/\"}\n",
        "\n{x: *none, \"dsn\" : a:SECRET@/, y: z}\n",
        "\n{x: *none} # dsn: a:SECRET@/\n",
        "\n{dsn: root:SECRET@tcp(db)/: x}\n",
        "\n{dsn: 'root:SECRET@tcp(db)/'x: y}\n",
        "\n{dsn: \"\\q SECRET\"}\n",
        "\n{dsn: &a \"password=SECRET\", filesystems: *b}\n",
        "\n{dsn: password=SECRET, dsn: password=SECRET}\n",
        "\n{\"password=SECRET\": 1}\n",
        "\n  {dsn: \"x\n      password=SECRET\\q\n    \"}\n",
    ] {
        let text = said(hooks).to_string();
        assert!(text.contains("memory:") && !text.contains("SECRET"), "{hooks}\n{text}");
    }
    let block = "jobs:\n- dsn: |\n    host=db\n    password=SECRET\n   bad: SECRET\n  x: y\n";
    let text = config::parse("memory", block).expect_err("refused").to_string();
    assert!(!text.contains("SECRET"), "{text}");
}
