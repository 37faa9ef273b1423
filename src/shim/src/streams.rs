//! Pipes from a container's outputs and connections of clients, none of which may ever block the one loop. Used by `main_loop`.

use crate::protocol::{LINE_BYTES_MAX, Reply, Request};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A client that does not take a state within this is cut off; it will connect again and get the newest.
const SEND_LIMIT: Duration = Duration::from_secs(2);

/// A pipe whose read end does not block.
pub fn pipe() -> io::Result<(File, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((File::from(read), write))
}

/// What reading a non-blocking source gave.
pub enum Got {
    /// Some bytes (the count).
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// It has ended.
    End,
}

/// Reads once without blocking.
pub fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> Got {
    match source.read(buffer) {
        Ok(0) => Got::End,
        Ok(count) => Got::Bytes(count),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Got::Nothing,
        Err(_) => Got::End,
    }
}

/// Somebody who is connected to the shim.
#[derive(Debug)]
pub struct Client {
    /// Tells clients apart after one of them has gone.
    pub serial: u64,
    /// The connection.
    pub stream: UnixStream,
    pending: Vec<u8>,
}

impl Client {
    /// Takes a fresh connection.
    pub fn new(serial: u64, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { serial, stream, pending: Vec::new() })
    }

    /// Reads what is there; the complete requests, or none if the connection is to be dropped.
    pub fn requests(&mut self) -> Option<Vec<Request>> {
        let mut buffer = vec![0_u8; 64 << 10];
        let mut found = Vec::new();
        loop {
            match read_some(&mut self.stream, &mut buffer) {
                Got::Bytes(count) => self.pending.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Got::Nothing => return Some(found),
                Got::End => return (!found.is_empty()).then_some(found),
            }
            while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                found.push(serde_json::from_slice(&line).ok()?);
            }
            if self.pending.len() > LINE_BYTES_MAX {
                return None;
            }
        }
    }

    /// Sends a reply; false if the client is to be dropped.
    pub fn send(&mut self, reply: &Reply) -> bool {
        let Ok(mut line) = serde_json::to_vec(reply) else { return false };
        line.push(b'\n');
        let mut send = || -> io::Result<()> {
            self.stream.set_nonblocking(false)?;
            self.stream.set_write_timeout(Some(SEND_LIMIT))?;
            self.stream.write_all(&line)?;
            self.stream.set_nonblocking(true)
        };
        send().is_ok()
    }
}
