//! Accepts connections and serves HTTP/1 and 2 on them, with or without TLS, with limits, until told to drain.
//!
//! Not `axum::serve`: that installs no timer, so a client that never finishes its header would hold a connection for ever,
//! and it knows no TLS.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::local::Connection;
use axum::Router;
use axum::body::Body;
use foundation::tasks::Tasks;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// A client has this long for its TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A client has this long for its header; also closes idle connections.
const HEADER_WITHIN: Duration = Duration::from_secs(30);
/// One line of a header may hold OIDC cookies and impersonation headers.
const HEADER_MAX_BYTES: usize = 64 << 10;
/// All watches of a Go client are streams of one connection.
const STREAMS_MAX: u32 = 256;
/// Out of file descriptors: wait, instead of ending the loop or spinning in it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections of one listener; each kube-rs watch is one.
const CONNECTIONS_MAX: usize = 4096;
/// Requests under way get this long to end when the platform stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Serves `router` on a TCP port until `tasks` is asked to stop; then waits for requests under way.
///
/// Every request carries an `Arc<Connection>` that says where it comes from.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, tasks: Tasks) {
    let acceptor = tls.map(TlsAcceptor::from);
    let accept = || async {
        let (stream, peer) = listener.accept().await?;
        let local = stream.local_addr()?;
        // Without it small answers wait 40 ms for an acknowledgement.
        stream.set_nodelay(true)?;
        Ok((stream, Arc::new(Connection::new(peer, local))))
    };
    run(accept, tasks, |(stream, connection), graceful| {
        serve_tcp(stream, connection, acceptor.clone(), router.clone(), graceful)
    })
    .await;
}

/// Serves `router` on a unix socket; `admit` says whom by the peer's uid.
pub async fn serve_unix(listener: UnixListener, admit: fn(u32) -> bool, router: Router, tasks: Tasks) {
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        Ok(stream)
    };
    run(accept, tasks, |stream, graceful| {
        let router = router.clone();
        async move {
            if stream.peer_cred().is_ok_and(|peer| admit(peer.uid())) {
                serve_connection(stream, router, |_| {}, graceful).await;
            }
        }
    })
    .await;
}

async fn run<T, A, F>(accept: impl Fn() -> A, tasks: Tasks, serve: impl Fn(T, Arc<GracefulShutdown>) -> F)
where
    A: Future<Output = io::Result<T>>,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = Arc::new(GracefulShutdown::new());
    let cancelled = tasks.cancelled();
    tokio::pin!(cancelled);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = &mut cancelled => break,
            accepted = accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let work = serve(accepted, graceful.clone());
                tasks.spawn("connection", async move {
                    work.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The connections hold the other references; they end by themselves or with the deadline.
    if let Ok(graceful) = Arc::try_unwrap(graceful) {
        let _ = tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown()).await;
    }
}

async fn serve_tcp(
    stream: TcpStream,
    connection: Arc<Connection>,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    graceful: Arc<GracefulShutdown>,
) {
    let peer: SocketAddr = connection.peer;
    let note = move |request: &mut Request<Body>| {
        request.extensions_mut().insert(connection.clone());
    };
    match acceptor {
        None => serve_connection(stream, router, note, graceful).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve_connection(stream, router, note, graceful).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        },
    }
}

async fn serve_connection<S>(
    stream: S,
    router: Router,
    note: impl Fn(&mut Request<Body>) + Clone + Send + 'static,
    graceful: Arc<GracefulShutdown>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        note(&mut request);
        answer(router.clone(), request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WITHIN).max_buf_size(HEADER_MAX_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_MAX_BYTES as u32)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .enable_connect_protocol();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watcher().watch(connection);
    drop(graceful);
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "a connection ended badly");
    }
}

async fn answer(router: Router, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    router.oneshot(request).await
}
