//! Prometheus metrics: one registry that is handed around, no global.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::render`]. Source: the OpenMetrics 1.0 text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where metrics are registered and read. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("kubeflow"))))
    }
}

impl Metrics {
    /// Registers a metric; its name gets the prefix `kubeflow_`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.0.lock().register(name, help, metric);
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.0.lock()).is_err() {
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_registered_metric_is_rendered_with_our_prefix() {
        let metrics = Metrics::default();
        let runs = Counter::<u64>::default();
        metrics.register("runs", "Runs that were started", runs.clone());
        runs.inc_by(3);
        assert!(metrics.render().contains("kubeflow_runs_total 3"), "{}", metrics.render());
    }
}
