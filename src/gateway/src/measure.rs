//! What is written down of every request, on both ports: its span, its figures, and what became of it.
//!
//! Invariant: neither a query (a sign-in link stands there) nor a header is ever logged.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use foundation::id::TraceId;
use futures::FutureExt;
use http::header::HeaderValue;
use http::{Method, StatusCode};
use telemetry::requests::Requests;
use tracing::Instrument;

/// Slower than this is worth a line.
const SLOW: Duration = Duration::from_secs(2);

/// Which route a request took: a pattern of ours, never what the client sent.
pub type RouteOf = fn(&Request) -> String;

/// Puts the measurement before `router`; it must be the outermost layer. `port` names the port in the figures.
pub fn layer(router: Router, requests: Requests, port: &'static str, route_of: RouteOf) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let requests = requests.clone();
        async move { measure(request, next, &requests, port, route_of).await }
    }))
}

/// The pattern that axum matched.
pub fn matched(request: &Request) -> String {
    request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned())
}

async fn measure(mut request: Request, next: Next, requests: &Requests, port: &str, route_of: RouteOf) -> Response {
    let (method, path, route) = (request.method().clone(), request.uri().path().to_owned(), route_of(&request));
    let trace = TraceId::new();
    request.extensions_mut().insert(trace.clone());
    let span = tracing::info_span!("request", trace.id = %trace, %method, path);
    let started = Instant::now();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let _entered = span.entered();
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!("a handler panicked");
        let text = format!("Something of ours broke. The log says more about trace {trace}.\n");
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    });
    if let Ok(value) = HeaderValue::from_str(trace.as_str()) {
        response.headers_mut().insert("x-trace-id", value);
    }
    let (taken, status) = (started.elapsed(), response.status().as_u16());
    requests.record(port, method.as_str(), &route, status, taken);
    let duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    // A tunnel lasts as long as its ends want.
    if taken > SLOW && method != Method::CONNECT {
        tracing::info!(status, duration_ms, "a request was slow");
    } else {
        tracing::debug!(status, duration_ms, "a request was answered");
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use telemetry::metrics::Metrics;
    use tower::ServiceExt;

    use super::*;

    async fn panics() -> StatusCode {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn each_request_is_counted_under_its_pattern_and_a_panic_is_an_answer() {
        let metrics = Metrics::default();
        let router = Router::new().route("/runs/{id}", get(|| async { "a run" })).route("/broken", get(panics));
        let router = layer(router, Requests::register(&metrics), "front", matched);
        let ask = |path: &str| {
            let request = Request::get(path).body(axum::body::Body::empty()).expect("a request");
            router.clone().oneshot(request)
        };
        for path in ["/runs/1?secret=x", "/runs/2", "/elsewhere/3"] {
            let answer = ask(path).await.expect("an answer");
            assert_eq!(answer.headers()["x-trace-id"].len(), 32);
        }
        let broken = ask("/broken").await.expect("an answer");
        assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = metrics.render();
        assert!(text.contains(r#"route="/runs/{id}",status="200"} 2"#), "{text}");
        assert!(text.contains(r#"route="/broken",status="500"} 1"#), "{text}");
        assert!(!text.contains("secret") && !text.contains("elsewhere"), "{text}");
    }
}
