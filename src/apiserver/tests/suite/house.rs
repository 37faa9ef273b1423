//! A server on a store in a folder of its own, and clients of it.

use std::time::Duration;

use apiserver::node_proxy::NodeProxy;
use apiserver::server::{Config, Server};
use auth::authenticator::Authenticator;
use auth::authorizer::Authorizer;
use auth::identity::Identity;
use auth::sessions::Sessions;
use auth::tokens::Tokens;
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use records::{Db, Options};
use serde_json::json;

/// How long a condition may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A running API.
pub struct House {
    /// The server.
    pub server: Server,
    /// The node's endpoints.
    pub node: NodeProxy,
    _folder: tempfile::TempDir,
}

impl House {
    /// A server whose store was opened with changed options.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::at(folder.path());
        change(&mut options);
        let db = Db::open(options).unwrap();
        let clock = Clock::system();
        let authorizer = Authorizer::default();
        let tokens = Tokens::new(db.clone(), clock.clone());
        let sessions = Sessions::new(db.clone(), clock.clone());
        let node = NodeProxy::default();
        let server = Server::new(Config {
            db,
            authenticator: Authenticator::new(tokens, sessions, None, authorizer.clone()),
            authorizer,
            clock,
            tasks: Tasks::root("test"),
            node_proxy: node.clone(),
            metrics: telemetry::metrics::Metrics::default(),
        });
        server.bootstrap().await.unwrap();
        Self { server, node, _folder: folder }
    }

    /// A server with the usual options.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A client that acts as a part of the platform.
    pub fn client(&self) -> Client {
        self.server.client(Identity::service("test"), "default")
    }

    /// ConfigMaps of `default`.
    pub fn maps(&self) -> Api<ConfigMap> {
        Api::default_namespaced(self.client())
    }

    /// Makes a ConfigMap.
    pub async fn map(&self, name: &str) -> ConfigMap {
        let body = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).unwrap();
        self.maps().create(&PostParams::default(), &body).await.unwrap()
    }
}

/// The code of an API error.
pub fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("not an API error: {other}"),
    }
}
