//! What a shim (or the records of a dead one) says, as events of the pod's life. Part of the worker.

use super::state::{Effect, Event, Now, Sandbox, State, Termination};
use super::{Input, Worker, step};
use crate::agent::beside;
use crate::boxes;
use crate::connection;
use crate::notices::Level;
use jiff::Timestamp;
use shim::protocol::{Cause, End};
use std::io::Read;
use std::time::Duration;

/// How long until a shim that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// So much of a container's last words is shown (a kubelet's limit).
const LAST_WORDS_BYTES_MAX: u64 = 4096;
/// With `FallbackToLogsOnError`, so much of the log's end (a kubelet's limits).
const LOG_LINES_MAX: usize = 80;
const LOG_BYTES_MAX: usize = 2048;

impl Worker {
    /// Takes back a pod that an earlier platform left; false if there is nothing to take back.
    pub(super) async fn take_back(&mut self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        if matches!(phase.as_str(), "Succeeded" | "Failed") {
            self.state.sandbox = Sandbox::Over;
            self.state.released = true;
            self.finished = true;
            // A platform that was killed between the last status and letting the shim go.
            if self.folder.path().join("s").exists()
                && let Ok((connection, _)) = connection::connect(&self.folder, &self.tasks, self.inputs.clone()).await
            {
                self.connection = Some(connection);
                self.perform(Effect::Release).await;
            }
            return true;
        }
        if self.folder.read_pod().is_err() {
            return false;
        }
        let status = self.pod.status.as_ref();
        let started = status.and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        self.state.started_at = Some(started.unwrap_or_else(|| self.shared.clock.now()));
        self.state.sandbox = Sandbox::Making;
        for (index, one) in self.state.containers.iter_mut().enumerate() {
            let spec = self.pod.spec.as_ref();
            let names = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
            let Some(name) = names.map(|container| container.name.clone()).nth(index) else { continue };
            // A log is opened before anything else happens in an attempt.
            let begun = (0..).take_while(|attempt| self.folder.log(&name, *attempt).exists()).last();
            if let Some(attempt) = begun {
                one.attempt = attempt;
                one.failures = attempt;
                one.now = Now::Launching;
                self.announced.extend((0..=attempt).map(|attempt| (index, attempt)));
            }
        }
        match connection::connect(&self.folder, &self.tasks, self.inputs.clone()).await {
            Ok((connection, state)) => {
                // Volumes are there already; launching needs them named.
                let _ = super::effects::prepare_volumes(self).await;
                self.connection = Some(connection);
                self.state.sandbox = Sandbox::Ready;
                self.on_shim(&state).await;
            }
            Err(_) => {
                self.state.sandbox = Sandbox::Ready;
                self.on_shim_gone().await;
            }
        }
        self.happen(Event::Tick).await;
        true
    }

    /// What the shim says, container by container.
    pub(super) async fn on_shim(&mut self, state: &shim::protocol::State) {
        for seen in &state.containers {
            let Some(container) = self.index_of(&seen.container) else { continue };
            match &seen.end {
                Some(end) => self.on_end(container, seen.attempt, end).await,
                None => {
                    self.announce(container, seen.attempt, None);
                    let since = time(seen.started_ns);
                    self.happen(Event::Running { container, attempt: seen.attempt, since }).await;
                }
            }
        }
    }

    /// The connection ended. A shim that lives is spoken to again; of one that does not, what it recorded counts and the rest is
    /// lost with it.
    pub(super) async fn on_shim_gone(&mut self) {
        self.connection = None;
        if self.state.released {
            return;
        }
        if let Ok((connection, state)) = connection::connect(&self.folder, &self.tasks, self.inputs.clone()).await {
            self.connection = Some(connection);
            self.on_shim(&state).await;
            return;
        }
        let same_boot = self.folder.read_pod().is_ok_and(|pod| pod.boot_id == self.shared.boot_id());
        if same_boot && self.folder.read_processes().is_ok_and(|known| known.shim.lives()) {
            // Never lost on a guess: what it holds still runs.
            let inputs = self.inputs.clone();
            beside(&self.tasks, "shim again", async move {
                tokio::time::sleep(AGAIN).await;
                let _ = inputs.send(Input::ShimGone).await;
            });
            return;
        }
        for (name, attempt, end) in shim::exit::list(&self.folder) {
            if let Some(container) = self.index_of(&name) {
                self.on_end(container, attempt, &end).await;
            }
        }
        self.record_lost(!same_boot);
        self.happen(Event::Lost { restart: !same_boot }).await;
    }

