//! Log files in the format that a container runtime writes for a kubelet: `<time> stdout|stderr F|P <text>` a line.
//!
//! `F` ends a line, `P` is a part of one (too long, or the output ended without a newline). Written by the shim, read by
//! `node`. Rotated by size: the newest part has the plain name, older ones `.1` to `.4`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file is set aside when it is larger than this (a kubelet's default).
pub const FILE_BYTES_MAX: u64 = 10 << 20;
/// So many files are kept of one attempt (a kubelet's default).
pub const FILES_MAX: u32 = 5;
/// A line without an end is cut into parts of this size.
const PART_BYTES_MAX: usize = 16 << 10;

/// Which of the two outputs a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// As it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// Writes the log of one attempt.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Opens (or goes on with) the log at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size_bytes, pending: [Vec::new(), Vec::new()] })
    }

    /// Takes what a stream delivered at `time_ns` and writes the lines that are complete.
    pub fn take(&mut self, stream: Stream, bytes: &[u8], time_ns: i64) -> io::Result<()> {
        let head = format!("{} {}", timestamp(time_ns), stream.name());
        let pending = &mut self.pending[stream as usize];
        pending.extend_from_slice(bytes);
        let mut text = Vec::with_capacity(pending.len() + 64);
        let mut done = 0;
        while let Some(rest) = pending.get(done..).filter(|rest| !rest.is_empty()) {
            let line_end = rest.iter().take(PART_BYTES_MAX).position(|byte| *byte == b'\n');
            let (tag, length, skip) = match line_end {
                Some(end) => ("F", end, end + 1),
                None if rest.len() >= PART_BYTES_MAX => ("P", PART_BYTES_MAX, PART_BYTES_MAX),
                None => break,
            };
            line(&mut text, &head, tag, rest.get(..length).unwrap_or_default());
            done += skip;
        }
        pending.drain(..done);
        self.append(&text)
    }

    /// The stream has ended: writes what is left without a newline.
    pub fn finish(&mut self, stream: Stream, time_ns: i64) -> io::Result<()> {
        let rest = std::mem::take(&mut self.pending[stream as usize]);
        if rest.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        line(&mut text, &format!("{} {}", timestamp(time_ns), stream.name()), "P", &rest);
        self.append(&text)
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.size_bytes > FILE_BYTES_MAX {
            self.rotate()?;
        }
        self.file.write_all(text)?;
        self.size_bytes += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..FILES_MAX - 1).rev() {
            let _ = fs::rename(part(&self.path, number), part(&self.path, number + 1));
        }
        fs::rename(&self.path, part(&self.path, 1))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size_bytes = 0;
        Ok(())
    }
}

/// The path of an older part of a log; 0 is the newest.
pub fn part(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn line(text: &mut Vec<u8>, head: &str, tag: &str, content: &[u8]) {
    text.extend_from_slice(head.as_bytes());
    text.push(b' ');
    text.extend_from_slice(tag.as_bytes());
    text.push(b' ');
    text.extend_from_slice(content);
    text.push(b'\n');
}

/// RFC 3339 in UTC with nine digits, so that lines sort as text.
pub fn timestamp(time_ns: i64) -> String {
    let (seconds, nanos) = (time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a number of days since 1970-01-01, by counting from 1 March of year 0 in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_calendar_time() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_827_696_000_000_001, "2000-02-29T12:34:56.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (time_ns, expected) in cases {
            assert_eq!(timestamp(time_ns), expected);
        }
    }

    #[test]
    fn lines_parts_and_the_end_without_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = Log::open(&path).unwrap();
        log.take(Stream::Out, b"one\ntw", 0).unwrap();
        log.take(Stream::Err, b"bad\n", 0).unwrap();
        log.take(Stream::Out, b"o\nrest", 0).unwrap();
        log.finish(Stream::Out, 0).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let tails: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(tails, ["stdout F one", "stderr F bad", "stdout F two", "stdout P rest"]);
    }

    #[test]
    fn a_large_log_is_set_aside_and_old_parts_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = Log::open(&path).unwrap();
        let line = vec![b'x'; 15_000];
        for _ in 0..(FILES_MAX as usize + 2) * (FILE_BYTES_MAX as usize / 15_000 + 2) {
            log.take(Stream::Out, &line, 0).unwrap();
            log.take(Stream::Out, b"\n", 0).unwrap();
        }
        let kept = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(kept, FILES_MAX as usize);
        assert!(fs::metadata(&path).unwrap().len() <= FILE_BYTES_MAX + 20_000);
    }
}
