//! The shim's one loop: requests in, containers started and reaped, outputs written, exit records, states out.
//!
//! Invariant: an end is on disk before any client hears of it.
//! Invariant: nothing here blocks but starting a container (bounded by `sandbox::spawn`).

use crate::exit;
use crate::folder::{Folder, Processes};
use crate::logs::{Log, Stream};
use crate::protocol::{Cause, Container, End, Pod, Reply, Request, Start, State};
use crate::streams::{self, Client, Got};
use rustix::event::{PollFd, PollFlags, Timespec};
use sandbox::error::Failure;
use sandbox::process::{self, Identity};
use sandbox::spawn::{self, Stdio};
use sandbox::spec::{Isolation, Spec};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// Without any other reason the loop looks around this often (is the run folder still there?).
const IDLE_MS: i64 = 30_000;
/// How often the memory of a container with a limit is looked at; more often above [`NEAR_LIMIT_PERCENT`].
const MEMORY_MS: i64 = 100;
/// The same, near the limit.
const MEMORY_NEAR_MS: i64 = 20;
/// "Near" begins here.
const NEAR_LIMIT_PERCENT: u64 = 80;
/// So much of a command's output is kept for its caller.
const EXEC_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// The exit code of a container or command that could not be started, as Kubernetes shows it.
const START_FAILED: i32 = 128;

/// One attempt and what belongs to it while it runs.
struct Attempt {
    state: Container,
    spec: Spec,
    pidfd: Option<OwnedFd>,
    outputs: [Option<File>; 2],
    log: Option<Log>,
    memory_bytes: Option<u64>,
    memory_near: bool,
    out_of_memory: bool,
}

/// A command that runs inside a container.
struct Command {
    id: u64,
    client: u64,
    pid: i32,
    pidfd: OwnedFd,
    output: Option<File>,
    text: Vec<u8>,
    deadline_ns: i64,
}

/// The shim of one pod.
pub struct Shim {
    folder: Folder,
    pod: Pod,
    listener: UnixListener,
    myself: Identity,
    clients: Vec<Client>,
    next_client: u64,
    attempts: Vec<Attempt>,
    commands: Vec<Command>,
    released: bool,
    changed: bool,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Client(u64),
    Output(usize, usize),
    Ended,
    CommandOutput(u64),
}

impl Shim {
    /// A shim that listens and has started nothing.
    pub fn new(folder: Folder, pod: Pod, listener: UnixListener) -> Result<Self, Failure> {
        listener.set_nonblocking(true).map_err(|error| Failure::of("listen", "socket", &error))?;
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let myself = Identity::of(pid).ok_or_else(|| Failure::new("read", "own stat", 0))?;
        let shim = Self {
            folder,
            pod,
            listener,
            myself,
            clients: Vec::new(),
            next_client: 0,
            attempts: Vec::new(),
            commands: Vec::new(),
            released: false,
            changed: false,
        };
        shim.note_processes()?;
        Ok(shim)
    }

