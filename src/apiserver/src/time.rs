//! Times on the wire: RFC 3339 in whole seconds (`metav1.Time`) or with six digits (`metav1.MicroTime`), always UTC.
//!
//! Invariant: reads no clock; `now` comes from the caller.

use jiff::Timestamp;

/// Parses RFC 3339; the error is the text Go's `time.Parse` gives.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 20
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && matches!(bytes[10], b'T')
        && (bytes[bytes.len() - 1] == b'Z' || bytes[19..].iter().any(|b| matches!(b, b'+' | b'-')));
    if date && let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let layout = "2006-01-02T15:04:05Z07:00";
    Err(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
}

/// `metav1.Time`.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`.
pub fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// How kubectl prints an age: `45s`, `3m4s`, `5h`, `2d3h`.
pub fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let pair = |a: i64, b: i64, x: &str, y: &str| if b == 0 { format!("{a}{x}") } else { format!("{a}{x}{b}{y}") };
    match seconds {
        i64::MIN..=-2 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..120 => format!("{seconds}s"),
        120..600 => pair(minutes, seconds % 60, "m", "s"),
        600..10800 => format!("{minutes}m"),
        10800..28800 => pair(hours, minutes % 60, "h", "m"),
        28800..172800 => format!("{hours}h"),
        172800..691200 => pair(days, hours % 24, "d", "h"),
        691200..63072000 => format!("{days}d"),
        63072000..252288000 => pair(days / 365, days % 365, "y", "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (184, "3m4s"), (700, "11m"), (18000, "5h"), (183600, "2d3h")]
        {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn only_rfc_3339_is_a_time() {
        assert!(parse("2024-01-01T00:00:00Z").is_ok());
        assert!(parse("2024-01-01T00:00:00.123456+02:00").is_ok());
        assert!(parse("yesterday").unwrap_err().ends_with("cannot parse \"yesterday\" as \"2006\""));
    }
}
