//! A request's body that does not come is given up.
//!
//! hyper bounds the time of a header only; without this a client that stops half-way holds its handler for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// The next piece of a body has this long.
const PIECE_WITHIN: Duration = Duration::from_secs(30);
/// All of it, also of an upload that drips; bodies are bounded, so this is a slow network's share.
const WHOLE_WITHIN: Duration = Duration::from_secs(600);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body did not come.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request did not arrive in time")]
pub(crate) struct TooSlow;

/// A body with a time limit on each piece and on the whole. Time counts while somebody waits for it, not before.
pub(crate) struct Timed<B> {
    body: B,
    limit: Option<Pin<Box<Sleep>>>,
    until: Option<Instant>,
}

impl<B> Timed<B> {
    /// Limits `body`.
    pub(crate) fn new(body: B) -> Self {
        Self { body, limit: None, until: None }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.limit = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let now = Instant::now();
        let until = *this.until.get_or_insert(now + WHOLE_WITHIN);
        let limit = this.limit.get_or_insert_with(|| Box::pin(sleep_until(until.min(now + PIECE_WITHIN))));
        limit.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