    /// Runs until released and everything has ended, or until the run folder is gone.
    pub fn run(mut self) {
        loop {
            let ready = self.wait();
            for source in ready {
                self.handle(source);
            }
            self.reap();
            self.watch_memory();
            self.end_late_commands();
            if std::mem::take(&mut self.changed) {
                self.publish();
            }
            let running = self.attempts.iter().any(|attempt| attempt.pidfd.is_some());
            if self.released && !running || !self.folder.path().exists() {
                self.kill_all();
                let _ = std::fs::remove_file(self.folder.path().join("s"));
                return;
            }
        }
    }

    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Listener];
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.listener.as_fd()];
        for client in &self.clients {
            sources.push(Source::Client(client.serial));
            descriptors.push(client.stream.as_fd());
        }
        for (index, attempt) in self.attempts.iter().enumerate() {
            for (stream, output) in attempt.outputs.iter().enumerate() {
                if let Some(output) = output {
                    sources.push(Source::Output(index, stream));
                    descriptors.push(output.as_fd());
                }
            }
            if let Some(pidfd) = &attempt.pidfd {
                sources.push(Source::Ended);
                descriptors.push(pidfd.as_fd());
            }
        }
        for command in &self.commands {
            sources.push(Source::Ended);
            descriptors.push(command.pidfd.as_fd());
            if let Some(output) = &command.output {
                sources.push(Source::CommandOutput(command.id));
                descriptors.push(output.as_fd());
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
        let wait_ms = self.wait_ms();
        let limit = Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
        if rustix::event::poll(&mut polled, Some(&limit)).is_err() {
            return Vec::new();
        }
        let answers = polled.iter().zip(sources);
        answers.filter(|(poll, _)| !poll.revents().is_empty()).map(|(_, source)| source).collect()
    }

    fn wait_ms(&self) -> i64 {
        let now_ns = process::now_ns();
        let memory = self.attempts.iter().filter(|attempt| attempt.pidfd.is_some() && attempt.memory_bytes.is_some());
        let memory = memory.map(|attempt| if attempt.memory_near { MEMORY_NEAR_MS } else { MEMORY_MS });
        let commands = self.commands.iter().map(|command| ((command.deadline_ns - now_ns) / 1_000_000).max(0));
        memory.chain(commands).min().unwrap_or(IDLE_MS).min(IDLE_MS)
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Client(serial) => self.serve(serial),
            Source::Output(index, stream) => {
                if let Some(attempt) = self.attempts.get_mut(index) {
                    attempt.read_output(stream);
                }
            }
            Source::CommandOutput(id) => {
                if let Some(command) = self.commands.iter_mut().find(|command| command.id == id) {
                    command.read_output();
                }
            }
            Source::Ended => {}
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        self.next_client += 1;
        let Ok(mut client) = Client::new(self.next_client, stream) else { return };
        if client.send(&Reply::State(self.state())) {
            self.clients.push(client);
        }
    }

    fn serve(&mut self, serial: u64) {
        let Some(index) = self.clients.iter().position(|client| client.serial == serial) else { return };
        let Some(requests) = self.clients[index].requests() else {
            self.clients.remove(index);
            return;
        };
        for request in requests {
            match request {
                Request::Start(start) => self.start(*start),
                Request::Signal { container, signal } => self.signal(&container, signal),
                Request::Exec { id, container, argv, timeout_ms } => {
                    self.exec(serial, id, &container, &argv, timeout_ms)
                }
                Request::State => self.changed = true,
                Request::Release => {
                    self.released = true;
                    self.kill_all();
                }
            }
        }
    }

    fn start(&mut self, start: Start) {
        let known =
            |attempt: &Attempt| attempt.state.container == start.container && attempt.state.attempt == start.attempt;
        self.changed = true;
        if self.released || self.attempts.iter().any(known) {
            return;
        }
        let started_ns = process::now_ns();
        let mut attempt = Attempt {
            state: Container {
                container: start.container,
                attempt: start.attempt,
                process: None,
                started_ns,
                end: None,
            },
            spec: start.spec,
            pidfd: None,
            outputs: [None, None],
            log: None,
            memory_bytes: start.memory_bytes,
            memory_near: false,
            out_of_memory: false,
        };
        if let Err(failure) = attempt.launch(&start.log) {
            let cause = if failure.is_exec() { Cause::NoProgram } else { Cause::NoSandbox };
            let message = Some(failure.to_string());
            self.record(
                &mut attempt,
                End { code: START_FAILED, started_ns, finished_ns: process::now_ns(), cause, message },
            );
        }
        self.attempts.push(attempt);
        if let Err(failure) = self.note_processes() {
            eprintln!("{failure}");
        }
    }

    fn signal(&mut self, container: &str, signal: i32) {
        for attempt in self.attempts.iter().filter(|attempt| attempt.state.container == container) {
            let Some(pidfd) = &attempt.pidfd else { continue };
            if attempt.spec.isolation == Isolation::Process
                && let Some(first) = attempt.state.process
            {
                for pid in process::tree(first.pid).into_iter().skip(1) {
                    process::open_pidfd(pid).map(|pidfd| process::send(&pidfd, signal));
                }
            }
            process::send(pidfd, signal);
        }
    }

    fn exec(&mut self, client: u64, id: u64, container: &str, argv: &[String], timeout_ms: u64) {
        let running =
            self.attempts.iter().find(|attempt| attempt.state.container == container && attempt.pidfd.is_some());
        let started = running.and_then(|attempt| Some((attempt, attempt.state.process?))).map(|(attempt, first)| {
            let (read, write) = streams::pipe().map_err(|error| Failure::of("make", "pipe", &error))?;
            let both = write.try_clone().map_err(|error| Failure::of("copy", "pipe", &error))?;
            let stdio = Stdio { stdin: None, stdout: write, stderr: both };
            spawn::inside(first.pid, &attempt.spec, argv, stdio).map(|child| (read, child))
        });
        match started {
            Some(Ok((output, child))) => self.commands.push(Command {
                id,
                client,
                pid: child.pid,
                pidfd: child.pidfd,
                output: Some(output),
                text: Vec::new(),
                deadline_ns: process::now_ns().saturating_add_unsigned(timeout_ms.saturating_mul(1_000_000)),
            }),
            Some(Err(failure)) => {
                self.answer(client, &Reply::Exec { id, code: START_FAILED, output: failure.to_string() })
            }
            None => {
                let output = format!("container {container} is not running");
                self.answer(client, &Reply::Exec { id, code: START_FAILED, output });
            }
        }
    }

    fn answer(&mut self, client: u64, reply: &Reply) {
        let Some(index) = self.clients.iter().position(|known| known.serial == client) else { return };
        if !self.clients[index].send(reply) {
            self.clients.remove(index);
        }
    }

    /// Reaps everything that has ended: containers, commands, and orphans that came to us.
    fn reap(&mut self) {
        while let Some((pid, code)) = process::reap_any() {
            let is_its = |attempt: &Attempt| {
                attempt.pidfd.is_some() && attempt.state.process.is_some_and(|first| first.pid == pid)
            };
            if let Some(index) = self.attempts.iter().position(is_its) {
                self.container_ended(index, code);
            } else if let Some(index) = self.commands.iter().position(|command| command.pid == pid) {
                let mut command = self.commands.remove(index);
                command.read_output();
                let output = String::from_utf8_lossy(&command.text).into_owned();
                self.answer(command.client, &Reply::Exec { id: command.id, code, output });
            }
        }
    }

    fn container_ended(&mut self, index: usize, code: i32) {
        let mut attempt = self.attempts.remove(index);
        attempt.close_outputs();
        attempt.pidfd = None;
        attempt.state.process = None;
        if attempt.spec.isolation == Isolation::Process {
            self.kill_orphans();
        }
        let (cause, message) = if attempt.out_of_memory {
            (Cause::OutOfMemory, attempt.memory_bytes.map(|limit| format!("used more than {limit} bytes of memory")))
        } else {
            (Cause::Exited, None)
        };
        let started_ns = attempt.state.started_ns;
        self.record(&mut attempt, End { code, started_ns, finished_ns: process::now_ns(), cause, message });
        self.attempts.insert(index, attempt);
        self.changed = true;
    }

    fn record(&self, attempt: &mut Attempt, end: End) {
        if let Err(failure) = exit::record(&self.folder, &attempt.state.container, attempt.state.attempt, &end) {
            eprintln!("{failure}");
        }
        attempt.state.end = Some(end);
    }

    /// Without a pid namespace the descendants of an ended process come to us: they end with it.
    fn kill_orphans(&self) {
        let ours: Vec<i32> = self.attempts.iter().filter_map(|attempt| Some(attempt.state.process?.pid)).collect();
        let commands: Vec<i32> = self.commands.iter().map(|command| command.pid).collect();
        for pid in process::children(self.myself.pid) {
            if !ours.contains(&pid) && !commands.contains(&pid) {
                process::kill_tree(pid);
            }
        }
    }

    fn kill_all(&mut self) {
        for attempt in &self.attempts {
            if let (Isolation::Process, Some(first)) = (attempt.spec.isolation, attempt.state.process) {
                process::kill_tree(first.pid);
            }
            if let Some(pidfd) = &attempt.pidfd {
                process::send(pidfd, libc::SIGKILL);
            }
        }
    }

    fn watch_memory(&mut self) {
        for attempt in &mut self.attempts {
            let (Some(limit), Some(first), Some(pidfd)) = (attempt.memory_bytes, attempt.state.process, &attempt.pidfd)
            else {
                continue;
            };
            let tree = process::tree(first.pid);
            let mut used: u64 = tree.iter().map(|pid| process::resident_bytes(*pid)).sum();
            if used > limit && tree.len() > 1 {
                // Pages that processes share were counted once each; now it is worth walking them.
                used = tree.iter().map(|pid| process::proportional_bytes(*pid)).sum();
            }
            attempt.memory_near = used / 100 * 100 > limit / 100 * NEAR_LIMIT_PERCENT;
            if used > limit && !attempt.out_of_memory {
                attempt.out_of_memory = true;
                process::send(pidfd, libc::SIGKILL);
            }
        }
    }

    fn end_late_commands(&mut self) {
        let now_ns = process::now_ns();
        let mut late: Vec<Command> = Vec::new();
        while let Some(index) = self.commands.iter().position(|command| command.deadline_ns <= now_ns) {
            late.push(self.commands.remove(index));
        }
        for command in late {
            process::kill_tree(command.pid);
            let output = String::from_utf8_lossy(&command.text).into_owned();
            self.answer(command.client, &Reply::Exec { id: command.id, code: -1, output });
        }
    }

    fn state(&self) -> State {
        State { containers: self.attempts.iter().map(|attempt| attempt.state.clone()).collect() }
    }

    fn publish(&mut self) {
        let reply = Reply::State(self.state());
        self.clients.retain_mut(|client| client.send(&reply));
    }

    fn note_processes(&self) -> Result<(), Failure> {
        let running = self.attempts.iter().filter_map(|attempt| attempt.state.process);
        let containers = running.filter_map(|first| Some((first, process::pid_namespace(first.pid)?))).collect();
        let boot_id = self.pod.boot_id.clone();
        self.folder.write_processes(&Processes { shim: self.myself, containers, boot_id })
    }
}

