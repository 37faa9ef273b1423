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

/// Kubeflow as one binary: pipelines, notebooks, training, tuning and serving on a laptop or a cluster.
#[derive(Debug, Parser)]
#[command(name = "kubeflow", version, disable_help_subcommand = true, max_term_width = 100)]
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
    #[arg(long, global = true, value_name = "DIR", env = "KUBEFLOW_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// A platform to talk to instead of the one of the data folder, such as http://127.0.0.1:8080
    #[arg(long, global = true, value_name = "URL", env = "KUBEFLOW_SERVER")]
    server: Option<String>,
    /// The bearer token for --server; better in KUBEFLOW_TOKEN, where other users cannot see it
    #[arg(long, global = true, value_name = "TOKEN", env = "KUBEFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT")]
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
    /// Print the end of the log of a platform in the background
    Logs,
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
        Command::Logs => logs::run(&common),
        Command::Doctor => doctor::run(&common).await,
        Command::Completions(wanted) => Ok(generate::completions(&wanted)),
        Command::Man => generate::man(),
        Command::Version => {
            output::line(format!("kubeflow {}", env!("CARGO_PKG_VERSION")));
            Ok(output::OK)
        }
    }
}
