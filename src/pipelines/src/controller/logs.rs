//! A step's log: followed from its pod into a file that lives with the run, with an index of its lines.
//!
//! Lines are kept as the pod's log gives them with timestamps (`<RFC 3339> <text>`). The index holds the offset of each
//! line as eight bytes, so that a page can ask for a range of a million lines without reading them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundation::problem::chain;
use foundation::tasks::Tasks;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::pods::CONTAINER;
use crate::engine::PodOf;
use crate::engine::executor_input::task_id;

/// A pod that ended has its log complete; this is for the last bytes to arrive.
const FINISH_WITHIN: Duration = Duration::from_secs(15);
const CHUNK: usize = 64 << 10;
/// Of the end of a log, looked at for its last lines.
const TAIL_BYTES: u64 = 64 << 10;

/// The file of an attempt's log.
pub fn file(logs: &Path, run_id: &str, task_id: &str, attempt: u32) -> PathBuf {
    logs.join(run_id).join(format!("{task_id}-{attempt}.log"))
}

/// The index beside a log.
pub fn index_file(log: &Path) -> PathBuf {
    log.with_extension("idx")
}

/// Follows logs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Logs {
    client: kube::Client,
    folder: PathBuf,
    tasks: Tasks,
    following: Arc<Mutex<HashMap<PathBuf, watch::Receiver<bool>>>>,
}

impl Logs {
    pub(super) fn new(client: kube::Client, folder: PathBuf, tasks: Tasks) -> Self {
        Self { client, folder, tasks, following: Arc::default() }
    }

    /// Starts following a pod's log, unless somebody does already; gives what tells when it is complete.
    pub(super) fn follow(&self, run_id: &str, of: &PodOf, pod: &Pod) -> watch::Receiver<bool> {
        let path = file(&self.folder, run_id, &task_id(run_id, &of.path, of.epoch), of.attempt);
        let mut following = self.following.lock();
        if let Some(done) = following.get(&path) {
            return done.clone();
        }
        let (sender, receiver) = watch::channel(false);
        following.insert(path.clone(), receiver.clone());
        let (own, pod) = (self.clone(), pod.clone());
        self.tasks.spawn("log", async move {
            let cancelled = own.tasks.cancelled();
            tokio::select! {
                () = cancelled => {}
                result = own.copy(&pod, &path) => if let Err(error) = result {
                    tracing::warn!(pod.name = pod.name_any(), error = %error, "a step's log is incomplete");
                },
            }
            own.following.lock().remove(&path);
            sender.send_replace(true);
        });
        receiver
    }

    /// Waits until the log of a pod that ended is complete.
    pub(super) async fn finish(&self, run_id: &str, of: &PodOf, pod: &Pod) {
        let mut done = self.follow(run_id, of, pod);
        if tokio::time::timeout(FINISH_WITHIN, done.wait_for(|done| *done)).await.is_err() {
            tracing::warn!(pod.name = pod.name_any(), "a step's log did not end in time");
        }
    }

    async fn copy(&self, pod: &Pod, path: &Path) -> Result<(), String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let parameters =
            LogParams { container: Some(CONTAINER.to_owned()), follow: true, timestamps: true, ..LogParams::default() };
        let stream = match api.log_stream(&pod.name_any(), &parameters).await {
            Ok(stream) => stream,
            // Never started, so there is no log.
            Err(kube::Error::Api(status)) if status.code == 400 || status.code == 404 => return Ok(()),
            Err(error) => return Err(chain(&error)),
        };
        let target = path.to_owned();
        let open = move || Writer::create(&target);
        let lost = |lost: foundation::tasks::Lost| lost.to_string();
        let mut writer =
            foundation::tasks::blocking("open a log", open).await.map_err(lost)?.map_err(|e| e.to_string())?;
        futures::pin_mut!(stream);
        let mut chunk = vec![0; CHUNK];
        loop {
            let len = stream.read(&mut chunk).await.map_err(|error| error.to_string())?;
            if len == 0 {
                break;
            }
            let bytes = chunk.get(..len).unwrap_or_default().to_vec();
            let write = move || writer.write(&bytes).map(|()| writer);
            writer =
                foundation::tasks::blocking("write a log", write).await.map_err(lost)?.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// A log and its index, being written.
struct Writer {
    log: BufWriter<File>,
    index: BufWriter<File>,
    offset: u64,
    at_line_start: bool,
}

impl Writer {
    /// Starts over: after a restart the pod's log is read from its beginning again.
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let open = |path: &Path| OpenOptions::new().create(true).write(true).truncate(true).open(path);
        Ok(Self {
            log: BufWriter::new(open(path)?),
            index: BufWriter::new(open(&index_file(path))?),
            offset: 0,
            at_line_start: true,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.write_all(bytes)?;
        for byte in bytes {
            if self.at_line_start {
                self.index.write_all(&self.offset.to_le_bytes())?;
            }
            self.offset += 1;
            self.at_line_start = *byte == b'\n';
        }
        // The log first, so that the index never names what is not there.
        self.log.flush()?;
        self.index.flush()
    }
}

/// The last lines of a log without their timestamps; none when there is no log.
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_names_each_line_however_the_bytes_arrive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        let mut writer = Writer::create(&path).expect("a log");
        for chunk in ["2026-01-01T00:00:00Z a\n2026-01-0", "1T00:00:01Z b\n", "2026-01-01T00:00:02Z c"] {
            writer.write(chunk.as_bytes()).expect("written");
        }
        let index = fs::read(index_file(&path)).expect("an index");
        let offsets: Vec<u64> =
            index.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect();
        assert_eq!(offsets, [0, 23, 46]);
        assert_eq!(last_lines(&path, 2), ["b", "c"]);
        assert!(last_lines(&folder.path().join("absent"), 2).is_empty());
    }
}