impl Attempt {
    fn launch(&mut self, log: &std::path::Path) -> Result<(), Failure> {
        let failed = |step: &str, error: std::io::Error| Failure::of(step, log.to_string_lossy(), &error);
        std::fs::create_dir_all(&self.spec.root).map_err(|error| failed("mkdir", error))?;
        self.log = Some(Log::open(log).map_err(|error| failed("open", error))?);
        let (out_read, out_write) = streams::pipe().map_err(|error| failed("make pipe for", error))?;
        let (err_read, err_write) = streams::pipe().map_err(|error| failed("make pipe for", error))?;
        let child = spawn::container(&self.spec, Stdio { stdin: None, stdout: out_write, stderr: err_write })?;
        self.outputs = [Some(out_read), Some(err_read)];
        self.state.process = Identity::of(child.pid).or(Some(Identity { pid: child.pid, start: 0 }));
        self.pidfd = Some(child.pidfd);
        Ok(())
    }

    fn read_output(&mut self, stream: usize) {
        let mut buffer = [0_u8; 64 << 10];
        let kind = if stream == 0 { Stream::Out } else { Stream::Err };
        let Some(output) = self.outputs.get_mut(stream).and_then(Option::as_mut) else { return };
        let got = streams::read_some(output, &mut buffer);
        let now_ns = process::now_ns();
        let written = match (&mut self.log, &got) {
            (Some(log), Got::Bytes(count)) => log.take(kind, buffer.get(..*count).unwrap_or_default(), now_ns),
            (Some(log), Got::End) => log.finish(kind, now_ns),
            _ => Ok(()),
        };
        if let Err(error) = written {
            eprintln!("write log of {}: {error}", self.state.container);
        }
        if matches!(got, Got::End) {
            self.outputs[stream] = None;
        }
    }

    /// Takes what is still in the pipes; what keeps one open (an orphan) is not waited for.
    fn close_outputs(&mut self) {
        let mut buffer = [0_u8; 64 << 10];
        for (stream, kind) in [Stream::Out, Stream::Err].into_iter().enumerate() {
            let Some(mut output) = self.outputs[stream].take() else { continue };
            let Some(log) = &mut self.log else { continue };
            let now_ns = process::now_ns();
            while let Got::Bytes(count) = streams::read_some(&mut output, &mut buffer) {
                let _ = log.take(kind, buffer.get(..count).unwrap_or_default(), now_ns);
            }
            let _ = log.finish(kind, now_ns);
        }
        self.log = None;
    }
}

impl Command {
    fn read_output(&mut self) {
        let mut buffer = [0_u8; 16 << 10];
        while let Some(output) = &mut self.output {
            match streams::read_some(output, &mut buffer) {
                Got::Bytes(count) => {
                    let room = EXEC_OUTPUT_BYTES_MAX.saturating_sub(self.text.len()).min(count);
                    self.text.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Got::Nothing => return,
                Got::End => self.output = None,
            }
        }
    }
}
