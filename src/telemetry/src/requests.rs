//! How many requests, how fast: counted by the front door for both ports.
//!
//! Invariant: no label takes a value that a client can make up, so that the number of series stays bounded.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::Metrics;

/// Upper bounds in seconds: from an answer out of memory to one that a person gives up on.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"];

type Labels<const N: usize> = [(&'static str, String); N];

/// The figures of requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests {
    total: Family<Labels<4>, Counter>,
    duration: Family<Labels<2>, Histogram, fn() -> Histogram>,
}

impl Requests {
    /// Figures that start at nothing.
    pub fn register(metrics: &Metrics) -> Self {
        let total = Family::default();
        let duration = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        metrics.register("requests", "Requests answered, by port, method, route and status", total.clone());
        let help = "Seconds until the head of an answer was there, by port and route";
        metrics.register("request_duration_seconds", help, duration.clone());
        Self { total, duration }
    }

    /// Counts a request whose answer begins now. `route` is a pattern of ours, never what the client sent.
    pub fn record(&self, port: &str, method: &str, route: &str, status: u16, taken: Duration) {
        let method = if METHODS.contains(&method) { method } else { "other" };
        let (port, route) = (("port", port.to_owned()), ("route", route.to_owned()));
        let labels = [port.clone(), ("method", method.to_owned()), route.clone(), ("status", status.to_string())];
        self.total.get_or_create(&labels).inc();
        self.duration.get_or_create(&[port, route]).observe(taken.as_secs_f64());
    }
}
