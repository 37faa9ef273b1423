//! A pod worker's connection to its shim: requests out, states and answers in. Asynchronous twin of `shim::client`.

use crate::agent::beside;
use crate::pod::Input;
use foundation::tasks::Tasks;
use shim::folder::Folder;
use shim::protocol::{LINE_BYTES_MAX, Reply, Request, State};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, oneshot};

/// How long a shim may take to accept a request; it starts containers in its one loop.
const SEND_LIMIT: Duration = Duration::from_secs(90);
/// A command's answer may take this much longer than the command itself.
const ANSWER_SLACK: Duration = Duration::from_secs(10);

type Waiting = Arc<parking_lot::Mutex<HashMap<u64, oneshot::Sender<(i32, String)>>>>;

/// A connected shim. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
    next: Arc<AtomicU64>,
}

/// Connects; the shim's state comes first. Later states go to `inputs`, as does the end of the connection.
pub async fn connect(folder: &Folder, tasks: &Tasks, inputs: mpsc::Sender<Input>) -> io::Result<(Connection, State)> {
    let (path, held) = folder.socket()?;
    let stream = UnixStream::connect(path).await?;
    drop(held);
    let (read, write) = stream.into_split();
    let mut reader = BufReader::new(read);
    let first = tokio::time::timeout(SEND_LIMIT, next(&mut reader)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let Some(Reply::State(state)) = first else { return Err(io::ErrorKind::InvalidData.into()) };
    let waiting = Waiting::default();
    let connection =
        Connection { writer: Arc::new(Mutex::new(write)), waiting: waiting.clone(), next: Arc::new(AtomicU64::new(1)) };
    beside(tasks, "shim connection", listen(reader, waiting, inputs));
    Ok((connection, state))
}

async fn listen(mut reader: BufReader<OwnedReadHalf>, waiting: Waiting, inputs: mpsc::Sender<Input>) {
    while let Ok(Some(reply)) = next(&mut reader).await {
        match reply {
            Reply::State(state) => {
                if inputs.send(Input::Shim(state)).await.is_err() {
                    return;
                }
            }
            Reply::Exec { id, code, output } => {
                if let Some(asker) = waiting.lock().remove(&id) {
                    // Whoever asked may have stopped waiting.
                    let _ = asker.send((code, output));
                }
            }
        }
    }
    let _ = inputs.send(Input::ShimGone).await;
}

async fn next(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Reply>> {
    let mut line = Vec::new();
    let count = reader.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
    if count == 0 { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
}

impl Connection {
    /// Sends a request.
    pub async fn send(&self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut writer = self.writer.lock().await;
        tokio::time::timeout(SEND_LIMIT, writer.write_all(&line)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Runs a command in a container: its exit code (-1 after `limit`) and the beginning of its output.
    pub async fn exec(&self, container: &str, argv: Vec<String>, limit: Duration) -> io::Result<(i32, String)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        self.waiting.lock().insert(id, asker);
        let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.send(&Request::Exec { id, container: container.to_owned(), argv, timeout_ms }).await?;
        let answered = tokio::time::timeout(limit + ANSWER_SLACK, answer).await;
        self.waiting.lock().remove(&id);
        answered.map_err(|_| io::ErrorKind::TimedOut)?.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
