//! The chain before every route of the front door.
//!
//! In order: headers that only we may set are taken off, the caller is established, a browser's write must come from our
//! own pages, and every answer gets the headers that keep content where it belongs.

use auth::authenticator::Authenticator;
use auth::caller::{Caller, Means};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

/// Headers by which gateways, proxies and Kubernetes hand identities on: believed by nobody here, so nobody outside may
/// bring them. Each is the beginning of a name.
const FOREIGN: [&str; 8] = [
    "kubeflow-",
    "impersonate-",
    "x-remote-",
    "x-auth-request-",
    "x-goog-authenticated-user-",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
];
/// The one page that takes a form from somebody who is nobody yet.
const SIGN_IN: &str = "/signin";

/// Puts the chain before `router`. `refuse` answers a request whose credentials are not good.
pub fn chain(router: Router, authenticator: Authenticator, refuse: fn(&Request) -> Response) -> Router {
    router
        .layer(from_fn(own_pages_only))
        .layer(from_fn_with_state((authenticator, refuse), identify))
        .layer(from_fn(headers))
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
    name_host(&mut request);
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
    let foreign = |name: &&HeaderName| FOREIGN.iter().any(|start| name.as_str().starts_with(start));
    let brought: Vec<HeaderName> = headers.keys().filter(foreign).cloned().collect();
    for name in brought {
        headers.remove(name);
    }
}

/// HTTP/2 names the host in `:authority` alone; everything behind this reads one place.
fn name_host(request: &mut Request) {
    let named = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(named) = named {
        request.headers_mut().insert(HOST, named);
    }
}

/// A browser's session travels with every request that any page makes; a change must come from one of ours. So must the
/// sign-in: no other page may sign a browser in as somebody of its choice.
async fn own_pages_only(request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    let by_session = caller.is_some_and(|caller| matches!(caller.means, Means::Session(_)));
    let headers = request.headers();
    let from_page = headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site");
    let signs_in = caller.is_none() && from_page && request.uri().path() == SIGN_IN;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if (by_session || signs_in) && !reads && !same_origin(headers) {
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
    // Pages and artifacts say more; an answer that says nothing of its own is data, not to be kept and not to be run.
    default("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
    default("cache-control", "no-store");
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

    #[tokio::test]
    async fn identities_that_others_hand_on_are_taken_off_and_the_host_has_one_name() {
        let mut request = Request::get("http://localhost:8080/").body(axum::body::Body::empty()).expect("a request");
        for name in
            ["Kubeflow-UserId", "Impersonate-User", "Impersonate-Extra-Scopes", "X-Remote-Group", "Accept", "Host"]
        {
            request.headers_mut().append(HeaderName::try_from(name).expect("a name"), HeaderValue::from_static("x"));
        }
        strip(request.headers_mut());
        name_host(&mut request);
        let mut left: Vec<String> =
            request.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        left.sort();
        assert_eq!(left, ["accept: \"x\"", "host: \"localhost:8080\""]);
    }

    #[tokio::test]
    async fn an_answer_that_says_nothing_of_its_own_is_not_kept_and_not_run() {
        use tower::ServiceExt;
        let router = Router::new().fallback(|| async { "{}" }).layer(from_fn(headers));
        let request = Request::get("/").body(axum::body::Body::empty()).expect("a request");
        let answer = router.oneshot(request).await.expect("an answer");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    }
}
