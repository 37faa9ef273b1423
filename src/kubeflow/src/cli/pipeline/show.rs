//! `kubeflow pipeline get`: a run with its steps as a tree.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::Common;
use crate::client::Client;
use crate::output::{self, Format};

/// Runs the command.
///
/// # Errors
/// When there is no such run.
pub(super) async fn run(common: &Common, client: &Client, id: &str) -> Result<u8> {
    let run = client.get(&format!("/apis/v2beta1/runs/{id}")).await?;
    let tasks = client.get(&format!("/apis/v2beta1/runs/{id}/tasks")).await?;
    let tasks = tasks["tasks"].as_array().cloned().unwrap_or_default();
    if common.output == Format::Json {
        output::json(&json!({"run": run, "tasks": tasks}));
        return Ok(output::OK);
    }
    let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
    output::line(format!("{}  {}  ({id})\n", text("state"), text("display_name")));
    let rows: Vec<Vec<String>> = tasks.iter().filter(|task| task["scope_path"].is_string()).map(row).collect();
    output::table(&["STATE", "STEP", "DURATION", "REMARK"], &rows);
    failures(&tasks);
    Ok(output::OK)
}

fn row(task: &Value) -> Vec<String> {
    let path = task["scope_path"].as_str().unwrap_or_default();
    let depth = path.matches('/').count();
    let name = task["display_name"].as_str().unwrap_or_default();
    let remark = match (task["state"].as_str(), task["waits_for"].as_str()) {
        (Some("CACHED"), _) => "from the cache".to_owned(),
        (_, Some(waits)) => format!("waits for {waits}"),
        (Some("SKIPPED"), _) => task["failure"]["message"].as_str().unwrap_or_default().to_owned(),
        _ => match task["attempt"].as_u64() {
            Some(attempt) => format!("attempt {}", attempt + 1),
            None => String::new(),
        },
    };
    let state = task["state"].as_str().unwrap_or_default().to_lowercase();
    vec![state, format!("{}{name}", "  ".repeat(depth)), duration(&task["duration_ms"]), remark]
}

/// What failed, why, and its last words.
pub(super) fn failures(tasks: &[Value]) {
    let failed = tasks.iter().filter(|task| task["state"] == "FAILED" && task["type"] == "RUNTIME");
    for task in failed {
        let failure = &task["failure"];
        let path = task["scope_path"].as_str().unwrap_or_default();
        let code = failure["exit_code"].as_i64().map(|code| format!(" (exit code {code})")).unwrap_or_default();
        output::line(format!("\n{path} failed{code}: {}", failure["message"].as_str().unwrap_or_default()));
        for line in failure["last_lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            output::line(format!("  | {line}"));
        }
    }
}

/// `1.9 s`, `37 s`, `4m 12s`.
pub(super) fn duration(milliseconds: &Value) -> String {
    let Some(milliseconds) = milliseconds.as_u64() else { return String::new() };
    match milliseconds {
        0..10_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        10_000..60_000 => format!("{} s", milliseconds / 1000),
        _ => format!("{}m {}s", milliseconds / 60_000, milliseconds / 1000 % 60),
    }
}
