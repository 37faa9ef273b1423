//! The command line.

mod config;
mod doctor;
mod down;
mod env;
mod generate;
mod kubeconfig;
mod logs;
mod pipeline;
mod status;
mod token;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::{Client, Target};
use crate::config::Config;
use crate::output::{self, Format, NotRunning};

const AFTER_HELP: &str = "\
Exit codes:
  0  it went well
  1  it failed; the last line of standard error says why
  2  the command line cannot be read
  3  no platform runs on the data folder
  4  the run that was waited for failed
  5  the run that was waited for was canceled

Settings come from flags, then variables (KUBEFLOW_LISTEN, KUBEFLOW_LOG, ...), then config.yaml
in the data folder, then defaults; `kubeflow config` shows each with its origin.";

/// Kubeflow as one binary: pipelines, notebooks, training, tuning and serving on a laptop or a cluster.
#[derive(Debug, Parser)]
#[command(name = "kubeflow", version, disable_help_subcommand = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The data folder [default: ~/.local/share/kubeflow]
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "DIR",
        env = "KUBEFLOW_DATA_DIR"
    )]
    data_dir: Option<PathBuf>,
    /// A platform to talk to instead of the one of the data folder, such as http://127.0.0.1:8080 or https://kubeflow.example
    #[arg(long, global = true, help_heading = "Options of every command", value_name = "URL", env = "KUBEFLOW_SERVER")]
    server: Option<String>,
    /// The bearer token for --server; better in KUBEFLOW_TOKEN, where other users cannot see it
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "TOKEN",
        env = "KUBEFLOW_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// How to print: table (for people) or json (for programs)
    #[arg(long, short, global = true, help_heading = "Options of every command", value_enum, default_value_t)]
    #[arg(value_name = "FORMAT", hide_possible_values = true)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the platform
    Up(up::Up),
    /// Stop the platform and end all of its steps
    Down,
    /// Show what runs
    Status,
    /// Print a bearer token, or a link that signs you in
    Token(token::Token),
    /// Print a kubeconfig for the Kubernetes API
    Kubeconfig,
    /// Print variables that point kfp and kubectl at the platform
    Env,
    /// Show every setting, its effective value and where it came from
    Config,
    /// Start runs of pipelines, look at them, stop them
    Pipeline(pipeline::Pipeline),
    /// Print the log of a platform in the background
    Logs(logs::Logs),
    /// Look at what this host allows, and say what to do about what it does not
    Doctor,
    /// Print completions for a shell
    Completions(generate::Completions),
    /// Print the man page
    Man,
    /// Print the version
    Version,
}

impl Common {
    /// The settings, without flags of a particular command.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn config(&self) -> anyhow::Result<Config> {
        Config::load(self.data_dir.clone(), None, &[])
    }

    /// A client for the platform that is meant.
    ///
    /// # Errors
    /// When the data folder cannot be found.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(match &self.server {
            Some(url) => Target::Server { url: url.clone(), token: self.token.clone() },
            None => Target::Folder(self.config()?.data_dir),
        }))
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // With ring alone this cannot fail; a second provider in the graph would make the first TLS connection panic.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the program cannot start: {error}");
            return ExitCode::from(output::FAILED);
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<NotRunning>() { output::NOT_RUNNING } else { output::FAILED })
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<u8> {
    let common = cli.common;
    match cli.command {
        Command::Up(up) => up::run(&common, up).await,
        Command::Down => down::run(&common).await,
        Command::Status => status::run(&common).await,
        Command::Token(token) => token::run(&common, token).await,
        Command::Kubeconfig => kubeconfig::run(&common).await,
        Command::Env => env::run(&common).await,
        Command::Config => config::run(&common),
        Command::Pipeline(pipeline) => pipeline::run(&common, pipeline).await,
        Command::Logs(wanted) => logs::run(&common, wanted).await,
        Command::Doctor => doctor::run(&common).await,
        Command::Completions(wanted) => Ok(generate::completions(&wanted)),
        Command::Man => generate::man(),
        Command::Version => {
            output::line(format!("kubeflow {}", env!("CARGO_PKG_VERSION")));
            Ok(output::OK)
        }
    }
}
