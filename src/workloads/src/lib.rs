//! The built-in controllers of a laptop: scheduler, service accounts, node readiness, namespaces, garbage collection,
//! expiry of events.
//!
//! `kubeflow` starts them with [`start`]; each is a client of the API like any other and would run against a real one.
//!
//! Invariant: only `kube::Client` is spoken; what a controller knows can be had again from the API after a restart.

use foundation::clock::Clock;
use foundation::tasks::Tasks;

pub mod event_expiry;
pub mod garbage_collector;
pub mod namespace;
pub mod node_readiness;
pub mod scheduler;
pub mod service_account;

mod slim;

/// What the controllers are given.
pub struct Options {
    /// Now.
    pub clock: Clock,
    /// The API's CA (PEM), published to every namespace as ConfigMap `kube-root-ca.crt`; none publishes an empty one, so
    /// that pods that mount it start.
    pub root_ca: Option<String>,
}

/// Starts every controller under `tasks`; `client` gives each its own client by name (`scheduler`, …).
pub fn start(tasks: &Tasks, options: Options, client: impl Fn(&'static str) -> kube::Client) {
    let Options { clock, root_ca } = options;
    let group = tasks.child("workloads");
    scheduler::start(&group, client("scheduler"), clock.clone());
    service_account::start(&group, client("service-account"), root_ca);
    node_readiness::start(&group, client("node-readiness"));
    namespace::start(&group, client("namespace"));
    garbage_collector::start(&group, client("garbage-collector"));
    event_expiry::start(&group, client("event-expiry"), clock);
}