    /// Writes the records that the shim could not, so that whoever follows a log sees its end.
    fn record_lost(&self, restart: bool) {
        let finished_ns = i64::try_from(self.shared.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        for (index, one) in self.state.containers.iter().enumerate().filter(|(_, one)| one.is_active()) {
            let Some(container) = self.container(index) else { continue };
            let started_ns = match one.now {
                Now::Running(since) => i64::try_from(since.as_nanosecond()).unwrap_or(finished_ns),
                _ => finished_ns,
            };
            let message = Some(step::lost_message(restart).to_owned());
            let end = End { code: step::KILLED, started_ns, finished_ns, cause: Cause::Lost, message };
            if let Err(error) = shim::exit::record(&self.folder, &container.name, one.attempt, &end) {
                tracing::warn!(%error, pod.name = self.pod.metadata.name, "a lost container's end could not be recorded");
            }
        }
    }

    async fn on_end(&mut self, container: usize, attempt: u32, end: &End) {
        let is_current = |state: &State| {
            state
                .containers
                .get(container)
                .is_some_and(|one| one.attempt == attempt && !matches!(one.now, Now::Ended(_)))
        };
        if !is_current(&self.state) {
            return;
        }
        self.announce(container, attempt, Some(end));
        let message = end.message.clone().or_else(|| self.last_words(container, attempt, end.code));
        let reason = match end.cause {
            Cause::Exited if end.code == 0 => "Completed",
            Cause::Exited => "Error",
            Cause::NoProgram | Cause::NoSandbox => "StartError",
            Cause::OutOfMemory => "OOMKilled",
            Cause::Lost => "ContainerStatusUnknown",
        };
        let how = Termination {
            code: end.code,
            reason,
            message,
            started: Some(time(end.started_ns)),
            finished: time(end.finished_ns),
        };
        self.happen(Event::Ended { container, attempt, how }).await;
    }

    /// Tells once that an attempt was created and started, or that it could not be.
    fn announce(&mut self, container: usize, attempt: u32, end: Option<&End>) {
        if !self.announced.insert((container, attempt)) {
            return;
        }
        let field = self.field(container);
        let say =
            |level, reason, message: &str| self.shared.notices.say(&self.pod, field.clone(), level, reason, message);
        say(Level::Normal, "Created", "Container created");
        match end {
            Some(end) if matches!(end.cause, Cause::NoProgram | Cause::NoSandbox) => {
                let message = format!("Error: {}", end.message.as_deref().unwrap_or("could not be started"));
                say(Level::Warning, "Failed", &message);
            }
            _ => say(Level::Normal, "Started", "Container started"),
        }
    }

    /// What a program left at its `terminationMessagePath`, or the end of its log if that is asked for.
    fn last_words(&self, container: usize, attempt: u32, code: i32) -> Option<String> {
        let spec = self.container(container)?;
        let path = boxes::termination_file(&self.folder, &spec.name, attempt);
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(path) {
            let _ = file.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut bytes);
        }
        let words = String::from_utf8_lossy(&bytes).into_owned();
        if !words.is_empty() {
            return Some(words);
        }
        let from_log = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError") && code != 0;
        from_log
            .then(|| crate::logs::tail(&self.folder.log(&spec.name, attempt), LOG_LINES_MAX, LOG_BYTES_MAX))
            .filter(|text| !text.is_empty())
    }
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default()
}
