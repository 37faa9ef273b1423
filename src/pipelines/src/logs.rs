//! Logs of steps: files that live with their run, an index of their lines, and word of how far a live one has come.
//!
//! Written by `controller::logs`, which follows pods; read by operations, for API, pages and command line. Lines are kept as
//! the pod's log gives them with timestamps (`<RFC 3339> <text>`). The index holds the offset of each line as eight bytes,
//! so that a range of a million lines is found without reading them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::engine::executor_input::task_id;
use crate::types::task::{Kind, Task};

/// Of the end of a log, looked at for its last lines.
const TAIL_BYTES: u64 = 64 << 10;
/// An entry of the index.
const ENTRY_BYTES: u64 = 8;

/// How far a log has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Lines that can be read: the whole ones and, of a complete log, a last one without its end.
    pub lines: u64,
    /// Whether no more will come.
    pub complete: bool,
}

/// How long logs of finished runs stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Days after the run's end; 0 is for ever.
    pub days: u32,
    /// Bytes of all logs together, beyond which the oldest go; 0 is any number.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: 30, bytes: 10 << 30 }
    }
}

/// All logs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogBook {
    folder: Arc<PathBuf>,
    keep: Keep,
    live: Arc<Mutex<HashMap<PathBuf, watch::Receiver<Progress>>>>,
}

impl LogBook {
    /// Logs below `folder`, kept for as long as `keep` says.
    pub fn new(folder: PathBuf, keep: Keep) -> Self {
        Self { folder: Arc::new(folder), keep, live: Arc::default() }
    }

    /// The folder of all runs' folders.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How long logs stay.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Whether a log that was written has been removed: logs go run by run.
    pub fn is_removed(&self, run_id: &str, task: &Task) -> bool {
        task.state.is_final()
            && task.kind == Kind::Container
            && task.times.started_at.is_some()
            && !self.of_run(run_id).exists()
    }

    /// The folder of a run's logs.
    pub fn of_run(&self, run_id: &str) -> PathBuf {
        self.folder.join(run_id)
    }

    /// The file of an attempt's log.
    pub fn file(&self, run_id: &str, path: &str, epoch: u32, attempt: u32) -> PathBuf {
        self.of_run(run_id).join(format!("{}-{attempt}.log", task_id(run_id, path, epoch)))
    }

    /// The file of the log of a task's last attempt.
    pub fn of_task(&self, run_id: &str, task: &Task) -> PathBuf {
        self.file(run_id, &task.path, task.epoch, task.attempt)
    }

    /// Word of how far a log has come; of one that nobody writes: complete, with the lines that it has.
    pub fn progress(&self, file: &Path) -> watch::Receiver<Progress> {
        if let Some(live) = self.live.lock().get(file) {
            return live.clone();
        }
        watch::channel(Progress { lines: line_count(file), complete: true }).1
    }

    /// Says that a log is being written; the sender tells how far it has come. `None` when somebody writes it already.
    pub(crate) fn begin(&self, file: &Path) -> Option<watch::Sender<Progress>> {
        let mut live = self.live.lock();
        if live.contains_key(file) {
            return None;
        }
        let (sender, receiver) = watch::channel(Progress::default());
        live.insert(file.to_owned(), receiver);
        Some(sender)
    }

    /// Says that a log is complete.
    pub(crate) fn end(&self, file: &Path, sender: &watch::Sender<Progress>) {
        self.live.lock().remove(file);
        let all = Progress { lines: line_count(file), complete: true };
        sender.send_modify(|progress| *progress = all);
    }
}

/// The index beside a log.
fn index_file(log: &Path) -> PathBuf {
    log.with_extension("idx")
}

/// How many lines a log has.
pub fn line_count(log: &Path) -> u64 {
    fs::metadata(index_file(log)).map_or(0, |meta| meta.len() / ENTRY_BYTES)
}

