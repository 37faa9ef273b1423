//! The chain before every route of the front door.
//!
//! In order: headers that only we may set are taken off, the caller is established, a browser's write must come from our
//! own pages, and every answer gets the headers that keep content where it belongs.

use std::time::Duration;

use auth::authenticator::Authenticator;
use auth::caller::{Caller, Means};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

/// Identity headers of upstream's gateways: believed by nobody here, so nobody outside may bring them.
const FOREIGN: [&str; 4] = ["kubeflow-userid", "kubeflow-groups", "x-goog-authenticated-user-email", "x-remote-user"];
/// Slower than this is worth a line.
const SLOW: Duration = Duration::from_secs(2);

/// Puts the chain before `router`. `refuse` answers a request whose credentials are not good.
pub fn chain(router: Router, authenticator: Authenticator, refuse: fn(&Request) -> Response) -> Router {
    router
        .layer(from_fn(own_pages_only))
        .layer(from_fn_with_state((authenticator, refuse), identify))
        .layer(from_fn(headers))
        .layer(from_fn(measure))
}

/// Requests that arrive through the unix socket come from the user who runs the platform: the socket's folder and the
/// peer's uid say so.
pub fn trusted(router: Router, caller: Caller) -> Router {
    router.layer(from_fn(move |mut request: Request, next: Next| {
        let caller = caller.clone();
        async move {
            strip(request.headers_mut());
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    }))
}

type Identify = (Authenticator, fn(&Request) -> Response);

async fn identify(State((authenticator, refuse)): State<Identify>, mut request: Request, next: Next) -> Response {
    strip(request.headers_mut());
    let (parts, body) = request.into_parts();
    let found = authenticator.caller(&parts).await;
    request = Request::from_parts(parts, body);
    match found {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
        }
        Ok(None) => {}
        // A token that is not good is refused; a session that ended is as good as none.
        Err(_) if request.headers().contains_key(AUTHORIZATION) => return refuse(&request),
        Err(_) => {}
    }
    next.run(request).await
}

fn strip(headers: &mut HeaderMap) {
    for name in FOREIGN {
        headers.remove(name);
    }
}

/// A browser's session travels with every request that any page makes; a change must come from one of ours.
async fn own_pages_only(request: Request, next: Next) -> Response {
    let by_session =
        request.extensions().get::<Caller>().is_some_and(|caller| matches!(caller.means, Means::Session(_)));
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if by_session && !reads && !same_origin(request.headers()) {
        return (StatusCode::FORBIDDEN, "This request did not come from one of our own pages.\n").into_response();
    }
    next.run(request).await
}

fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    match (site, text(ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let host = text(HOST).unwrap_or_default();
            origin.split_once("://").is_some_and(|(_, own)| !host.is_empty() && own == host)
        }
        (None, None) => false,
    }
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut default = |name: &'static str, value: &'static str| {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    };
    default("x-content-type-options", "nosniff");
    default("referrer-policy", "no-referrer");
    default("x-frame-options", "SAMEORIGIN");
    default("cross-origin-opener-policy", "same-origin");
    default("cross-origin-resource-policy", "same-origin");
    response
}

async fn measure(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = std::time::Instant::now();
    let response = next.run(request).await;
    let taken = started.elapsed();
    if taken > SLOW {
        let status = response.status().as_u16();
        let duration_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(%method, path, status, duration_ms, "a request was slow");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_may_write_with_a_session() {
        let check = |pairs: &[(&'static str, &'static str)], expected: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(same_origin(&headers), expected, "{pairs:?}");
        };
        check(&[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")], true);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("host", "127.0.0.1:8080"), ("origin", "http://evil.example")], false);
        check(
            &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")],
            false,
        );
        check(&[("host", "127.0.0.1:8080")], false);
        check(&[("origin", "null"), ("host", "127.0.0.1:8080")], false);
    }
}
