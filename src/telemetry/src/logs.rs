//! Structured logs: one line an event, to standard error or to a file.
//!
//! Fields have fixed names (`run.id`, `task.name`, `namespace`, `pod.name`, `user.name`, `duration_ms`, `size_bytes`). No
//! bodies, tokens, argv or e-mail addresses.

use std::io::IsTerminal;

use tracing_subscriber::filter::EnvFilter;

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Starts logging for the whole process; a second call does nothing.
///
/// `filter` is a list of `target=level` pairs (`info,records=debug`); what cannot be read counts as `info`.
pub fn start(filter: &str, format: Format) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started already");
    }
}
