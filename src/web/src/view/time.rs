//! Times in the viewer's zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A time as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// For machines.
    pub(crate) iso: String,
    /// Today `18:42`, this week `Mon 19:30`, else `2026-11-24`.
    pub(crate) short: String,
    /// `Tue 24 Nov 2026, 18:20:06 CET`.
    pub(crate) full: String,
}

/// A time, seen at `now` in `zone`.
pub(crate) fn show(at: Timestamp, now: Timestamp, zone: &TimeZone) -> Shown {
    let (local, today) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let week_ago = today.checked_sub(6.days()).map_or(today.date(), |day| day.date());
    let pattern = if local.date() == today.date() {
        "%H:%M"
    } else if local.date() >= week_ago {
        "%a %H:%M"
    } else {
        "%Y-%m-%d"
    };
    Shown {
        iso: at.to_string(),
        short: local.strftime(pattern).to_string(),
        full: local.strftime("%a %-d %b %Y, %H:%M:%S %Z").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_a_time_the_finer_it_is_told() {
        let now: Timestamp = "2026-11-25T20:00:00Z".parse().expect("a time");
        let short = |at: &str| show(at.parse().expect("a time"), now, &TimeZone::UTC).short;
        assert_eq!(short("2026-11-25T18:42:10Z"), "18:42");
        assert_eq!(short("2026-11-23T19:30:00Z"), "Mon 19:30");
        assert_eq!(short("2026-10-01T00:00:00Z"), "2026-10-01");
    }
}
