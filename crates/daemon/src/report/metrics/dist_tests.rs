//! What is shipped for Prometheus and Grafana asks for metrics that exist.

use std::collections::BTreeSet;

use regex::Regex;

use super::promql::{self, Value};
use super::tests::{exposed, families};

fn shipped(name: &str) -> String {
    let path = format!("{}/../../dist/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The labels that the result of a query has.
fn labels_of(query: &str) -> BTreeSet<String> {
    // Grafana puts lengths of time here.
    let lengths = Regex::new(r"\$__[a-z_]+").unwrap();
    match promql::read(&lengths.replace_all(query, "5m"), &exposed()) {
        Ok(Value::Vector(labels)) => labels,
        other => panic!("{other:?}: {query}"),
    }
}

fn check_named(text: &str, form: &str, query: &str) {
    let labels = labels_of(query);
    for label in Regex::new(form).unwrap().captures_iter(text) {
        assert!(labels.contains(&label[1]), "{} is not among {labels:?}: {query}", &label[1]);
    }
}

#[test]
fn every_query_of_the_dashboard_can_be_answered() {
    let dashboard: serde_json::Value = serde_json::from_str(&shipped("grafana/zrepl.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets: Vec<_> = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().collect();
    assert!(targets.len() > 25, "{}", targets.len());
    for target in targets {
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        check_named(legend, r"\{\{\s*([A-Za-z_]+)\s*\}\}", target["expr"].as_str().unwrap());
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let label_values = Regex::new(r"^label_values\((\w+), (\w+)\)$").unwrap();
    for variable in variables {
        let definition = label_values.captures(variable["definition"].as_str().unwrap()).unwrap();
        assert!(labels_of(&definition[1]).contains(&definition[2]), "{variable}");
    }
}

#[test]
fn every_alert_can_be_answered_and_names_labels_that_it_has() {
    let rules = shipped("prometheus/zrepl.rules.yml");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 10);
    for alert in alerts {
        let query = alert.lines().find_map(|line| line.trim().strip_prefix("expr: ")).unwrap();
        check_named(alert, r"\$labels\.([a-z_]+)", query);
    }
}

#[test]
fn the_page_about_monitoring_names_every_metric() {
    let page = shipped("../docs/monitoring.md");
    for (metric, labels) in families() {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{metric}` |")));
        let named = |row: &str| labels.iter().all(|label| row.contains(&format!("`{label}`")));
        assert!(row.is_some_and(named), "{metric}: {row:?}");
    }
}