/// A range of a log's lines, with their timestamps; the first line is 0. Lines that are not there are left out.
///
/// # Errors
/// When the log cannot be read.
pub fn read_lines(log: &Path, from: u64, count: u64) -> io::Result<Vec<u8>> {
    let offset = |line: u64| -> io::Result<u64> {
        let mut index = File::open(index_file(log))?;
        index.seek(SeekFrom::Start(line * ENTRY_BYTES))?;
        let mut entry = [0u8; 8];
        index.read_exact(&mut entry)?;
        Ok(u64::from_le_bytes(entry))
    };
    let total = line_count(log);
    if from >= total || count == 0 {
        return Ok(Vec::new());
    }
    let start = offset(from)?;
    let mut file = File::open(log)?;
    let end = if from + count < total { offset(from + count)? } else { file.metadata()?.len() };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of a log without their timestamps; none when there is no log.
pub fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(count);
    lines.get(start..).unwrap_or_default().iter().map(|line| without_timestamp(line).to_owned()).collect()
}

/// A line as the command wrote it.
pub fn without_timestamp(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, rest)) if time.len() >= 20 && time.as_bytes().get(10) == Some(&b'T') => rest,
        _ => line,
    }
}

/// A log and its index, being written.
pub(crate) struct Writer {
    log: BufWriter<File>,
    index: BufWriter<File>,
    offset: u64,
    lines: u64,
    at_line_start: bool,
}

impl Writer {
    /// Starts over: after a restart the pod's log is read from its beginning again.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let open = |path: &Path| OpenOptions::new().create(true).write(true).truncate(true).open(path);
        Ok(Self {
            log: BufWriter::new(open(path)?),
            index: BufWriter::new(open(&index_file(path))?),
            offset: 0,
            lines: 0,
            at_line_start: true,
        })
    }

    /// Adds bytes; gives how many whole lines there are then.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.log.write_all(bytes)?;
        for byte in bytes {
            if self.at_line_start {
                self.index.write_all(&self.offset.to_le_bytes())?;
                self.lines += 1;
            }
            self.offset += 1;
            self.at_line_start = *byte == b'\n';
        }
        // The log first, so that the index never names what is not there.
        self.log.flush()?;
        self.index.flush()?;
        Ok(self.lines - u64::from(!self.at_line_start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_names_each_line_however_the_bytes_arrive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        let mut writer = Writer::create(&path).expect("a log");
        let chunks = ["2026-01-01T00:00:00Z a\n2026-01-0", "1T00:00:01Z b\n", "2026-01-01T00:00:02Z c"];
        let whole = chunks.map(|chunk| writer.write(chunk.as_bytes()).expect("written"));
        assert_eq!(whole, [1, 2, 2], "a line that is half there is not to be read yet");
        assert_eq!(line_count(&path), 3);
        assert_eq!(read_lines(&path, 1, 1).expect("read"), b"2026-01-01T00:00:01Z b\n");
        assert_eq!(read_lines(&path, 1, 9).expect("read"), b"2026-01-01T00:00:01Z b\n2026-01-01T00:00:02Z c");
        assert!(read_lines(&path, 3, 1).expect("read").is_empty());
        assert_eq!(last_lines(&path, 2), ["b", "c"]);
        assert!(last_lines(&folder.path().join("absent"), 2).is_empty());
    }

    #[test]
    fn a_log_is_removed_when_its_step_had_run_and_its_runs_folder_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let book = LogBook::new(folder.path().to_owned(), Keep::default());
        let mut task = crate::engine::leaves::blank(Kind::Container);
        task.state = crate::types::task::State::Succeeded;
        assert!(!book.is_removed("run", &task), "a step from the cache never had one");
        task.times.started_at = Some(jiff::Timestamp::UNIX_EPOCH);
        assert!(book.is_removed("run", &task));
        Writer::create(&book.of_task("run", &task)).expect("a log").write(b"x").expect("written");
        assert!(!book.is_removed("run", &task));
    }
}
