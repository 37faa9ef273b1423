//! `kubeflow env`: variables for a shell, to be read with `eval "$(kubeflow env)"`.

use anyhow::Result;
use serde_json::json;

use super::Common;
use crate::output::{self, Format};

/// Runs the command.
///
/// # Errors
/// When no platform runs.
pub async fn run(common: &Common) -> Result<u8> {
    let status = common.client()?.get("/control/status").await?;
    let platform = &status["platform"];
    let listen = platform["listen"].as_str().unwrap_or_default();
    let data_dir = platform["data_dir"].as_str().unwrap_or_default();
    let variables = [
        ("KF_PIPELINES_ENDPOINT", format!("http://{listen}")),
        ("KF_PIPELINES_UI_ENDPOINT", format!("http://{listen}")),
        ("KUBECONFIG", format!("{data_dir}/tls/kubeconfig")),
    ];
    if common.output == Format::Json {
        output::json(&json!(variables.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
        return Ok(output::OK);
    }
    for (name, value) in variables {
        output::line(format!("export {name}='{}'", value.replace('\'', "'\\''")));
    }
    Ok(output::OK)
}
