//! Prometheus metrics: one registry that is handed around, no global.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::render`]. Source: the OpenMetrics 1.0 text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where metrics are registered and read. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Registries>);

struct Registries {
    /// Ours: every name begins with `kubeflow_`.
    own: Mutex<Registry>,
    /// The names that every Prometheus client gives to facts of a process.
    process: Mutex<Registry>,
}

/// What a figure that is asked for at each scrape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It goes up and down.
    Gauge,
    /// It only goes up while the process lives.
    Counter,
}

/// One figure with its label values, in the order of the label names.
pub type Sample = (Vec<String>, f64);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let own = Mutex::new(Registry::with_prefix("kubeflow"));
        Self(Arc::new(Registries { own, process: Mutex::default() }))
    }
}

impl Metrics {
    /// Registers a metric; its name gets the prefix `kubeflow_`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.0.own.lock().register(name, help, metric);
    }

    /// Registers a gauge whose value is asked for at each scrape; `ask` must answer at once.
    pub fn gauge(&self, name: &'static str, help: &'static str, ask: impl Fn() -> f64 + Send + Sync + 'static) {
        self.gauges(name, help, &[], move || vec![(Vec::new(), ask())]);
    }

    /// Registers gauges with labels that are asked for at each scrape; `ask` must answer at once.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        ask: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let asked = Asked { name, help, shape: Shape::Gauge, labels, ask: Box::new(ask) };
        self.0.own.lock().register_collector(Box::new(asked));
    }

    /// Registers a fact of the process, under its usual name without our prefix; absent where it cannot be read.
    pub(crate) fn of_process(
        &self,
        name: &'static str,
        help: &'static str,
        shape: Shape,
        ask: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let ask = Box::new(move || ask().map(|value| (Vec::new(), value)).into_iter().collect());
        self.0.process.lock().register_collector(Box::new(Asked { name, help, shape, labels: &[], ask }));
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        use prometheus_client::encoding::text::{encode_eof, encode_registry};
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.0.own.lock())
            .and_then(|()| encode_registry(&mut text, &self.0.process.lock()))
            .and_then(|()| encode_eof(&mut text));
        if written.is_err() {
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

/// Figures that somebody else keeps.
struct Asked {
    name: &'static str,
    help: &'static str,
    shape: Shape,
    labels: &'static [&'static str],
    ask: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = (self.ask)();
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.shape {
            Shape::Gauge => ConstGauge::new(0.0).metric_type(),
            Shape::Counter => ConstCounter::new(0.0).metric_type(),
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (values, value) in samples {
            let labels: Vec<(&str, String)> = self.labels.iter().copied().zip(values).collect();
            let one = metric.encode_family(&labels)?;
            match self.shape {
                Shape::Gauge => ConstGauge::new(value).encode(one)?,
                Shape::Counter => ConstCounter::new(value).encode(one)?,
            }
        }
        Ok(())
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

    #[test]
    fn a_scrape_reads_as_openmetrics_and_holds_what_is_asked_for() {
        let metrics = Metrics::default();
        crate::process::register(&metrics, std::time::Instant::now());
        let requests = crate::requests::Requests::register(&metrics);
        requests.record("front", "GET", "/ns/{ns}/runs", 200, std::time::Duration::from_millis(3));
        requests.record("front", "BREW", "/ns/{ns}/runs", 404, std::time::Duration::from_millis(3));
        metrics.gauges("runs", "Runs", &["state"], || vec![(vec!["failed \"x\"".to_owned()], 2.0)]);
        let text = metrics.render();
        let samples = parse(&text);
        let value = |wanted: &str| samples.iter().find(|(name, _)| name.contains(wanted)).map(|(_, value)| *value);
        assert_eq!(value("kubeflow_requests_total{port=\"front\",method=\"GET\""), Some(1.0), "{text}");
        assert_eq!(value("method=\"other\""), Some(1.0), "a method of the client's is no label of ours:\n{text}");
        assert_eq!(value("kubeflow_request_duration_seconds_count"), Some(2.0), "{text}");
        assert_eq!(value(r#"kubeflow_runs{state="failed \"x\""}"#), Some(2.0), "{text}");
        assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{text}");
        assert!(value("process_cpu_seconds_total").is_some(), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    /// Every line is a comment that OpenMetrics knows, or a name with labels and a number.
    fn parse(text: &str) -> Vec<(String, f64)> {
        let mut samples = Vec::new();
        for line in text.lines() {
            if line == "# EOF" || ["# HELP ", "# TYPE ", "# UNIT "].iter().any(|start| line.starts_with(start)) {
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
            samples.push((name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number in {line:?}"))));
        }
        samples
    }
}
