//! Is it alive, is it ready: named checks that `/healthz`, `/livez` and `/readyz` on both ports show.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of the platform. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<Vec<(&'static str, Check)>>>);

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

/// What a round of checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Name and failure of each check, in the order of registration.
    pub checks: Vec<(&'static str, Option<String>)>,
}

impl Health {
    /// Adds a check; it must answer at once.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.write().push((name, Arc::new(check)));
    }

    /// Asks every check.
    pub fn report(&self) -> Report {
        let checks = self.0.read().iter().map(|(name, check)| (*name, check().err())).collect();
        Report { checks }
    }
}

impl Report {
    /// Whether every check passed.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|(_, failure)| failure.is_none())
    }

    /// The report as Kubernetes prints it with `?verbose`: a line a check, and a verdict on `endpoint`.
    pub fn verbose(&self, endpoint: &str) -> String {
        let mut text = String::new();
        for (name, failure) in &self.checks {
            match failure {
                None => text.push_str(&format!("[+]{name} ok\n")),
                Some(failure) => text.push_str(&format!("[-]{name} failed: {failure}\n")),
            }
        }
        let verdict = if self.is_good() { "passed" } else { "failed" };
        text.push_str(&format!("{endpoint} check {verdict}\n"));
        text
    }
}
