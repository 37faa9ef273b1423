//! The API for callers in this process: no socket, no TLS; the identity is given, a panic becomes a 500, and upgrades go
//! through a duplex pipe with a real HTTP connection on both ends.
//!
//! Invariant: only this service puts an identity into a request.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use auth::identity::Identity;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::{Request, header};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;

use super::{Answer, Server};
use crate::status::ApiError;

/// Bytes that may wait in an upgraded connection's pipe.
const PIPE_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Clone)]
pub struct Service {
    server: Server,
    identity: Identity,
}

impl Service {
    /// Acts as `identity`.
    pub fn new(server: Server, identity: Identity) -> Self {
        Self { server, identity }
    }

    async fn upgraded(self, request: Request<Body>) -> Result<Response, ApiError> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let tasks = self.server.inner.store.tasks.clone();
        let server = self.server.clone();
        let identity = self.identity.clone();
        let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(identity.clone());
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.serve(request.map(Body::new)).await) }
        });
        tasks.spawn("in-process upgrade, server side", async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
                .with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an in-process upgraded connection ended");
            }
        });
        let lost = |e: hyper::Error| ApiError::internal(format!("in-process connection: {e}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.map_err(lost)?;
        tasks.spawn("in-process upgrade, client side", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an in-process upgraded connection ended");
            }
        });
        let mut request = request;
        request.headers_mut().entry(header::HOST).or_insert(http::HeaderValue::from_static("localhost"));
        sender.send_request(request).await.map(|r| r.map(Body::new)).map_err(lost)
    }
}

impl tower::Service<Request<kube::client::Body>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut request = request.map(Body::new);
            if request.headers().contains_key(header::UPGRADE) {
                return Ok(this.upgraded(request).await.unwrap_or_else(ApiError::into_response));
            }
            request.extensions_mut().insert(this.identity.clone());
            let work = AssertUnwindSafe(this.server.serve(request)).catch_unwind();
            Ok(work.await.unwrap_or_else(|_| ApiError::internal("the request handler panicked").into_response()))
        })
    }
}
