//! `watch`: synthetic events, live events through selectors, bookmarks, streaming lists, 410, a clean end.
//!
//! Invariant: nothing is skipped; a watcher that cannot keep up is cut off.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, header};
use records::{Event, Watch};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::Call;
use super::list::{Selection, check_options, check_timeout};
use crate::negotiate::{Form, Shape};
use crate::status::{ApiError, FieldError};
use crate::storage::watch::{Kind, bookmark, event, translate};
use crate::storage::{self, OBJECTS};
use crate::table;

const TIMEOUT_MIN: Duration = Duration::from_secs(30 * 60);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Before the end of a watch a bookmark saves its client a relist.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Events that are ready together go out in one frame up to this size.
const FRAME_LIMIT: usize = 64 * 1024;

/// Where a watch begins.
enum Start {
    /// Events for everything present, then live.
    Present,
    /// Live from now.
    Now,
    /// Everything after this revision.
    After(u64),
}

fn version(call: &Call) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.query.get("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        ApiError::internal(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

fn start(call: &Call, initial: Option<bool>) -> Result<Start, ApiError> {
    let version = version(call)?;
    Ok(match (version, initial) {
        (_, Some(true)) => Start::Present,
        (None | Some(0), Some(false)) => Start::Now,
        (None | Some(0), None) => Start::Present,
        (Some(revision), _) => Start::After(revision),
    })
}

fn timeout(call: &Call) -> Duration {
    match call.query.get("timeoutSeconds").and_then(|t| t.parse().ok()) {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => TIMEOUT_MIN + Duration::from_secs(rand::random_range(0..TIMEOUT_MIN.as_secs())),
    }
}

/// Answers a watch.
pub async fn watch(call: Arc<Call>) -> Result<Response, ApiError> {
    check_timeout(&call)?;
    if call.query.get("continue").is_some() {
        let text = "resourceVersionMatch is forbidden when continue is provided";
        let cause = FieldError::forbidden("resourceVersionMatch", text);
        return Err(ApiError::invalid("ListOptions.meta.k8s.io", "", vec![cause]));
    }
    check_options(&call, true)?;
    let form = call.form(false)?;
    let selection = Selection::parse(&call)?;
    let initial = call.query.get("sendInitialEvents").map(|s| matches!(s, "true" | "1" | "True"));
    let bookmarks = call.query.is_true("allowWatchBookmarks");
    let start = start(&call, initial)?;
    let mut stream = Stream::open(call, selection, form, bookmarks, &start);
    if bookmarks && initial == Some(true) {
        stream.initial_end();
    }
    let body = Body::from_stream(futures::stream::unfold(stream, |mut stream| async move {
        let frame = stream.frame().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(frame), stream))
    }));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

struct Stream {
    call: Arc<Call>,
    selection: Selection,
    form: Form,
    bookmarks: bool,
    watch: Option<Watch>,
    /// Changes up to here were answered or are not wanted.
    floor: u64,
    /// What goes out next.
    out: Vec<u8>,
    columns: bool,
    started: Instant,
    end: Instant,
    next_bookmark: Instant,
}

impl Stream {
    fn open(call: Arc<Call>, selection: Selection, form: Form, bookmarks: bool, start: &Start) -> Self {
        let started = Instant::now();
        let length = timeout(&call);
        let end = started + length;
        let last_bookmark = end.checked_sub(BOOKMARK_BEFORE_END).filter(|t| *t > started);
        let next_bookmark = last_bookmark.unwrap_or(end + BOOKMARK_EVERY).min(started + BOOKMARK_EVERY);
        let (watch, floor, out) = (None, 0, Vec::new());
        let mut stream =
            Self { call, selection, form, bookmarks, watch, floor, out, columns: true, started, end, next_bookmark };
        stream.begin(start);
        stream
    }

    fn begin(&mut self, start: &Start) {
        let prefix = self.selection.prefix(self.call.resource);
        let db = self.call.store.db.clone();
        let from = match start {
            Start::Now => db.revision(),
            Start::After(revision) => *revision,
            Start::Present => {
                let (items, revision) = db.read(|v| (v.range(OBJECTS, &prefix, None, usize::MAX), v.revision()));
                for (key, entry) in items {
                    if self.selection.matches(self.call.resource, &key, &entry.value) {
                        self.push(Kind::Added, &entry.value, entry.revision);
                    }
                }
                revision
            }
        };
        self.floor = from;
        match db.watch(OBJECTS, prefix, from.min(db.revision())) {
            Ok(watch) => self.watch = Some(watch),
            Err(gone) => {
                let status = ApiError::too_old(gone.asked, gone.oldest).to_value();
                self.out.extend_from_slice(format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").as_bytes());
            }
        }
    }

    fn initial_end(&mut self) {
        bookmark(self.call.resource.kind, self.floor, true, &mut self.out);
    }

    fn push(&mut self, kind: Kind, value: &[u8], revision: u64) {
        if self.form.shape == Shape::Object && !self.form.yaml {
            event(kind, self.call.resource.kind, value, revision, &mut self.out);
            return;
        }
        let object = storage::decode_at(value, revision);
        let shown = match self.form.shape {
            Shape::Table(include) => self.call.one_row(&object, include, self.columns, self.form.version),
            _ => table::partial(&object, self.form.version),
        };
        self.columns = false;
        let line = serde_json::json!({"type": kind.text(), "object": shown});
        self.out.extend_from_slice(Value::to_string(&line).as_bytes());
        self.out.push(b'\n');
    }

    fn take(&mut self, change: &records::Change) {
        if change.revision <= self.floor {
            return;
        }
        let resource = self.call.resource;
        if let Some((kind, value)) = translate(change, |k, v| self.selection.matches(resource, k, v)) {
            self.push(kind, &value, change.revision);
        }
    }

    /// Takes in what is ready without waiting.
    fn drain(&mut self) {
        while self.out.len() < FRAME_LIMIT {
            let Some(watch) = &mut self.watch else { return };
            match watch.next().now_or_never() {
                Some(Event::Change(change)) => self.take(&change),
                Some(Event::Lagged | Event::Closed) => self.watch = None,
                None => return,
            }
        }
    }

    /// The next bytes; none when the watch ends.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            self.drain();
            if !self.out.is_empty() {
                return Some(std::mem::take(&mut self.out).into());
            }
            let watch = self.watch.as_mut()?;
            tokio::select! {
                biased;
                () = self.call.store.tasks.cancelled() => return None,
                event = watch.next() => match event {
                    Event::Change(change) => self.take(&change),
                    Event::Lagged => {
                        tracing::warn!(
                            resource = self.call.resource.name,
                            duration_ms = self.started.elapsed().as_millis() as u64,
                            "a watcher was too slow and was cut off"
                        );
                        return None;
                    }
                    Event::Closed => return None,
                },
                () = sleep_until(self.end) => return None,
                () = sleep_until(self.next_bookmark), if self.bookmarks => self.bookmark(),
            }
        }
    }

    fn bookmark(&mut self) {
        let now = Instant::now();
        let last = self.end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(self.end);
        self.next_bookmark = if now < last { (now + BOOKMARK_EVERY).min(last) } else { self.end + BOOKMARK_EVERY };
        if let Some(watch) = &self.watch {
            let revision = watch.progress().max(self.floor);
            bookmark(self.call.resource.kind, revision, false, &mut self.out);
        }
    }
}
