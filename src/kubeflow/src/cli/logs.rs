//! `kubeflow logs`: what a platform in the background logged.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use super::Common;
use crate::output;

/// Of the end of the log.
const TAIL_BYTES: u64 = 256 << 10;

/// Runs the command.
///
/// # Errors
/// When there is no log.
pub fn run(common: &Common) -> Result<u8> {
    let path = common.config()?.data_dir.join("logs/platform.log");
    let mut file = std::fs::File::open(&path)
        .with_context(|| format!("open {} (a platform in the foreground logs to its terminal)", path.display()))?;
    let length = file.metadata().context("read the log")?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).context("read the log")?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).context("read the log")?;
    output::bytes(&bytes);
    Ok(output::OK)
}
