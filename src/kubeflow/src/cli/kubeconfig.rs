//! `kubeflow kubeconfig`: a kubeconfig alone.

use anyhow::Result;

use super::Common;
use crate::output::{self, Format};

/// Runs the command.
///
/// # Errors
/// When no platform runs.
pub async fn run(common: &Common) -> Result<u8> {
    let config = common.client()?.get("/control/kubeconfig").await?;
    match common.output {
        Format::Json => output::json(&config),
        Format::Table => output::print(&crate::kubeconfig::to_yaml(&config)?),
    }
    Ok(output::OK)
}
