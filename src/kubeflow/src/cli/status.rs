//! `kubeflow status`: what runs, where, and a link that signs you in.

use anyhow::Result;
use serde_json::json;

use super::Common;
use crate::output::{self, Format};

/// Runs the command.
///
/// # Errors
/// When no platform runs.
pub async fn run(common: &Common) -> Result<u8> {
    let client = common.client()?;
    let status = client.get("/control/status").await?;
    if common.output == Format::Json {
        output::json(&status);
        return Ok(output::OK);
    }
    let platform = &status["platform"];
    let text = |name: &str| platform[name].as_str().unwrap_or_default().to_owned();
    let link = client.post("/control/link?path=/", &json!({})).await?;
    let link = link["link"].as_str().unwrap_or_default().to_owned();
    let minutes = status["uptime_seconds"].as_u64().unwrap_or_default() / 60;
    let rows = [
        ("Version", text("version")),
        ("Process", format!("{} (up {minutes} min)", platform["pid"])),
        ("Pipelines API", format!("http://{}", text("listen"))),
        ("Kubernetes API", format!("https://{}", text("kube_listen"))),
        ("Data", text("data_dir")),
        ("Runtime", text("runtime")),
        ("Runs", format!("{} ({} unfinished)", status["runs"], status["active_runs"])),
        ("Dashboard", link),
    ];
    for (name, value) in rows {
        output::line(format!("{name:<16} {value}"));
    }
    if let Some(note) = platform["runtime_note"].as_str() {
        output::line(format!("\n{note}"));
    }
    Ok(output::OK)
}
