//! How long to wait before the next try: doubling, capped, jittered.

use std::time::Duration;

use rand::Rng;

/// Delays for one thing that is tried again and again.
///
/// Each delay is drawn between half and all of a value that doubles from `initial` to `max`, so that many callers that
/// failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `initial` and never waits longer than `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, next: initial }
    }

    /// The time to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let full = self.next.min(self.max);
        self.next = full.saturating_mul(2).min(self.max);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Called after a success: the next failure waits `initial` again.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_again_after_a_success() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_millis(350));
        let mut backoff = Backoff::new(initial, max);
        for full_ms in [100, 200, 350, 350] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_millis(full_ms) / 2 && delay <= Duration::from_millis(full_ms),
                "{delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= initial);
    }
}
