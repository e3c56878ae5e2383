//! What is shipped for Prometheus and Grafana asks for metrics that exist.

use regex::Regex;

use super::tests::{exposed, families};

fn shipped(name: &str) -> String {
    let path = format!("{}/../../dist/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics of a query with the labels that each is asked with.
fn asked(query: &str) -> Vec<(String, Vec<String>)> {
    let metric = Regex::new(r"\b((?:zrepl|process|promhttp)_[a-z0-9_]+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r"([a-z_]+)\s*(?:=~|!~|!=|=)").unwrap();
    let names = |selectors: &str| label.captures_iter(selectors).map(|label| label[1].to_owned()).collect();
    // Words of `by (…)`, `on (…)` and legends are labels.
    let grouping = Regex::new(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)").unwrap();
    let query = grouping.replace_all(query, "");
    let found = metric.captures_iter(&query);
    found.map(|one| (one[1].to_owned(), one.get(2).map_or(Vec::new(), |selectors| names(selectors.as_str())))).collect()
}

/// Parentheses, braces, brackets and quotes that fit together.
fn is_balanced(query: &str) -> bool {
    let (mut open, mut quoted) = (Vec::new(), false);
    for character in query.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => open.push(')'),
            '{' => open.push('}'),
            '[' => open.push(']'),
            ')' | '}' | ']' if open.pop() != Some(character) => return false,
            _ => {}
        }
    }
    open.is_empty() && !quoted
}

fn check(query: &str) {
    assert!(is_balanced(query), "{query}");
    let asked = asked(query);
    assert!(!asked.is_empty(), "nothing is asked: {query}");
    let exposed = exposed();
    for (metric, labels) in asked {
        let known = exposed.get(&metric).unwrap_or_else(|| panic!("{metric} does not exist: {query}"));
        // These are Prometheus' own.
        let unknown =
            labels.iter().find(|label| !["job", "instance"].contains(&label.as_str()) && !known.contains(label));
        assert_eq!(unknown, None, "{metric} has {known:?}: {query}");
    }
}

#[test]
fn every_query_of_the_dashboard_has_its_metrics() {
    let dashboard: serde_json::Value = serde_json::from_str(&shipped("grafana/zrepl.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 25, "{}", queries.len());
    queries.iter().for_each(|query| check(query));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let label_values = Regex::new(r"^label_values\((\w+), (\w+)\)$").unwrap();
    for variable in variables {
        let definition = label_values.captures(variable["definition"].as_str().unwrap()).unwrap();
        check(&format!("{}{{{}=\"\"}}", &definition[1], &definition[2]));
    }
}

#[test]
fn every_alert_has_its_metrics() {
    let rules = shipped("prometheus/zrepl.rules.yml");
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        rules.lines().filter_map(move |line| line.trim().trim_start_matches("- ").strip_prefix(&prefix)).collect()
    };
    let (alerts, queries): (Vec<&str>, Vec<&str>) = (field("alert"), field("expr"));
    assert_eq!(alerts.len(), queries.len());
    assert!(alerts.len() >= 10);
    queries.iter().for_each(|query| check(query));
    let placeholder = Regex::new(r"\$labels\.([a-z_]+)").unwrap();
    for label in placeholder.captures_iter(&rules) {
        let known = ["instance", "zrepl_job", "jobid", "filesystem", "prune_side", "edge", "outlet"];
        assert!(known.contains(&&label[1]), "{}", &label[1]);
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
