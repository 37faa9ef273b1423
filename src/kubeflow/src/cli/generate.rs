//! `kubeflow completions` and `kubeflow man`: made from the same definitions as the help.

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output;

/// Print completions for a shell.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints completions.
pub fn completions(wanted: &Completions) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(wanted.shell, &mut super::Cli::command(), "kubeflow", &mut text);
    output::bytes(&text);
    output::OK
}

/// Prints the man page.
///
/// # Errors
/// When it cannot be rendered.
pub fn man() -> Result<u8> {
    let mut text = Vec::new();
    clap_mangen::Man::new(super::Cli::command()).render(&mut text).context("render the man page")?;
    output::bytes(&text);
    Ok(output::OK)
}
