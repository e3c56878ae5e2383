//! Whether what is generated is complete, true and up to date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::meaning::{MEANINGS, entry};
use super::sections::{Sections, join};
use super::*;
use crate::scalar::{as_bool, as_integer};
use crate::tree::{Node, Scalar, Value, read_first_document};

mod validator;

const ROOT: &str = "../..";

fn visit(shape: &Shape, path: &str, look: &mut impl FnMut(&Shape, &str)) {
    look(shape, path);
    let mut keys_of = |keys: &[Key], path: &str| {
        keys.iter().for_each(|key| visit(&key.shape, &join(path, key.name), look));
    };
    match shape {
        Shape::Scalar(_) | Shape::Words(_) => {}
        Shape::List(inner) | Shape::Map(_, inner) => visit(inner, path, look),
        Shape::Section(keys) => keys_of(keys, path),
        Shape::Tagged(variants) => variants.iter().for_each(|(tag, keys)| keys_of(keys, &join(path, tag))),
    }
}

#[test]
fn every_key_and_type_has_a_meaning_and_every_meaning_has_one() {
    let mut paths = BTreeSet::new();
    let whole = whole();
    for section in Sections::of(&whole).0 {
        for path in &section.paths {
            paths.insert(path.clone());
            paths.extend(section.keys.iter().map(|key| join(path, key.name)));
        }
    }
    paths.remove("");
    assert!(paths.len() > 150, "{paths:#?}");
    let without: Vec<_> = paths.iter().filter(|path| entry(path).is_none()).collect();
    assert!(without.is_empty(), "without a meaning: {without:#?}");
    let used: BTreeSet<_> = paths.iter().filter_map(|path| entry(path)).map(|(end, _)| *end).collect();
    let unused: Vec<_> = MEANINGS.iter().filter(|(end, _)| !used.contains(end)).collect();
    assert!(unused.is_empty(), "meanings of nothing: {unused:#?}");
    let ends: BTreeSet<_> = MEANINGS.iter().map(|(end, _)| end).collect();
    assert_eq!(ends.len(), MEANINGS.len(), "an end is there twice");
}

#[test]
fn every_kind_that_decoders_ask_for_is_known_and_every_known_one_is_asked_for() {
    let mut asked = BTreeSet::new();
    visit(&whole(), "", &mut |shape, path| {
        if let Shape::Scalar(wanted) = shape {
            assert!(kinds::ALL.iter().any(|kind| kind.is_wanted_as(wanted)), "{path}: {wanted}");
            asked.insert(kinds::of(wanted).name);
        }
    });
    let optional_only = ["duration"]; // what the other kinds of durations refer to
    let known: BTreeSet<_> =
        kinds::ALL.iter().map(|kind| kind.name).filter(|name| !optional_only.contains(name)).collect();
    assert_eq!(asked, known);
}

#[test]
fn all_types_of_a_section_are_seen() {
    let types = |wanted: &str| {
        let mut found = Vec::new();
        visit(&whole(), "", &mut |shape, path| {
            if let Shape::Tagged(variants) = shape
                && path == wanted
            {
                found = variants.iter().map(|(tag, keys)| format!("{tag} {}", keys.len())).collect();
            }
        });
        found
    };
    assert_eq!(types("jobs"), ["push 8", "sink 4", "snap 4", "pull 8", "source 5"]);
    assert_eq!(types("jobs.push.connect"), ["local 3", "tcp 2", "tls 6", "ssh+stdinserver 8"]);
    assert_eq!(types("jobs.snap.pruning.keep"), ["last_n 2", "regex 2", "grid 2"]);
    assert_eq!(types("jobs.push.pruning.keep_sender"), ["not_replicated 1", "last_n 2", "regex 2", "grid 2"]);
}

#[test]
fn defaults_are_what_could_be_written() {
    let (whole, schema) = (whole(), parsed_schema());
    let mut defaults = 0;
    for section in Sections::of(&whole).0 {
        let name = if section.name.is_empty() { "document" } else { &section.name };
        for key in section.keys {
            let Presence::Optional(Some(default)) = &key.presence else { continue };
            defaults += 1;
            if let Shape::Words(words) = &key.shape {
                assert!(words.contains(default), "{name}.{}: {default}", key.name);
            }
            let described = &schema["$defs"][name]["properties"][key.name];
            let problem = validator::problem(&schema, described, &described["default"]);
            assert_eq!(problem, None, "{name}.{}", key.name);
        }
    }
    assert!(defaults > 30, "{defaults}");
}

