//! The worker of one run: events in, decisions committed, effects out.

use std::collections::BTreeSet;
use std::time::Duration;

use foundation::backoff::Backoff;
use foundation::problem::chain;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Controller, Message};
use crate::engine::{Effect, Event, pending, step};
use crate::store::{Error, Loaded};

/// Events that are decided together, in one commit.
const EVENTS_AT_ONCE: usize = 256;
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

struct Worker<'a> {
    controller: &'a Controller,
    id: &'a str,
    loaded: Loaded,
    wakes: BTreeSet<Timestamp>,
    backoff: Backoff,
}

impl Controller {
    /// Works on a run until it is over, gone, or the platform stops.
    pub(super) async fn work(&self, id: &str, mailbox: &mut mpsc::Receiver<Message>) {
        let loaded = match self.context.store.load(id) {
            Ok(loaded) => loaded,
            Err(Error::NotFound { .. }) => return,
            Err(error) => {
                tracing::error!(run.id = id, error = %chain(&error), "a run cannot be loaded");
                return;
            }
        };
        let backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut worker = Worker { controller: self, id, loaded, wakes: BTreeSet::new(), backoff };
        worker.perform(pending::pending(&worker.loaded.state));
        let cancelled = self.context.tasks.cancelled();
        tokio::pin!(cancelled);
        while !worker.loaded.state.run.state.is_final() {
            let mut messages = Vec::new();
            tokio::select! {
                () = &mut cancelled => return,
                count = mailbox.recv_many(&mut messages, EVENTS_AT_ONCE) => if count == 0 { return },
                () = worker.next_wake() => {}
            }
            if !worker.take(messages).await {
                return;
            }
        }
    }
}

impl Worker<'_> {
    /// Sleeps until the next retry is due; for ever when none is.
    async fn next_wake(&self) {
        let Some(at) = self.wakes.first() else { return std::future::pending().await };
        let wait = at.duration_since(self.controller.context.store.now());
        tokio::time::sleep(Duration::try_from(wait).unwrap_or(Duration::ZERO)).await;
    }

    /// Decides what the messages mean; false when the run is gone or the platform stops.
    async fn take(&mut self, messages: Vec<Message>) -> bool {
        let mut events: Vec<Event> = Vec::with_capacity(messages.len() + 1);
        // So many may have kept a wish to look out of the mailbox.
        let mut look = messages.len() >= EVENTS_AT_ONCE;
        for message in messages {
            match message {
                Message::Happened(event) => events.push(*event),
                Message::Look => look = true,
                Message::DoAgain => self.perform(pending::pending(&self.loaded.state)),
            }
        }
        let now = self.controller.context.store.now();
        if self.wakes.first().is_some_and(|at| *at <= now) {
            self.wakes.retain(|at| *at > now);
            events.push(Event::Tick);
        }
        if look && !self.refresh() {
            return false;
        }
        let (mut rest, mut at_once) = (events.as_slice(), events.len());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(at_once.clamp(1, rest.len()));
            match self.decide(now).await {
                Ok(()) => {
                    self.backoff.reset();
                    rest = later;
                }
                // Large results that came together are stored one after the other.
                Err(Error::TooLarge { .. }) if now.len() > 1 => at_once = now.len() / 2,
                Err(Error::Stale(_)) => {
                    if !self.reload() {
                        return false;
                    }
                }
                Err(error) => {
                    tracing::warn!(run.id = self.id, error = %chain(&error), "a decision could not be stored; trying again");
                    if !self.controller.context.tasks.pause(self.backoff.next_delay()).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    async fn decide(&mut self, events: &[Event]) -> Result<(), Error> {
        let store = &self.controller.context.store;
        let state = &self.loaded.state;
        let cache = store.cache(&state.run.namespace, &state.run.pipeline_name);
        let (transition, applied) = match step::step(state, events, store.now(), &cache) {
            Ok(decided) => decided,
            Err(refused) => {
                tracing::debug!(run.id = self.id, reason = %refused, "an event does not fit the run");
                return Ok(());
            }
        };
        if !transition.writes.is_empty() {
            self.loaded.version = store.commit(&state.run, self.loaded.version, transition.writes).await?;
        }
        self.loaded.state.apply(applied);
        self.perform(transition.effects);
        Ok(())
    }

    /// Loads the run again if somebody else changed it.
    fn refresh(&mut self) -> bool {
        match self.controller.context.store.run_version(self.id) {
            Ok(Some(version)) if version == self.loaded.version => true,
            // Our own last commit ended it.
            Ok(None) if self.loaded.state.run.state.is_final() => true,
            Ok(_) => self.reload(),
            Err(error) => {
                tracing::error!(run.id = self.id, error = %chain(&error), "a run's version cannot be read");
                true
            }
        }
    }

    fn reload(&mut self) -> bool {
        match self.controller.context.store.load(self.id) {
            Ok(loaded) => {
                self.loaded = loaded;
                self.perform(pending::pending(&self.loaded.state));
                true
            }
            Err(Error::NotFound { .. }) => false,
            Err(error) => {
                tracing::error!(run.id = self.id, error = %chain(&error), "a run cannot be loaded");
                false
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Wake { at } => {
                    self.wakes.insert(at);
                }
                other => self.controller.perform(&self.loaded.state, other),
            }
        }
    }
}
