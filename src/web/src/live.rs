//! One stream of server-sent events per browser: says which topic changed and up to which revision; the page fetches what it
//! shows of it.
//!
//! Events: `hello {stream}` first, `change {topic, rev}`, `beat` every 15 s, `bye` when the session is over. Changes of a
//! topic that come within a quarter of a second are told once.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use auth::caller::{Caller, Means};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures::StreamExt;
use http::StatusCode;
use parking_lot::Mutex;
use pipelines::logs::Progress;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::StreamMap;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};

use crate::Web;

const BEAT: Duration = Duration::from_secs(15);
/// What the eye can follow; also what a page fetches at most.
const COALESCE: Duration = Duration::from_millis(250);
/// Events that a browser has not taken; one that does not read is cut.
const BACKLOG: usize = 64;
/// Topics of all tabs of a browser.
const TOPICS_MAX: usize = 100;
const RUNS: &str = "runs";

/// The streams that are open. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    streams: Arc<Mutex<HashMap<String, Open>>>,
}

struct Open {
    owner: String,
    topics: watch::Sender<BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Topics {
    topics: Vec<String>,
}

pub(crate) async fn topics(
    State(web): State<Web>,
    caller: Caller,
    Path(stream): Path<String>,
    Json(wanted): Json<Topics>,
) -> StatusCode {
    if wanted.topics.len() > TOPICS_MAX {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    let streams = web.live.streams.lock();
    match streams.get(&stream).filter(|open| open.owner == caller.identity.user) {
        Some(open) => {
            open.topics.send_replace(wanted.topics.into_iter().collect());
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}

pub(crate) async fn stream(State(web): State<Web>, caller: Caller) -> impl IntoResponse {
    let (events, receiver) = mpsc::channel(BACKLOG);
    let id = foundation::id::token(128);
    let (topics, wanted) = watch::channel(BTreeSet::new());
    web.live.streams.lock().insert(id.clone(), Open { owner: caller.identity.user.clone(), topics });
    let own = web.clone();
    web.tasks.spawn("live", async move {
        let hub = own.live.clone();
        let _ = feed(own, caller, &id, wanted, events).await;
        hub.streams.lock().remove(&id);
    });
    Sse::new(ReceiverStream::new(receiver).map(Ok::<_, Infallible>))
}

/// Ends when the browser is gone, does not read, or its session is over.
async fn feed(
    web: Web,
    caller: Caller,
    id: &str,
    mut wanted: watch::Receiver<BTreeSet<String>>,
    events: mpsc::Sender<Event>,
) -> Result<(), mpsc::error::TrySendError<Event>> {
    let mut changes = web.operations.changes();
    let mut logs: StreamMap<String, WatchStream<Progress>> = StreamMap::new();
    let mut due: BTreeSet<String> = BTreeSet::new();
    let mut beat = tokio::time::interval(BEAT);
    let mut flush: Option<tokio::time::Instant> = None;
    let stop = web.tasks.cancelled();
    tokio::pin!(stop);
    events.try_send(Event::default().event("hello").data(json!({"stream": id}).to_string()))?;
    loop {
        let flushing = async {
            match flush {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut stop => {
                return events.try_send(Event::default().event("restart").data("{}"));
            }
            () = events.closed() => return Ok(()),
            changed = wanted.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let topics = wanted.borrow_and_update().clone();
                logs = follow_logs(&web, &caller, &topics).await;
            }
            changed = changes.recv() => match changed {
                Ok(run) => note(&wanted.borrow(), &mut due, &[RUNS, &format!("run/{run}")]),
                Err(broadcast::error::RecvError::Lagged(_)) => due.extend(wanted.borrow().iter().cloned()),
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            Some((topic, _)) = logs.next(), if !logs.is_empty() => {
                due.insert(topic);
            }
            _ = beat.tick() => {
                if !still_signed_in(&web, &caller) {
                    return events.try_send(Event::default().event("bye").data("{}"));
                }
                events.try_send(Event::default().event("beat").data("{}"))?;
            }
            () = flushing => {
                flush = None;
                let rev = web.operations.revision();
                for topic in std::mem::take(&mut due) {
                    let data = json!({"topic": topic, "rev": rev}).to_string();
                    events.try_send(Event::default().event("change").data(data))?;
                }
            }
        }
        if !due.is_empty() && flush.is_none() {
            flush = Some(tokio::time::Instant::now() + COALESCE);
        }
    }
}

fn note(wanted: &BTreeSet<String>, due: &mut BTreeSet<String>, topics: &[&str]) {
    due.extend(topics.iter().filter(|topic| wanted.contains(**topic)).map(|topic| (*topic).to_owned()));
}

/// `log/<run>/<task id>`: word of how far each wanted log has come.
async fn follow_logs(
    web: &Web,
    caller: &Caller,
    wanted: &BTreeSet<String>,
) -> StreamMap<String, WatchStream<Progress>> {
    let mut logs = StreamMap::new();
    for topic in wanted {
        let Some((run, task)) = topic.strip_prefix("log/").and_then(|rest| rest.split_once('/')) else { continue };
        if let Ok(progress) = web.operations.log_progress(caller, run, task).await {
            logs.insert(topic.clone(), WatchStream::new(progress));
        }
    }
    logs
}

fn still_signed_in(web: &Web, caller: &Caller) -> bool {
    match &caller.means {
        Means::Session(id) => web.sessions.is_open(id),
        Means::Token | Means::Local | Means::InProcess => true,
    }
}
