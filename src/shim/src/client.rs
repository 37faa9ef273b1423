//! Speaks to a shim from a program without a runtime (`down`) and starts one. `node` has its own, asynchronous connection.

use crate::folder::Folder;
use crate::protocol::{Reply, Request, State};
use sandbox::error::Result;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a shim may take to answer: it starts containers in its one loop.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// Starts the shim of a run folder and returns once it listens. `role`: the words before the folder (`["shim"]`).
///
/// Blocks for some milliseconds; the environment of the shim holds nothing of ours.
pub fn start(program: &Path, role: &[String], folder: &Folder) -> Result<()> {
    let mut arguments: Vec<&OsStr> = role.iter().map(OsStr::new).collect();
    arguments.push(folder.path().as_os_str());
    // The allocator would take huge pages: 4 MB for each shim instead of 0.4. What the shim starts is free of this again.
    let env = [("MIMALLOC_ALLOW_THP".to_owned(), "0".to_owned())];
    sandbox::spawn::detached(program, &arguments, &env)
}

/// A connection to a living shim.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects; the shim's state comes first.
    pub fn connect(folder: &Folder) -> io::Result<(Self, State)> {
        let (path, _folder) = folder.socket()?;
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut client = Self { reader: BufReader::new(stream) };
        let state = client.state()?;
        Ok((client, state))
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)
    }

    /// The next thing the shim says.
    pub fn hear(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// The next state the shim says.
    pub fn state(&mut self) -> io::Result<State> {
        loop {
            if let Reply::State(state) = self.hear()? {
                return Ok(state);
            }
        }
    }
}
