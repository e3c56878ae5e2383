//! The effective configuration is a configuration with the same meaning, and is its own effective
//! configuration.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends when its ground is missing")]

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use config::types::{Config, Job, Serve};
use config::{Diagnostic, Loaded, Part, Secrets};
use proptest::prelude::*;

fn valid_files() -> Vec<PathBuf> {
    let entries = fs::read_dir("../../tests/configs/valid").expect("the folder of configurations");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "yml")).collect();
    assert!(files.len() > 5, "{} files", files.len());
    files
}

fn parse(text: &str) -> Loaded {
    config::parse("effective", text).unwrap_or_else(|errors| panic!("refused:\n{errors}\n{text}"))
}

fn messages(warnings: &[Diagnostic]) -> HashSet<&str> {
    warnings.iter().map(Diagnostic::message).collect()
}

/// The texts of everything, each of which has to load.
fn texts(config: &Config, secrets: Secrets) -> [String; 2] {
    let effective = config.effective(Part::All, secrets);
    [effective.to_yaml(), effective.to_json()]
}

#[test]
fn every_valid_file_has_an_effective_form_that_means_the_same() {
    for path in valid_files() {
        let original = config::load(Some(&path)).expect("valid");
        let texts = texts(&original.config, Secrets::Shown);
        for text in &texts {
            let again = parse(text);
            let shown = path.display();
            assert_eq!(format!("{:#?}", again.config), format!("{:#?}", original.config), "{shown}\n{text}");
            assert_eq!(self::texts(&again.config, Secrets::Shown), texts, "{shown}");
            let new: Vec<_> = messages(&again.warnings)
                .difference(&messages(&original.warnings))
                .copied()
                .map(str::to_owned)
                .collect();
            assert!(new.is_empty(), "{shown}: {new:?}");
        }
        for masked in self::texts(&original.config, Secrets::Masked) {
            let again = parse(&masked);
            assert!(self::texts(&again.config, Secrets::Masked).contains(&masked), "{shown}", shown = path.display());
        }
    }
}

#[test]
fn a_part_is_a_configuration_of_its_own() {
    let path = PathBuf::from("../../tests/configs/valid/global.yml");
    let original = config::load(Some(&path)).expect("valid").config;
    let logging = original.effective(Part::Logging, Secrets::Masked);
    for text in [logging.to_yaml(), logging.to_json()] {
        let part = parse(&text).config;
        assert_eq!(part.global.logging, original.global.logging);
        assert_eq!((part.global.monitoring, part.jobs.len()), (None, 0));
    }
    let path = PathBuf::from("../../tests/configs/valid/include.yml");
    let original = config::load(Some(&path)).expect("valid").config;
    assert!(original.jobs.len() > 1, "included jobs are there");
    let part = parse(&original.effective(Part::Jobs, Secrets::Masked).to_yaml()).config;
    assert_eq!(format!("{:?}", part.jobs), format!("{:?}", original.jobs));
    assert!(!original.effective(Part::Jobs, Secrets::Masked).to_yaml().contains("global"));
}

#[test]
fn every_default_is_written_out() {
    let config = parse("jobs: [{type: sink, name: in, root_fs: p, serve: {type: local, listener_name: yes}}]\n").config;
    let expected = "\
global:
  logging:
    - type: stdout
      level: warn
      format: human
      time: true
      color: true
  monitoring: []
  control:
    sockpath: /var/run/zrepl/control
  serve:
    stdinserver:
      sockdir: /var/run/zrepl/stdinserver
jobs:
  - type: sink
    name: in
    root_fs: p
    serve:
      type: local
      listener_name: \"yes\"
    recv:
      placeholder:
        encryption: unspecified
      properties:
        inherit: []
        override: {}
      bandwidth_limit:
        max: \"-1 B\"
        bucket_capacity: 131072 B
";
    assert_eq!(config.effective(Part::All, Secrets::Masked).to_yaml(), expected);
}

#[test]
fn a_filter_of_nothing_selects_nothing_again() {
    let text = "jobs: [{type: snap, name: s, filesystems: {/x: true}, snapshotting: {type: manual}, \
                pruning: {keep: [{type: last_n, count: 1}]}}]\n";
    let once = parse(text).config.effective(Part::All, Secrets::Masked).to_yaml();
    assert!(once.contains("filesystems:\n      \"<\": false\n"), "{once}");
    assert_eq!(parse(&once).config.effective(Part::All, Secrets::Masked).to_yaml(), once);
}

/// A configuration with this text in places where any text may stand.
fn with_text(text: &str) -> Config {
    let mut config =
        parse("jobs: [{type: sink, name: in, root_fs: p, serve: {type: local, listener_name: x}}]\n").config;
    for job in &mut config.jobs {
        let Job::Sink(job) = job else { panic!("a sink was written") };
        job.recv.override_ = vec![("a".parse().expect("a name"), text.to_owned())];
        let Serve::Local(serve) = &mut job.serve else { panic!("a local one was written") };
        serve.listener_name = format!("x{text}");
    }
    config
}

proptest! {
    #[test]
    fn any_text_is_written_so_that_it_is_read_again(text in prop_oneof![
        any::<String>(),
        "[-_.:0-9a-fxoeE+]{0,6}",
        "[ \\t\\r\\n'\"\\\\#:,&*!|>%@`{}\\[\\]?<=~-]{0,8}",
        Just("null".to_owned()),
        Just("~".to_owned()),
        Just("---".to_owned()),
    ]) {
        let config = with_text(&text);
        for written in texts(&config, Secrets::Shown) {
            let again = parse(&written).config;
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", config));
        }
    }
}
