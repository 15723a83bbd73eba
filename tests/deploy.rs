//! What lies in deploy/ for operators, against the service.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;

use finetuned::telemetry::METRICS;
use serde_json::Value;

const BOARD: &str = include_str!("../deploy/grafana/finetuned.json");
const RULES: &str = include_str!("../deploy/prometheus/rules.yml");

/// The names of metrics in a text, without what Prometheus adds to those of histograms.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("finetuned_"));
    words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn the_board_and_the_rules_name_metrics_that_there_are() {
    let exported: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(exported.len(), METRICS.len(), "no metric is defined twice");
    for (file, text) in [("finetuned.json", BOARD), ("rules.yml", RULES)] {
        let named = names(text);
        assert!(named.len() > 5, "{file} names {named:?}");
        let unknown: Vec<&String> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    let manual = include_str!("../docs/monitoring.md");
    for metric in METRICS {
        let row = format!("| `{}` | {} |", metric.name, metric.doc);
        assert!(manual.contains(&row), "docs/monitoring.md lacks {row}");
    }
}

#[test]
fn every_panel_of_the_board_shows_something() {
    let board: Value = serde_json::from_str(BOARD).unwrap();
    let panels: Vec<&Value> =
        board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 10);
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(
            !targets.is_empty() && targets.iter().all(|target| !names(target["expr"].as_str().unwrap()).is_empty())
        );
    }
}

#[test]
fn every_alert_has_a_severity_and_a_summary() {
    let rules: Value = serde_yaml_ng::from_str(RULES).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 5);
    for rule in rules {
        assert!(rule["expr"].is_string() && rule["annotations"]["summary"].is_string(), "{rule}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
    }
}
