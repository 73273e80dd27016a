//! The checker is checked: a healthy world has no violation, and each planted one is found.

mod damage;
mod healthy;
mod planted;

use serde_json::Value;

/// The violations of a report, as `I3 run …: …`.
fn violations(report: &Value) -> Vec<String> {
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let all = report["violations"].as_array().unwrap().iter();
    all.map(|it| format!("{} {}: {}", text(it, "invariant"), text(it, "subject"), text(it, "sentence")))
        .collect()
}
