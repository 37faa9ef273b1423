//! `kubeflow down`: stops the platform, if one runs, and ends every step of its data folder.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use super::Common;
use crate::{instance, output};

/// A platform drains its connections before it ends.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// When the platform does not stop or a step does not end.
pub async fn run(common: &Common) -> Result<u8> {
    let data_dir = common.config()?.data_dir;
    let holder = instance::holder(&data_dir);
    if let Some(holder) = &holder {
        common.client()?.post("/control/stop", &json!({})).await?;
        let gone = async {
            while instance::holder(&data_dir).is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, gone).await.is_err() {
            bail!("the platform (process {}) does not stop", holder.pid);
        }
    }
    let folder = data_dir.clone();
    let ended = foundation::tasks::blocking("end steps", move || node::down::down(&folder)).await?;
    if ended.left > 0 {
        bail!("{} of {} steps still run", ended.left, ended.pods);
    }
    let stopped = if holder.is_some() { "The platform is stopped" } else { "No platform was running" };
    output::line(match ended.pods {
        0 => format!("{stopped}."),
        1 => format!("{stopped}; 1 step was ended."),
        many => format!("{stopped}; {many} steps were ended."),
    });
    Ok(output::OK)
}
