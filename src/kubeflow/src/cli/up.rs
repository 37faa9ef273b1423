//! `kubeflow up`: starts the platform and stays until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use foundation::backoff::Backoff;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use crate::client::{Client, Target};
use crate::config::Config;
use crate::platform::Platform;
use crate::{instance, kubeconfig, output};

/// A platform in the background has this long to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Start the platform.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Address of the dashboard and the APIs [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the Kubernetes API [default: 127.0.0.1:6443]
    #[arg(long, value_name = "ADDRESS")]
    kube_listen: Option<String>,
    /// Start in the background and return when it is ready
    #[arg(long)]
    detach: bool,
    /// The file with settings [default: config.yaml in the data folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave your kubeconfig alone
    #[arg(long)]
    no_client_config: bool,
    /// Ask for a token even from your own programs on this machine
    #[arg(long)]
    no_local_caller: bool,
}

/// Runs the command.
///
/// # Errors
/// When the platform cannot start.
pub async fn run(common: &Common, up: Up) -> Result<u8> {
    let off = |given: bool| given.then(|| "false".to_owned());
    let flags = [
        ("listen", up.listen.clone()),
        ("kubeListen", up.kube_listen.clone()),
        ("clientConfig", off(up.no_client_config)),
        ("localCaller", off(up.no_local_caller)),
    ];
    let config = Config::load(common.data_dir.clone(), up.config.as_deref(), &flags)?;
    if up.detach {
        return detach(&config, &up).await;
    }
    let format = match config.choice("logFormat", &["text", "json"])? {
        "json" => telemetry::logs::Format::Json,
        _ => telemetry::logs::Format::Text,
    };
    telemetry::logs::start(config.text("log"), format);
    let platform = Platform::start(&config).await?;
    if config.flag("clientConfig")? {
        add_context(&platform);
    }
    say_ready(&platform).await?;
    wait_for_stop(&platform).await?;
    let running = platform.stop().await;
    match running {
        0 => eprintln!("Stopped."),
        1 => eprintln!("Stopped. 1 step goes on; `kubeflow up` takes it back, `kubeflow down` ends it."),
        many => eprintln!("Stopped. {many} steps go on; `kubeflow up` takes them back, `kubeflow down` ends them."),
    }
    Ok(output::OK)
}

fn add_context(platform: &Platform) {
    let Some(path) = kubeconfig::of_user() else { return };
    if let Err(error) = kubeconfig::merge(&path, &platform.facade.kubeconfig) {
        eprintln!("The context kubeflow was not added to your kubeconfig: {error:#}");
    }
}

async fn say_ready(platform: &Platform) -> Result<()> {
    let about = &platform.facade.about;
    eprintln!("Kubeflow {} is ready.\n", about.version);
    if is_file(std::io::stderr()) {
        // What signs somebody in is no line of a log that is kept.
        eprintln!("  Dashboard        http://{}   (`kubeflow token --link` signs you in)", about.listen);
    } else {
        eprintln!("  Dashboard        {}", platform.facade.link("/").await?);
    }
    eprintln!("  Pipelines API    http://{}", about.listen);
    eprintln!("  Kubernetes API   https://{}   (kubectl --context kubeflow)", about.kube_listen);
    eprintln!("  Data             {}", about.data_dir.display());
    eprintln!("  Runtime          {}", about.runtime);
    if about.runtime != "sandbox" {
        eprintln!("\nSteps run as plain processes, WITHOUT isolation: they can read and change what you can.");
        eprintln!("Your own programs need a token too (`kubeflow token`).");
    }
    if let Some(note) = &about.runtime_note {
        eprintln!("  {note}");
    }
    eprintln!();
    Ok(())
}

fn is_file(output: impl std::os::fd::AsFd) -> bool {
    let stat = rustix::fs::fstat(output);
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile)
}

async fn wait_for_stop(platform: &Platform) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => eprintln!(),
        () = platform.facade.stop.notified() => {}
    }
    Ok(())
}

async fn detach(config: &Config, up: &Up) -> Result<u8> {
    if let Some(holder) = instance::holder(&config.data_dir) {
        bail!(
            "the data folder {} is held by a platform that runs already: process {}, at http://{}",
            config.data_dir.display(),
            holder.pid,
            holder.listen
        );
    }
    let mut arguments = vec!["up".to_owned(), "--data-dir".to_owned(), config.data_dir.display().to_string()];
    let mut pass = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            arguments.extend([name.to_owned(), value.clone()]);
        }
    };
    pass("--listen", &up.listen);
    pass("--kube-listen", &up.kube_listen);
    pass("--config", &up.config.as_ref().map(|path| path.display().to_string()));
    arguments.extend(up.no_client_config.then(|| "--no-client-config".to_owned()));
    arguments.extend(up.no_local_caller.then(|| "--no-local-caller".to_owned()));
    let log = config.data_dir.join("logs/platform.log");
    let mut child = instance::detach(&arguments, &log)?;
    let client = Client::new(Target::Folder(config.data_dir.clone()));
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
    let ready = tokio::time::timeout(READY_WITHIN, async {
        loop {
            if let Ok(status) = client.get("/control/status").await {
                return Ok(status);
            }
            if let Some(status) = child.try_wait().context("look after the platform")? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("the platform ended at once ({status}):\n{}", last.join("\n"));
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    });
    let status = ready.await.with_context(|| format!("wait for the platform; its log is {}", log.display()))??;
    let platform = &status["platform"];
    let text = |name: &str| platform[name].as_str().unwrap_or_default().to_owned();
    eprintln!("Kubeflow {} runs in the background (process {}).", text("version"), platform["pid"]);
    eprintln!("  Dashboard   http://{}   (`kubeflow token --link` signs you in)", text("listen"));
    eprintln!("  Log         {}", log.display());
    eprintln!("  Stop        kubeflow down");
    Ok(output::OK)
}
