//! `kubeflow token`: a bearer token alone on the last line, or a link that signs a browser in.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Common;
use crate::output::{self, Format};

/// Print a bearer token, or a link that signs you in.
#[derive(Debug, Clone, Args)]
pub struct Token {
    /// Print a link instead that signs a browser in once, within ten minutes, and leads to PATH
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/")]
    link: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When no platform runs.
pub async fn run(common: &Common, token: Token) -> Result<u8> {
    let client = common.client()?;
    let (answer, name) = match token.link {
        Some(path) => {
            let path = super::pipeline::percent(&path);
            (client.post(&format!("/control/link?path={path}"), &json!({})).await?, "link")
        }
        None => (client.post("/control/token", &json!({})).await?, "token"),
    };
    match common.output {
        Format::Json => output::json(&answer),
        Format::Table => output::line(answer[name].as_str().unwrap_or_default()),
    }
    Ok(output::OK)
}
