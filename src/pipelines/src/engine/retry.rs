//! How long a failed step waits for its next attempt.

use std::time::Duration;

use crate::ir::RetryPolicy;

/// Defaults of `RetryPolicy`. Source: the comments of KFP `PipelineTaskSpec.RetryPolicy`.
const FACTOR: f64 = 2.0;
const MAX: Duration = Duration::from_secs(3600);

/// The wait before the retry after `used` retries; `None` when no retry is left.
pub fn delay(policy: Option<&RetryPolicy>, used: u32) -> Option<Duration> {
    let policy = policy.filter(|policy| used < policy.max_retry_count)?;
    let first = policy.backoff_duration.as_deref().map_or(Duration::ZERO, seconds);
    let factor = policy.backoff_factor.filter(|factor| *factor >= 1.0).unwrap_or(FACTOR);
    let max = policy.backoff_max_duration.as_deref().map_or(MAX, seconds);
    let wait = first.as_secs_f64() * factor.powi(i32::try_from(used).unwrap_or(i32::MAX));
    Some(Duration::try_from_secs_f64(wait).map_or(max, |wait| wait.min(max)))
}

/// A protobuf `Duration` in JSON: `"1.5s"`.
fn seconds(text: &str) -> Duration {
    let seconds = text.trim_end_matches('s').parse::<f64>().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_the_factor_up_to_the_limit_and_end_with_the_count() {
        let policy = RetryPolicy {
            max_retry_count: 4,
            backoff_duration: Some("10s".to_owned()),
            backoff_factor: Some(3.0),
            backoff_max_duration: Some("60s".to_owned()),
        };
        let waits: Vec<_> = (0..5).map(|used| delay(Some(&policy), used).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(10), Some(30), Some(60), Some(60), None]);
        assert_eq!(delay(None, 0), None);
        let eager = RetryPolicy { max_retry_count: 1, ..RetryPolicy::default() };
        assert_eq!(delay(Some(&eager), 0), Some(Duration::ZERO));
    }
}
