//! Reads the log of one attempt as Kubernetes' clients ask for it: from a time, the last lines, with timestamps, following.
//!
//! Called by `server`. Woken by the kernel when a file grows or an exit record appears; nothing is polled.
//! Invariant: a follower that sees the exit record has read everything that was written before it.

use bytes::Bytes;
use foundation::tasks::blocking;
use futures::Stream;
use jiff::Timestamp;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use shim::logs::{FILES_MAX, part};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Where the kernel cannot tell of changes (limit of watches), and against a lost word from it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a client wants of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on until the attempt has ended.
    pub follow: bool,
    /// Each line with its time.
    pub timestamps: bool,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// So many lines of the end.
    pub tail_lines: Option<usize>,
    /// Stop after so many bytes, also in the middle of a line.
    pub limit_bytes: Option<usize>,
}

/// The log at `log` (and its older parts) as clients see it. `exit`: the attempt's exit record, after which nothing comes.
pub fn stream(
    log: PathBuf,
    exit: PathBuf,
    options: LogOptions,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let cursor = Cursor {
        watcher: if options.follow { Watcher::new(&log, &exit) } else { None },
        since: options.since.map(|since| format!("{since:.9}")),
        left: options.limit_bytes,
        files: VecDeque::new(),
        carry: Vec::new(),
        inside_line: false,
        opened: false,
        last_look: false,
        log,
        exit,
        options,
    };
    futures::stream::try_unfold(
        cursor,
        |mut cursor| async move { Ok(cursor.next().await?.map(|bytes| (bytes, cursor))) },
    )
}

/// The end of a log as text: at most so many lines and bytes.
pub fn tail(log: &Path, lines_max: usize, bytes_max: usize) -> String {
    let Ok(text) = std::fs::read(log) else { return String::new() };
    let start = tail_offset(&text, lines_max).0;
    let mut shown = Vec::new();
    let mut inside_line = false;
    for line in text.get(start..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        show(line, false, None, &mut inside_line, &mut shown);
    }
    let cut = shown.len().saturating_sub(bytes_max);
    String::from_utf8_lossy(shown.get(cut..).unwrap_or_default()).into_owned()
}

struct Cursor {
    log: PathBuf,
    exit: PathBuf,
    options: LogOptions,
    watcher: Option<Watcher>,
    /// As it stands in the file, so that times compare as text.
    since: Option<String>,
    left: Option<usize>,
    files: VecDeque<File>,
    carry: Vec<u8>,
    inside_line: bool,
    opened: bool,
    /// The exit record was there before the newest file was read to its end.
    last_look: bool,
}