#[test]
fn bools_are_those_of_the_decoder() {
    let read = |text: &&str| as_bool(&Scalar { text: (*text).to_owned(), plain: true });
    assert_eq!(kinds::BOOLS.iter().filter_map(read).count(), kinds::BOOLS.len());
}

#[test]
fn the_committed_files_are_what_is_generated() {
    for (path, text) in [("dist/zrepl.schema.json", schema()), ("docs/reference/configuration.md", reference())] {
        let path = Path::new(ROOT).join(path);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        assert!(known == text, "{} is out of date; UPDATE_EXPECT=1 writes it anew", path.display());
    }
}

#[test]
fn links_of_the_reference_lead_somewhere() {
    let page = reference();
    let slug = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect::<String>()
    };
    let headings: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line.trim_start_matches(['#', ' '])))
        .collect();
    let unique: BTreeSet<_> = headings.iter().collect();
    assert_eq!(unique.len(), headings.len(), "headings: {headings:#?}");
    let links: Vec<&str> = page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 100);
    for link in links {
        assert!(headings.iter().any(|heading| heading == link), "{link}");
    }
}

fn parsed_schema() -> Json {
    serde_json::from_str(&schema()).unwrap()
}

fn files(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join("tests/configs").join(kind)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "yml")).collect()
}

/// How an editor may read plain scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yaml {
    V1_1,
    V1_2,
}

/// What an editor makes of a file; none if it is no YAML.
fn read(path: &Path, yaml: Yaml) -> Option<Json> {
    let (source, log) = (Arc::new(Source::new("", fs::read_to_string(path).unwrap())), Log::default());
    let (patterns, named_files, secrets) = (Patterns::default(), NamedFiles::default(), RefCell::default());
    let file = File { source: &source, log: &log, patterns: &patterns, named_files: &named_files, secrets: &secrets };
    let root = read_first_document(&file);
    (!log.has_errors()).then(|| root.map_or(Json::Null, |root| json(&root, yaml)))
}

fn json(node: &Node, yaml: Yaml) -> Json {
    match &node.value {
        Value::Scalar(scalar) => scalar_json(scalar, yaml),
        Value::List(items) => items.iter().map(|item| json(item, yaml)).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), json(&entry.value, yaml)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn scalar_json(scalar: &Scalar, yaml: Yaml) -> Json {
    let text = scalar.text.as_str();
    if scalar.is_null() {
        return Json::Null;
    }
    if !scalar.plain {
        return text.into();
    }
    if yaml == Yaml::V1_1 {
        let number = || as_integer(scalar).map(|integer| integer.value.into());
        return as_bool(scalar).map(Json::Bool).or_else(number).unwrap_or_else(|| text.into());
    }
    match text {
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => {
            let hexadecimal = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
            let number = hexadecimal.or_else(|| text.parse().ok()).map(Json::from);
            let fraction =
                || text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse::<f64>().ok()).flatten();
            number.or_else(|| fraction().map(Json::from)).unwrap_or_else(|| text.into())
        }
    }
}

#[test]
fn every_valid_file_satisfies_the_schema() {
    let schema = parsed_schema();
    let mut complaints = Vec::new();
    let files = files("valid");
    assert!(files.len() > 10);
    for (path, yaml) in files.iter().flat_map(|path| [(path, Yaml::V1_1), (path, Yaml::V1_2)]) {
        let document = read(path, yaml).unwrap();
        complaints.extend(
            validator::problem(&schema, &schema, &document).map(|at| format!("{} {yaml:?}: {at}", path.display())),
        );
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn invalid_files_do_not() {
    let schema = parsed_schema();
    let refused = |path: &PathBuf| {
        [Yaml::V1_1, Yaml::V1_2].iter().all(|yaml| {
            read(path, *yaml).is_some_and(|document| validator::problem(&schema, &schema, &document).is_some())
        })
    };
    let names: BTreeSet<String> = files("invalid")
        .iter()
        .filter(|path| refused(path))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let expected = [
        "bools",
        "document_list",
        "document_text",
        "durations",
        "empty_required",
        "global",
        "job_names",
        "jobs_scalar",
        "logging",
        "missing_fields",
        "not_replicated_in_snap",
        "numbers",
        "several_at_once",
        "transports",
        "type_missing_or_unknown",
        "union_field",
        "wrong_kinds",
    ];
    let accepted: Vec<_> = expected.iter().filter(|name| !names.contains(**name)).collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}; refused: {names:?}");
}
