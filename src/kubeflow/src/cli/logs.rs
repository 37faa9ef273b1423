//! `kubeflow logs`: what a platform in the background logged.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::Common;
use crate::output;

/// Of the end of the log.
const TAIL_BYTES: u64 = 256 << 10;
/// At once, while following.
const PIECE_BYTES: u64 = 1 << 20;
/// How often to look for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Print the log of a platform in the background.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// So many lines of the end; without it the last 256 KiB
    #[arg(long, short = 'n', value_name = "LINES")]
    lines: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// When there is no log.
pub async fn run(common: &Common, wanted: Logs) -> Result<u8> {
    let path = common.config()?.data_dir.join("logs/platform.log");
    let mut file = open(&path)?;
    let length = file.metadata().context("read the log")?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    let tail = piece(&mut file, start, TAIL_BYTES)?;
    output::bytes(last_lines(&tail, start > 0, wanted.lines));
    let mut at = start + tail.len() as u64;
    if !wanted.follow {
        return Ok(output::OK);
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if std::fs::metadata(&path).is_ok_and(|now| now.len() < at) {
            (file, at) = (open(&path)?, 0);
        }
        let more = piece(&mut file, at, PIECE_BYTES)?;
        at += more.len() as u64;
        output::bytes(&more);
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path)
        .with_context(|| format!("open {} (a platform in the foreground logs to its terminal)", path.display()))
}

fn piece(file: &mut File, at: u64, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at)).context("read the log")?;
    file.take(limit).read_to_end(&mut bytes).context("read the log")?;
    Ok(bytes)
}

/// Whole lines only: `cut` says that the first one may have lost its beginning.
fn last_lines(text: &[u8], cut: bool, lines: Option<usize>) -> &[u8] {
    let whole = match text.iter().position(|byte| *byte == b'\n') {
        Some(end) if cut => &text[end + 1..],
        _ => text,
    };
    let Some(lines) = lines else { return whole };
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    match ends.len().checked_sub(lines + 1) {
        Some(before) => &whole[ends[before]..],
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_begins_with_a_line() {
        assert_eq!(last_lines(b"half\na\nb\n", true, None), b"a\nb\n");
        assert_eq!(last_lines(b"a\nb\nc\n", false, Some(2)), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\n", false, Some(9)), b"a\nb\n");
        assert_eq!(last_lines(b"a\nb\n", false, Some(0)), b"");
        assert_eq!(last_lines(b"", true, Some(1)), b"");
    }
}
