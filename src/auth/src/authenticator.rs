//! Who sent this request? One answer for both ports.
//!
//! In order: an identity that a part of the platform put there in process, a bearer token, a browser's session, and, on a
//! laptop, the local caller. What is presented but not good is refused; it never falls through to the next way.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;

use crate::authorizer::Authorizer;
use crate::caller::{Caller, Means};
use crate::identity::Identity;
use crate::local::{Connection, LocalCaller};
use crate::sessions::{self, Sessions};
use crate::tokens::Tokens;

/// Credentials were presented and are not good.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the credentials are not valid")]
pub struct Unauthenticated;

/// Recognises callers. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    sessions: Sessions,
    local: Option<Arc<LocalCaller>>,
    authorizer: Authorizer,
}

impl Authenticator {
    /// Recognises tokens and sessions, and the local caller where `local` is given.
    pub fn new(tokens: Tokens, sessions: Sessions, local: Option<LocalCaller>, authorizer: Authorizer) -> Self {
        Self { tokens, sessions, local: local.map(Arc::new), authorizer }
    }

    /// The identity behind a request to the Kubernetes API: in process or by bearer token.
    ///
    /// # Errors
    /// When a bearer token is presented that we do not know. Another scheme (`Basic`) counts as no credentials, as
    /// kube-apiserver has it.
    pub async fn authenticate(&self, parts: &Parts) -> Result<Option<Identity>, Unauthenticated> {
        if let Some(identity) = parts.extensions.get::<Identity>() {
            return Ok(Some(identity.clone()));
        }
        match bearer(parts) {
            Some(token) => self.tokens.find(token).map(Some).ok_or(Unauthenticated),
            None => Ok(None),
        }
    }

    /// The caller behind a request to the front door: by token, session or as the local caller.
    ///
    /// # Errors
    /// When credentials are presented that are not good.
    pub async fn caller(&self, parts: &Parts) -> Result<Option<Caller>, Unauthenticated> {
        if let Some(identity) = self.authenticate(parts).await? {
            return Ok(Some(self.of(identity, Means::Token)));
        }
        if parts.headers.contains_key(AUTHORIZATION) {
            return Err(Unauthenticated);
        }
        if let Some(secret) = cookie(parts, sessions::COOKIE) {
            let found = self.sessions.find(secret).await.ok_or(Unauthenticated)?;
            return Ok(Some(self.of(found.identity, Means::Session(found.id))));
        }
        let Some(local) = &self.local else { return Ok(None) };
        let Some(connection) = parts.extensions.get::<Arc<Connection>>() else { return Ok(None) };
        if !may_be_local(parts) || !local.owns(connection).await {
            return Ok(None);
        }
        Ok(Some(self.of(local.identity().clone(), Means::Local)))
    }

    /// Whether requests without credentials can count as the user's at all.
    pub fn has_local_caller(&self) -> bool {
        self.local.is_some()
    }

    fn of(&self, identity: Identity, means: Means) -> Caller {
        Caller::new(identity, means, self.authorizer.clone())
    }
}

/// No web page may use the local caller's right: a browser always sends one of these headers along with what a page
/// asks for, and a name other than a loopback one in `Host` is how DNS rebinding looks.
fn may_be_local(parts: &Parts) -> bool {
    let from_page = parts.headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name, "origin" | "referer" | "cookie") || name.starts_with("sec-fetch-")
    });
    // Whatever names the host must name a loopback one, in `Host` as well as in HTTP/2's `:authority`.
    let named = parts.headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut named = named.chain(parts.uri.authority().map(http::uri::Authority::as_str)).peekable();
    !from_page && named.peek().is_some() && named.all(names_loopback)
}

fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The value of a cookie.
pub fn cookie<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts
        .headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| {
            let (own, value) = pair.trim().split_once('=')?;
            (own == name).then_some(value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_count_as_a_loopback_host() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "127.8.9.1", "[::1]:8080"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:8080", "192.168.0.4:8080", "[::2]:8080", "", "127.0.0.1.nip.io"]
        {
            assert!(!names_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_request_that_a_web_page_could_have_made_is_never_local() {
        let parts = |header: Option<(&str, &str)>| {
            let mut request = http::Request::builder().header(HOST, "127.0.0.1:8080");
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            request.body(()).expect("a request").into_parts().0
        };
        assert!(may_be_local(&parts(None)));
        for header in ["origin", "referer", "cookie", "sec-fetch-site", "sec-fetch-mode"] {
            assert!(!may_be_local(&parts(Some((header, "x")))), "{header}");
        }
        assert!(!may_be_local(&parts(Some(("host", "evil.example")))), "a second name");
        for (uri, expected) in [("http://localhost:8080/", true), ("http://evil.example/", false), ("/", false)] {
            let request = http::Request::builder().uri(uri).body(()).expect("a request");
            assert_eq!(may_be_local(&request.into_parts().0), expected, "{uri}");
        }
    }
}
