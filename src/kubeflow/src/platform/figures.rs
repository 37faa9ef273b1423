//! The figures that `/metrics` shows, beside those that requests leave behind.
//!
//! Each is asked of the part that knows it when somebody scrapes, so that nothing is counted twice or forgotten.

use std::path::PathBuf;
use std::time::Instant;

use node::agent::Agent;
use pipelines::operations::Operations;
use pipelines::types::run::State;
use records::Db;
use telemetry::metrics::Metrics;

const STATES: [(State, &str); 6] = [
    (State::Pending, "pending"),
    (State::Running, "running"),
    (State::Succeeded, "succeeded"),
    (State::Failed, "failed"),
    (State::Canceling, "canceling"),
    (State::Canceled, "canceled"),
];

/// Registers the figures of one platform, which began to start at `started`.
pub fn register(
    metrics: &Metrics,
    started: Instant,
    db: &Db,
    operations: &Operations,
    agent: &Agent,
    data_dir: PathBuf,
) {
    telemetry::process::register(metrics, started);
    metrics.gauges("build_info", "Always 1; the label says which version runs", &["version"], || {
        vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)]
    });
    let known = operations.clone();
    metrics.gauges("runs", "Runs that are stored, by state", &["state"], move || {
        let count = |state| known.library().runs(|run| run.state == state).len() as f64;
        STATES.into_iter().map(|(state, word)| (vec![word.to_owned()], count(state))).collect()
    });
    let known = operations.clone();
    metrics.gauge("runs_unfinished", "Runs that have not ended", move || {
        known.library().runs(|run| !run.state.is_final()).len() as f64
    });
    let agent = agent.clone();
    metrics.gauge("steps_running", "Pods that run on this node now", move || agent.running_pods() as f64);
    let store = db.clone();
    metrics.gauge(
        "store_revision",
        "The last durable revision of the store; grows by one with each change",
        move || store.revision() as f64,
    );
    metrics.gauges("data_free_bytes", "Bytes that are free where the data folder is", &[], move || {
        let stat = rustix::fs::statvfs(&data_dir).ok();
        stat.map(|stat| (Vec::new(), stat.f_bavail.saturating_mul(stat.f_frsize) as f64)).into_iter().collect()
    });
}
