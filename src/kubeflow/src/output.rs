//! What commands print: tables or JSON, and exit codes that scripts can rely on.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::Value;

/// Everything went well.
pub const OK: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// No platform runs.
pub const NOT_RUNNING: u8 = 3;
/// The run failed.
pub const RUN_FAILED: u8 = 4;
/// The run was canceled.
pub const RUN_CANCELED: u8 = 5;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// No platform runs on a data folder.
#[derive(Debug)]
pub struct NotRunning {
    /// The folder.
    pub folder: PathBuf,
}

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no platform runs on {}; start one with `kubeflow up`", self.folder.display())
    }
}

impl std::error::Error for NotRunning {}

/// Prints text; a reader that went away (`| head`) ends the program quietly.
pub fn print(text: &str) {
    bytes(text.as_bytes());
}

/// Prints bytes as they are, such as a log's.
pub fn bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    if let Err(error) = written {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { OK } else { FAILED };
        std::process::exit(i32::from(code));
    }
}

/// Prints a line.
pub fn line(text: impl fmt::Display) {
    print(&format!("{text}\n"));
}

/// Prints JSON.
pub fn json(value: &Value) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints rows under headings, columns as wide as they need to be.
pub fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let mut put = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        text.push_str(padded.join("   ").trim_end());
        text.push('\n');
    };
    put(&mut headings.iter().copied());
    for row in rows {
        put(&mut row.iter().map(String::as_str));
    }
    print(&text);
}
