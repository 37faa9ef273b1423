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
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::body::Timed;

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
    let accept = || listener.accept();
    run(accept, tasks, |(stream, peer), watcher| serve_tcp(stream, peer, acceptor.clone(), router.clone(), watcher))
        .await;
}

/// Serves `router` on a unix socket; `admit` says whom by the peer's uid.
pub async fn serve_unix(listener: UnixListener, admit: fn(u32) -> bool, router: Router, tasks: Tasks) {
    let accept = || listener.accept();
    run(accept, tasks, |(stream, _), watcher| {
        let router = router.clone();
        async move {
            if stream.peer_cred().is_ok_and(|peer| admit(peer.uid())) {
                serve_connection(stream, router, |_| {}, watcher).await;
            }
        }
    })
    .await;
}

async fn run<T, A, F>(accept: impl Fn() -> A, tasks: Tasks, serve: impl Fn(T, Watcher) -> F)
where
    A: Future<Output = io::Result<T>>,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let cancelled = tasks.cancelled();
    tokio::pin!(cancelled);
    loop {
        let next = async {
            // Never closed; with all slots taken the kernel's queue holds who comes next.
            let slot = slots.clone().acquire_owned().await;
            (slot, accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut cancelled => break,
            next = next => next,
        };
        match accepted {
            Ok(accepted) => {
                let work = serve(accepted, graceful.watcher());
                tasks.spawn("connection", async move {
                    work.await;
                    drop(slot);
                });
            }
            // Out of descriptors, mostly: every other connection goes on, and this loop with them.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                if !tasks.pause(ACCEPT_PAUSE).await {
                    break;
                }
            }
        }
    }
    if tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::debug!("some connections were still open when the time to drain was over");
    }
}

async fn serve_tcp(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
) {
    // A peer that is gone already has no address at our end.
    let Ok(local) = stream.local_addr() else { return };
    // Without it small answers wait 40 ms for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection keeps its delay");
    }
    let connection = Arc::new(Connection::new(peer, local));
    let note = move |request: &mut Request<Body>| {
        request.extensions_mut().insert(connection.clone());
    };
    match acceptor {
        None => serve_connection(stream, router, note, watcher).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve_connection(stream, router, note, watcher).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        },
    }
}

async fn serve_connection<S>(
    stream: S,
    router: Router,
    note: impl Fn(&mut Request<Body>) + Clone + Send + 'static,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(|body| Body::new(Timed::new(body)));
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
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, "a connection ended badly");
    }
}

async fn answer(router: Router, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    router.oneshot(request).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn started(router: Router, tls: Option<Arc<ServerConfig>>) -> (SocketAddr, Tasks) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let tasks = Tasks::root("test");
        let accept = tasks.clone();
        tasks.spawn("listener", async move { serve(listener, tls, router, accept).await });
        (address, tasks)
    }

    async fn sent(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(text.as_bytes()).await.expect("written");
        stream
    }

    async fn answer_of(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.expect("an answer");
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_during_a_stop_and_idle_connections_do_not_hold_it_up() {
        let (begun, mut seen) = tokio::sync::mpsc::channel::<()>(1);
        let go = Arc::new(tokio::sync::Notify::new());
        let wait = go.clone();
        let slow = get(move || {
            let (begun, wait) = (begun.clone(), wait.clone());
            async move {
                let _ = begun.send(()).await;
                wait.notified().await;
                "done"
            }
        });
        let (address, tasks) = started(Router::new().route("/slow", slow), None).await;
        let idle = sent(address, "").await;
        let stream = sent(address, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        seen.recv().await.expect("the handler runs");
        let stopped = Arc::new(AtomicBool::new(false));
        let (own, tell) = (tasks.clone(), stopped.clone());
        let stopping = async move {
            let all = own.stop(Duration::from_secs(20)).await;
            tell.store(true, Ordering::SeqCst);
            all
        };
        let answering = async {
            tasks.cancelled().await;
            assert!(!stopped.load(Ordering::SeqCst), "the stop waits for the request");
            go.notify_one();
            answer_of(stream).await
        };
        let (all, answer) = tokio::join!(stopping, answering);
        assert!(all, "every connection ended");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        drop(idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_half_way_is_given_up() {
        let router = Router::new().route("/", post(|body: bytes::Bytes| async move { body.len().to_string() }));
        let (address, tasks) = started(router, None).await;
        let stream = sent(address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc").await;
        let answer = answer_of(stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 408"), "{answer}");
        tasks.stop(Duration::from_secs(20)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_given_up_with_and_without_tls() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("kubeflow-listener-{}", std::process::id()));
        let authority = crate::tls::Authority::open(&folder).expect("an authority");
        for (tls, text) in [(None, "GET / HTTP/1.1\r\nHo"), (Some(authority.server.clone()), "")] {
            let (address, tasks) = started(Router::new(), tls).await;
            let answer = answer_of(sent(address, text).await).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
            tasks.stop(Duration::from_secs(20)).await;
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
