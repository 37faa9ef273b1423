//! A laptop: records on this disk, the Kubernetes API in process, a node agent, the built-in controllers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use apiserver::node_proxy::NodeProxy;
use apiserver::server::{Config as ServerConfig, Server};
use artifacts::store::Store as Artifacts;
use auth::authenticator::Authenticator;
use auth::authorizer::Authorizer;
use auth::identity::Identity;
use auth::local::LocalCaller;
use auth::sessions::Sessions;
use auth::tokens::Tokens;
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use gateway::tls::Authority;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use node::agent::{Agent, Choice, Options as NodeOptions};
use node::images::StandIn;
use pipelines::controller::{Context as ControllerContext, Controller};
use pipelines::logs::{Keep, LogBook};
use pipelines::operations::Operations;
use pipelines::store::Store;
use records::Db;
use telemetry::health::Health;
use telemetry::metrics::Metrics;

use super::{NAMESPACE, USER, figures};
use crate::config::Config;
use crate::kubeconfig;

/// Everything that runs in this process on a laptop.
pub struct Embedded {
    /// Recognises callers.
    pub authenticator: Authenticator,
    /// Bearer tokens.
    pub tokens: Tokens,
    /// Browser sessions.
    pub sessions: Sessions,
    /// Runs and pipelines.
    pub operations: Operations,
    /// The Kubernetes API.
    pub server: Server,
    /// Certificates.
    pub authority: Authority,
    /// How pods run.
    pub runtime: Runtime,
    /// What runs well.
    pub health: Health,
    /// Figures.
    pub metrics: Metrics,
    db: Db,
    client: kube::Client,
    data_dir: PathBuf,
}

/// How pods run.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// `sandbox` or `process`.
    pub name: String,
    /// Why not better, where it could be.
    pub note: Option<String>,
}

fn keep(config: &Config) -> Result<Keep> {
    Ok(Keep { days: config.number("logs.keepDays")?, bytes: u64::from(config.number("logs.keepGiB")?) << 30 })
}

impl Embedded {
    /// Starts all parts, in the order in which they need each other.
    ///
    /// # Errors
    /// When one cannot start; says which.
    pub async fn start(config: &Config, tasks: &Tasks, listen: SocketAddr, started: Instant) -> Result<Self> {
        let (clock, data_dir) = (Clock::system(), config.data_dir.clone());
        let (health, metrics) = (Health::default(), Metrics::default());
        let db = Db::open(records::Options::at(data_dir.join("db"))).context("open the store")?;
        let tokens = Tokens::new(db.clone(), clock.clone());
        let sessions = Sessions::new(db.clone(), clock.clone());
        let authorizer = Authorizer::default();
        let authority = Authority::open(&data_dir.join("tls")).context("open the certificates")?;
        let node_proxy = NodeProxy::default();
        let api_authenticator = Authenticator::new(tokens.clone(), sessions.clone(), None, authorizer.clone());
        let server = Server::new(ServerConfig {
            db: db.clone(),
            authenticator: api_authenticator.clone(),
            authorizer: authorizer.clone(),
            clock: clock.clone(),
            tasks: tasks.child("kubernetes api"),
            node_proxy: node_proxy.clone(),
            metrics: metrics.clone(),
        });
        server.bootstrap().await.map_err(|error| anyhow::anyhow!("{error:?}")).context("make the first namespaces")?;
        let client = |name: &str| server.client(Identity::service(name), NAMESPACE);
        let root_ca = Some(authority.ca_pem.clone());
        workloads::start(tasks, workloads::Options { clock: clock.clone(), root_ca }, client);
        let agent = start_node(config, client("node"), &clock, tasks).await?;
        node_proxy.connect(agent.router());
        let runtime = runtime_of(&agent);
        agent.recover().await.context("take back the pods of this node")?;
        let (own, node_tasks) = (agent.clone(), tasks.child("node agent"));
        node_tasks.spawn("node", async move { own.run().await });
        let artifacts = Artifacts::local(data_dir.join("artifacts")).context("open the artifact store")?;
        let store = Store::open(db.clone(), clock.clone()).context("open the pipelines' tables")?;
        let logs = LogBook::new(data_dir.join("logs/runs"), keep(config)?);
        let operations = Operations::new(store.clone(), artifacts.clone(), NAMESPACE, logs.clone());
        let controller = Controller::new(ControllerContext {
            store,
            artifacts,
            client: client("pipelines"),
            tasks: tasks.child("pipelines"),
            logs,
            launcher: executable()?,
        });
        controller.start().context("resume unfinished runs")?;
        // A process without namespaces can read what its user can, so it could pass for the user.
        let local = config.flag("localCaller")? && listen.ip().is_loopback() && runtime.name == "sandbox";
        let local = local.then(|| LocalCaller::new(Identity::admin(USER)));
        let authenticator = Authenticator::new(tokens.clone(), sessions.clone(), local, authorizer);
        let client = client("platform");
        figures::register(&metrics, started, &db, &operations, &agent, data_dir.clone());
        let probe = db.clone();
        health.check("records", move || probe.read(|_| Ok(())));
        Ok(Self {
            authenticator,
            tokens,
            sessions,
            operations,
            server,
            authority,
            runtime,
            health,
            metrics,
            db,
            client,
            data_dir,
        })
    }