impl Cursor {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.opened {
            self.opened = true;
            let (log, lines) = (self.log.clone(), self.options.tail_lines);
            self.files = blocking("open log", move || open(&log, lines)).await.map_err(io::Error::other)??;
        }
        loop {
            if self.left == Some(0) || self.files.is_empty() {
                return Ok(None);
            }
            self.last_look = self.last_look || self.exit.exists();
            let chunk = self.read().await?;
            if !chunk.is_empty() {
                let shown = self.take(&chunk);
                if !shown.is_empty() {
                    return Ok(Some(shown));
                }
            } else if self.files.len() > 1 {
                self.files.pop_front();
            } else if !self.options.follow || self.last_look {
                return Ok(None);
            } else if let Some(newer) = self.rotated() {
                self.files.push_back(newer);
            } else {
                self.wait().await;
            }
        }
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let Some(file) = self.files.front() else { return Ok(Vec::new()) };
        let mut file = file.try_clone()?;
        let read = move || {
            let mut buffer = vec![0_u8; CHUNK_BYTES];
            let count = file.read(&mut buffer)?;
            buffer.truncate(count);
            Ok(buffer)
        };
        blocking("read log", read).await.map_err(io::Error::other)?
    }

    fn take(&mut self, chunk: &[u8]) -> Bytes {
        self.carry.extend_from_slice(chunk);
        let end = self.carry.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.carry.drain(..end).collect();
        let mut shown = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            show(line, self.options.timestamps, self.since.as_deref(), &mut self.inside_line, &mut shown);
        }
        if let Some(left) = &mut self.left {
            shown.truncate(*left);
            *left -= shown.len();
        }
        Bytes::from(shown)
    }

    /// The file that now has the log's name, if that is another one than we read.
    fn rotated(&self) -> Option<File> {
        let current = self.files.front()?.metadata().ok()?.ino();
        let newest = File::open(&self.log).ok()?;
        (newest.metadata().ok()?.ino() != current).then_some(newest)
    }

    async fn wait(&mut self) {
        match &mut self.watcher {
            Some(watcher) => drop(tokio::time::timeout(LOOK_EVERY, watcher.changed()).await),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// All parts of a log, oldest first, the first one placed where the wanted lines begin.
fn open(log: &Path, tail_lines: Option<usize>) -> io::Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    let mut wanted = tail_lines;
    for number in 0..FILES_MAX {
        let mut file = match File::open(part(log, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        if let Some(lines) = &mut wanted {
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            let (offset, found) = tail_offset(&text, *lines);
            file.seek(SeekFrom::Start(offset as u64))?;
            *lines -= found.min(*lines);
        }
        files.push_front(file);
        if wanted == Some(0) {
            break;
        }
    }
    Ok(files)
}

/// Where the last `lines` lines begin, and how many there are. Parts of a line count with its end.
fn tail_offset(text: &[u8], lines: usize) -> (usize, usize) {
    let mut offset = text.len();
    let mut found = 0;
    let mut rest = text;
    while let Some(line_end) = rest.strip_suffix(b"\n") {
        let start = line_end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let is_part =
            line_end.get(start..).is_some_and(|line| line.splitn(4, |byte| *byte == b' ').nth(2) == Some(b"P"));
        // A part belongs to the line that ends after it; at the very end it is a line of its own.
        if !is_part || found == 0 {
            if found == lines {
                break;
            }
            found += 1;
        }
        offset = start;
        rest = text.get(..start).unwrap_or_default();
    }
    if lines == 0 { (text.len(), 0) } else { (offset, found) }
}

/// Writes one line of the file as a client sees it.
fn show(line: &[u8], timestamps: bool, since: Option<&str>, inside_line: &mut bool, shown: &mut Vec<u8>) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(_), Some(tag), Some(text)) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    if since.is_some_and(|since| time < since.as_bytes()) {
        return;
    }
    if timestamps && !*inside_line {
        shown.extend_from_slice(time);
        shown.push(b' ');
    }
    shown.extend_from_slice(text);
    *inside_line = tag == b"P";
    if !*inside_line {
        shown.push(b'\n');
    }
}

/// Says when a log or its exit record changes.
struct Watcher(AsyncFd<OwnedFd>);

impl Watcher {
    fn new(log: &Path, exit: &Path) -> Option<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let files = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_FROM;
        inotify::add_watch(&descriptor, log.parent()?, files).ok()?;
        inotify::add_watch(&descriptor, exit.parent()?, WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF).ok()?;
        #[expect(
            deprecated,
            reason = "the unsafe constructor is not for this crate; an OwnedFd stays open for as long as it is held"
        )]
        let watched = AsyncFd::new(descriptor);
        watched.ok().map(Self)
    }

    async fn changed(&mut self) {
        let Ok(mut ready) = self.0.readable().await else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(ready.get_inner(), &mut buffer);
        while events.next().is_ok() {}
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    const LINES: &str = "2026-01-01T00:00:01.000000000Z stdout F one\n2026-01-01T00:00:02.000000000Z stderr P tw\n\
2026-01-01T00:00:02.500000000Z stderr F o\n2026-01-01T00:00:03.000000000Z stdout F three\n2026-01-01T00:00:04.000000000Z stdout P end";

    async fn check(options: LogOptions, expected: &str) {
        let folder = tempfile::tempdir().expect("folder");
        let log = folder.path().join("c.0.log");
        std::fs::write(part(&log, 1), LINES.lines().take(1).map(|line| format!("{line}\n")).collect::<String>())
            .expect("older part");
        std::fs::write(&log, LINES.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>()).expect("log");
        let exit = folder.path().join("exit");
        std::fs::write(&exit, "").expect("exit record");
        let bytes: Vec<Bytes> = stream(log, exit, options.clone()).try_collect().await.expect("log");
        assert_eq!(String::from_utf8_lossy(&bytes.concat()), expected, "{options:?}");
    }

    #[tokio::test]
    async fn what_clients_may_ask_for() {
        let all = LogOptions::default();
        check(all.clone(), "one\ntwo\nthree\nend").await;
        check(LogOptions { follow: true, ..all.clone() }, "one\ntwo\nthree\nend").await;
        check(LogOptions { tail_lines: Some(0), ..all.clone() }, "").await;
        check(LogOptions { tail_lines: Some(2), ..all.clone() }, "three\nend").await;
        check(LogOptions { tail_lines: Some(3), ..all.clone() }, "two\nthree\nend").await;
        check(LogOptions { tail_lines: Some(40), ..all.clone() }, "one\ntwo\nthree\nend").await;
        check(LogOptions { limit_bytes: Some(5), ..all.clone() }, "one\nt").await;
        check(LogOptions { since: "2026-01-01T00:00:03Z".parse().ok(), ..all.clone() }, "three\nend").await;
        let dated = LogOptions { timestamps: true, tail_lines: Some(2), ..all };
        check(dated, "2026-01-01T00:00:03.000000000Z three\n2026-01-01T00:00:04.000000000Z end").await;
    }

    #[tokio::test]
    async fn a_follower_sees_growth_rotation_and_the_end() {
        let folder = tempfile::tempdir().expect("folder");
        let (logs, exits) = (folder.path().join("logs"), folder.path().join("exit"));
        std::fs::create_dir_all(&exits).expect("folder");
        let (log, exit) = (logs.join("c.0.log"), exits.join("c.0"));
        let mut writer = shim::logs::Log::open(&log).expect("log");
        writer.take(shim::logs::Stream::Out, b"first\n", 1).expect("written");
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut stream = Box::pin(stream(log.clone(), exit.clone(), options));
        assert_eq!(stream.try_next().await.expect("log").as_deref(), Some(&b"first\n"[..]));
        writer.take(shim::logs::Stream::Out, b"second\n", 2).expect("written");
        assert_eq!(stream.try_next().await.expect("log").as_deref(), Some(&b"second\n"[..]));
        std::fs::rename(&log, part(&log, 1)).expect("rotated");
        let mut writer = shim::logs::Log::open(&log).expect("log");
        writer.take(shim::logs::Stream::Out, b"third\n", 3).expect("written");
        assert_eq!(stream.try_next().await.expect("log").as_deref(), Some(&b"third\n"[..]));
        std::fs::write(exits.join("draft"), "").expect("record");
        std::fs::rename(exits.join("draft"), &exit).expect("record");
        assert_eq!(stream.try_next().await.expect("log"), None);
    }
}
