//! Signing in with a link or a token, and out.

use std::collections::VecDeque;
use std::sync::Arc;

use askama::Template;
use auth::caller::{Caller, Means};
use auth::sessions;
use axum::Form;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::{RETRY_AFTER, SET_COOKIE};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;

use super::Signed;
use crate::Web;
use crate::layout::{Frame, may_write, page};

/// So many wrong tokens may be tried within [`WINDOW`], by everybody together: a person mistypes, a program guesses.
const WRONG_MAX: usize = 20;
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// When wrong tokens were tried. Nobody is locked out by it: a right token is taken at any time.
#[derive(Clone, Default)]
pub(crate) struct WrongTokens(Arc<Mutex<VecDeque<Timestamp>>>);

impl WrongTokens {
    /// Notes another one; false when there were too many.
    fn note(&self, now: Timestamp) -> bool {
        let mut tried = self.0.lock();
        while tried.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            tried.pop_front();
        }
        if tried.len() >= WRONG_MAX {
            return false;
        }
        tried.push_back(now);
        true
    }
}

#[derive(Template)]
#[template(path = "signin/show.html")]
struct Show {
    frame: Frame,
    error: Option<&'static str>,
    link: Option<String>,
    next: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    link: Option<String>,
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Credentials {
    link: Option<String>,
    token: Option<String>,
    #[serde(default)]
    next: String,
}

/// Looking at a link does not use it up: mail scanners and prefetching browsers look.
pub(crate) async fn show(
    State(web): State<Web>,
    frame: Frame,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let next = local(&wanted.next);
    if wanted.link.is_none() && caller.is_some_and(|caller| matches!(caller.means, Means::Session(_))) {
        return Redirect::to(&next).into_response();
    }
    let good = wanted.link.as_ref().is_some_and(|link| web.sessions.link_is_good(link));
    let error = (wanted.link.is_some() && !good).then_some("This link was used already or is older than ten minutes.");
    page(StatusCode::OK, &Show { frame, error, link: wanted.link.filter(|_| good), next })
}

pub(crate) async fn create(
    State(web): State<Web>,
    frame: Frame,
    caller: Option<Caller>,
    Form(given): Form<Credentials>,
) -> Response {
    let next = local(&given.next);
    let refused = |frame, error| {
        page(StatusCode::UNPROCESSABLE_ENTITY, &Show { frame, error: Some(error), link: None, next: next.clone() })
    };
    let identity = match (&given.link, &given.token) {
        (Some(link), _) => match web.sessions.consume(link).await {
            Ok(Some(identity)) => identity,
            Ok(None) => return refused(frame, "This link was used already or is older than ten minutes."),
            Err(error) => {
                tracing::error!(error = %foundation::problem::chain(&error), "a sign-in link could not be used");
                return refused(frame, "The link could not be used now. It is still good: try again.");
            }
        },
        (None, Some(token)) => match web.tokens.find(token.trim()) {
            Some(identity) => identity,
            None if web.wrong_tokens.note(web.operations.now()) => return refused(frame, "This token is not known."),
            None => {
                let error = Some("Too many wrong tokens were tried. Wait a minute, or use a link.");
                let shown = Show { frame, error, link: None, next };
                return ([(RETRY_AFTER, "60")], page(StatusCode::TOO_MANY_REQUESTS, &shown)).into_response();
            }
        },
        (None, None) => return refused(frame, "Paste a token."),
    };
    match web.sessions.open(identity).await {
        Ok(secret) => {
            // The browser forgets the session that it had; so do we.
            if let Some(Caller { means: Means::Session(old), .. }) = &caller
                && let Err(error) = web.sessions.close(old).await
            {
                tracing::error!(error = %foundation::problem::chain(&error), "a session could not be closed");
            }
            let age = sessions::cookie_lifetime().as_secs();
            let cookie =
                format!("{}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}", sessions::COOKIE, secret.expose());
            ([(SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
        }
        Err(error) => {
            tracing::error!(error = %foundation::problem::chain(&error), "a session could not be opened");
            refused(frame, "A session could not be opened now. Try again.")
        }
    }
}

pub(crate) async fn delete(State(web): State<Web>, caller: Caller, frame: Frame, Form(form): Form<Signed>) -> Response {
    if !may_write(&caller, &form.csrf) {
        return super::not_ours(frame);
    }
    if let Means::Session(id) = &caller.means
        && let Err(error) = web.sessions.close(id).await
    {
        tracing::error!(error = %foundation::problem::chain(&error), "a session could not be closed");
    }
    let cookie = format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0", sessions::COOKIE);
    ([(SET_COOKIE, cookie)], Redirect::to("/signin")).into_response()
}

/// A path of ours to go on to; anything else leads home.
fn local(next: &str) -> String {
    let ours = next.starts_with('/') && !next.starts_with("//") && !next.starts_with("/\\");
    if ours { next.to_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_never_leads_elsewhere() {
        for bad in ["//evil.example", "https://evil.example", "/\\evil.example", "", "javascript:alert(1)"] {
            assert_eq!(local(bad), "/", "{bad}");
        }
        assert_eq!(local("/ns/a/runs?q=x"), "/ns/a/runs?q=x");
    }

    #[test]
    fn wrong_tokens_are_few_a_minute() {
        let wrong = WrongTokens::default();
        let now = Timestamp::UNIX_EPOCH;
        assert!((0..WRONG_MAX).all(|_| wrong.note(now)));
        assert!(!wrong.note(now));
        assert!(wrong.note(now.saturating_add(WINDOW * 2).expect("a time")));
    }
}
