//! The progress of a run: a live view on a terminal, plain lines otherwise.

use std::collections::HashMap;
use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::super::Common;
use super::show;
use crate::client::Client;
use crate::output::{self, Format};

/// Follows a run to its end; gives the exit code.
///
/// # Errors
/// When the platform goes away in the meantime.
pub(super) async fn follow(common: &Common, client: &Client, id: &str) -> Result<u8> {
    let quiet = common.output == Format::Json;
    let bar = if quiet || !std::io::stderr().is_terminal() { None } else { Some(spinner()) };
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut body = client.stream(&format!("/apis/v2beta1/runs/{id}:watch")).await?.into_data_stream();
    let mut buffer = Vec::new();
    let mut last = Value::Null;
    while let Some(chunk) = body.next().await {
        buffer.extend_from_slice(&chunk.context("follow the run")?);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            last = serde_json::from_slice(&line).context("follow the run")?;
            if !quiet {
                report(&last, &mut seen, bar.as_ref());
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let state = last["run"]["state"].as_str().unwrap_or_default().to_owned();
    if quiet {
        output::json(&last);
    } else {
        show::failures(last["tasks"].as_array().map(Vec::as_slice).unwrap_or_default());
        output::line(format!("{state}  {id}"));
    }
    match state.as_str() {
        "SUCCEEDED" => Ok(output::OK),
        "FAILED" => Ok(output::RUN_FAILED),
        "CANCELED" => Ok(output::RUN_CANCELED),
        _ => bail!("the platform stopped before the run ended; `kubeflow pipeline get {id}` shows it"),
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// Prints each step whose state changed, and what runs now.
fn report(update: &Value, seen: &mut HashMap<String, String>, bar: Option<&ProgressBar>) {
    let mut running = Vec::new();
    let (mut done, mut known) = (0, 0);
    for task in update["tasks"].as_array().into_iter().flatten() {
        if task["type"] != "RUNTIME" && task["type"] != "IMPORTER" {
            continue;
        }
        let path = task["scope_path"].as_str().unwrap_or_default();
        let state = task["state"].as_str().unwrap_or_default();
        known += 1;
        let over = !matches!(state, "PENDING" | "RUNNING" | "CANCELING");
        done += u32::from(over);
        if state == "RUNNING" {
            running.push(path);
        }
        let changed = seen.insert(path.to_owned(), state.to_owned()).as_deref() != Some(state);
        if changed && (over || state == "RUNNING") {
            let line = format!("{:<10} {path} {}", state.to_lowercase(), show::duration(&task["duration_ms"]));
            match bar {
                Some(bar) if over => bar.println(line.trim_end()),
                Some(_) => {}
                None => eprintln!("{}", line.trim_end()),
            }
        }
    }
    if let Some(bar) = bar {
        let now = if running.is_empty() { "waiting".to_owned() } else { running.join(", ") };
        bar.set_message(format!("{done} of {known} steps done · {now}"));
    }
}