    /// The kubeconfig for the API: kept in the data folder, made anew when its token is not good any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn kubeconfig(&self, kube_listen: SocketAddr) -> Result<serde_json::Value> {
        let path = self.data_dir.join("tls/kubeconfig");
        let server = format!("https://{kube_listen}");
        let known = std::fs::read_to_string(&path).ok();
        let known = known.and_then(|text| serde_saphyr::from_str::<serde_json::Value>(&text).ok());
        let token = known.as_ref().and_then(|config| config["users"][0]["user"]["token"].as_str());
        let token = match token.filter(|token| self.tokens.find(token).is_some()) {
            Some(token) => token.to_owned(),
            None => {
                let minted = self.tokens.mint("kubeconfig", Identity::admin(USER), None).await;
                minted.context("make a token for the kubeconfig")?.expose().to_owned()
            }
        };
        let config = kubeconfig::render(&server, &self.authority.ca_pem, &token, NAMESPACE);
        if known.as_ref() != Some(&config) {
            kubeconfig::write(&path, &config)?;
        }
        Ok(config)
    }

    /// How many steps are at work now.
    pub async fn running_steps(&self) -> usize {
        let api: Api<Pod> = Api::all(self.client.clone());
        let parameters = kube::api::ListParams::default().fields("status.phase=Running");
        api.list(&parameters).await.map_or(0, |pods| pods.items.len())
    }

    /// Closes the store in order.
    pub async fn close(self) {
        if let Err(error) = self.db.close().await {
            tracing::error!(error = %foundation::problem::chain(&error), "the store was not closed in order");
        }
    }
}

async fn start_node(config: &Config, client: kube::Client, clock: &Clock, tasks: &Tasks) -> Result<Agent> {
    let stand_in = match config.choice("images.standIn", &["always", "never"])? {
        "never" => StandIn::Never,
        _ => StandIn::default(),
    };
    let runtime = match config.choice("runtime", &["best", "process"])? {
        "process" => Choice::Process,
        _ => Choice::Best,
    };
    let uv = Some(config.text("uv")).filter(|path| !path.is_empty()).map(PathBuf::from);
    let options = NodeOptions {
        node_name: node_name(),
        data_dir: config.data_dir.clone(),
        exe: executable()?,
        shim_role: vec!["shim".to_owned()],
        runtime,
        stand_in,
        uv,
        clock: clock.clone(),
        tasks: tasks.child("node"),
    };
    Agent::new(client, options).await.context("start the node agent")
}

fn runtime_of(agent: &Agent) -> Runtime {
    let (isolation, report) = agent.runtime();
    let failure = report.failure.as_ref().map(ToString::to_string);
    let note = failure.map(|failure| match &report.remedy {
        Some(remedy) => format!("{failure}. {remedy}"),
        None => failure,
    });
    Runtime { name: format!("{isolation:?}").to_lowercase(), note }
}

/// The machine's name, if it can be a Kubernetes name.
fn node_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let valid = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if valid && !name.starts_with(['-', '.']) && !name.ends_with(['-', '.']) { name } else { "laptop".to_owned() }
}

fn executable() -> Result<PathBuf> {
    std::env::current_exe().context("find this program")
}
