//! From facts to what is read: states, times, sizes, charts, Markdown. No I/O.

pub(crate) mod chart;
pub(crate) mod markdown;
pub(crate) mod state;
pub(crate) mod steps;
pub(crate) mod time;

/// `1.9 s`, `37 s`, `4m 12s`, `3h 12m`, `1d 4h`.
pub(crate) fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, milliseconds.max(0) % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `12 B`, `3.4 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_the_voice_of_the_pages_wants_them() {
        let durations =
            [(1900, "1.9 s"), (37_400, "37 s"), (252_000, "4m 12s"), (11_520_000, "3h 12m"), (100_800_000, "1d 4h")];
        for (milliseconds, text) in durations {
            assert_eq!(duration(milliseconds), text);
        }
        assert_eq!((size(12), size(3482)), ("12 B".to_owned(), "3.4 KiB".to_owned()));
    }
}
