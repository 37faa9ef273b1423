//! The wiring: the order of start and of drain, and the only place that names concrete types.
//!
//! Start after a kill: API in process, the node takes its pods back, the engine resumes, the listeners open.

mod embedded;
mod figures;
mod health;
mod routes;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auth::identity::Identity;
use auth::sessions::Sessions;
use auth::tokens::Tokens;
use foundation::tasks::Tasks;
use serde::Serialize;

use crate::config::{Config, Origin};
use crate::instance::{Holder, Instance};
use crate::ports;

/// What a stop waits for, at most.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// The name of the one user of a laptop.
pub const USER: &str = "admin";
/// Where the one user's runs live.
pub const NAMESPACE: &str = "kubeflow";

/// A running platform.
pub struct Platform {
    /// What commands may ask it.
    pub facade: Arc<Facade>,
    tasks: Tasks,
    embedded: embedded::Embedded,
    _instance: Instance,
}

/// What commands may ask a running platform.
pub struct Facade {
    /// Makes bearer tokens.
    pub tokens: Tokens,
    /// Makes sign-in links.
    pub sessions: Sessions,
    /// What it says of itself.
    pub about: About,
    /// The kubeconfig for its API, with a token of its own.
    pub kubeconfig: serde_json::Value,
    /// Runs and pipelines.
    pub operations: pipelines::operations::Operations,
    /// Asked to stop.
    pub stop: tokio::sync::Notify,
    started: Instant,
}

/// What a platform says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// Its version.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// Address of the dashboard and the APIs.
    pub listen: SocketAddr,
    /// Address of the Kubernetes API.
    pub kube_listen: SocketAddr,
    /// The data folder.
    pub data_dir: PathBuf,
    /// How pods run: `sandbox` or `process`.
    pub runtime: String,
    /// Why not better, where it could be.
    pub runtime_note: Option<String>,
    /// Whether programs of the user may use the APIs without a token.
    pub local_caller: bool,
}

impl Facade {
    /// How long it has been up.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The address of a page, with a sign-in link's secret.
    ///
    /// # Errors
    /// When the link cannot be stored.
    pub async fn link(&self, path: &str) -> Result<String> {
        let secret = self.sessions.link(Identity::admin(USER)).await.context("make a sign-in link")?;
        let next: String = form_encode(path);
        Ok(format!("http://{}/signin?link={}&next={next}", self.about.listen, secret.expose()))
    }
}

/// A path as a value of a query.
fn form_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Platform {
    /// Starts everything; ready when this returns.
    ///
    /// # Errors
    /// When the data folder is held by another, a port is taken, or a part cannot start.
    pub async fn start(config: &Config) -> Result<Self> {
        let started = Instant::now();
        let mut instance = Instance::lock(&config.data_dir)?;
        let listener = listen(config, "listen", "the dashboard")?;
        let kube_listener = listen(config, "kubeListen", "the Kubernetes API")?;
        let (listen, kube_listen) = (listener.local_addr()?, kube_listener.local_addr()?);
        instance.announce(&Holder {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: listen.to_string(),
            kube_listen: kube_listen.to_string(),
        })?;
        let tasks = Tasks::root("platform");
        let embedded = embedded::Embedded::start(config, &tasks, listen, started).await?;
        let kubeconfig = embedded.kubeconfig(kube_listen).await?;
        let about = About {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            listen,
            kube_listen,
            data_dir: config.data_dir.clone(),
            runtime: embedded.runtime.name.clone(),
            runtime_note: embedded.runtime.note.clone(),
            local_caller: embedded.authenticator.has_local_caller(),
        };
        let facade = Arc::new(Facade {
            tokens: embedded.tokens.clone(),
            sessions: embedded.sessions.clone(),
            about,
            kubeconfig,
            operations: embedded.operations.clone(),
            stop: tokio::sync::Notify::new(),
            started,
        });
        routes::open(&embedded, &facade, &tasks, listener, kube_listener)?;
        Ok(Self { facade, tasks, embedded, _instance: instance })
    }

    /// Stops the platform; pods of steps go on under their shims. Gives how many.
    pub async fn stop(self) -> usize {
        let running = self.embedded.running_steps().await;
        if !self.tasks.stop(DRAIN_WITHIN).await {
            tracing::warn!("some work did not end in time");
        }
        self.embedded.close().await;
        running
    }
}

fn listen(config: &Config, name: &str, what: &str) -> Result<TcpListener> {
    let may_move = *config.origin(name) == Origin::Default;
    let listener = ports::bind(config.address(name)?, may_move, what)?;
    listener.set_nonblocking(true).context("set up a port")?;
    Ok(listener)
}
