//! The frame around every page, and how a page becomes an answer.

use askama::Template;
use auth::authenticator::cookie;
use auth::caller::{Caller, Means};
use auth::sessions;
use axum::extract::FromRequestParts;
use axum::response::{Html, IntoResponse, Response};
use foundation::id::TraceId;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use jiff::tz::TimeZone;

use crate::{Web, assets};

/// Nothing inline, nothing from elsewhere, forms to us only, scripts through one policy.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     worker-src 'self'; font-src 'none'; form-action 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; \
     require-trusted-types-for 'script'; trusted-types kubeflow";

/// What the frame shows.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) user: String,
    pub(crate) namespace: String,
    /// For forms; only a browser's session has one.
    pub(crate) csrf: Option<String>,
    /// `light` or `dark`, if one was chosen.
    pub(crate) theme: Option<String>,
    pub(crate) host: String,
    /// The zone in which times are shown.
    pub(crate) zone: TimeZone,
    /// The request's name in the log.
    pub(crate) trace: Option<TraceId>,
}

impl Frame {
    pub(crate) fn asset(&self, source: &str) -> Option<String> {
        assets::href(source)
    }

    pub(crate) fn other_theme(&self) -> &'static str {
        if self.theme.as_deref() == Some("dark") { "light" } else { "dark" }
    }
}

impl FromRequestParts<Web> for Frame {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get::<Caller>();
        let csrf = caller.and_then(|caller| match &caller.means {
            Means::Session(id) => Some(sessions::csrf_token(id)),
            Means::Token | Means::Local | Means::InProcess => None,
        });
        let theme = cookie(parts, "theme").filter(|theme| matches!(*theme, "light" | "dark"));
        let zone = cookie(parts, "tz").and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
        Ok(Self {
            user: caller.map_or(web.user, |caller| caller.identity.user.as_str()).to_owned(),
            namespace: web.operations.namespace().to_owned(),
            csrf,
            theme: theme.map(str::to_owned),
            host: host.to_owned(),
            zone,
            trace: parts.extensions.get::<TraceId>().cloned(),
        })
    }
}

/// A page.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    answer(status, template.render(), None)
}

/// A page that is true at a revision.
pub(crate) fn page_at(rev: u64, template: &impl Template) -> Response {
    answer(StatusCode::OK, template.render(), Some(rev))
}

/// Some parts of a page, each in a template of its name.
pub(crate) fn fragments(rev: u64, parts: &[(&str, askama::Result<String>)]) -> Response {
    let mut html = String::new();
    for (name, part) in parts {
        match part {
            Ok(part) => html.push_str(&format!("<template data-frag=\"{name}\">{}</template>", part.trim())),
            Err(error) => tracing::error!(%error, name, "a part of a page could not be drawn"),
        }
    }
    answer(StatusCode::OK, Ok(html), Some(rev))
}

fn answer(status: StatusCode, html: askama::Result<String>, rev: Option<u64>) -> Response {
    let html = match html {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page could not be drawn");
            return (StatusCode::INTERNAL_SERVER_ERROR, "The page could not be drawn.\n").into_response();
        }
    };
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(HeaderName::from_static("vary"), HeaderValue::from_static("cookie"));
    if let Some(tag) = rev.and_then(|rev| HeaderValue::from_str(&format!("\"{rev}\"")).ok()) {
        headers.insert(ETAG, tag);
    }
    response
}

/// A text as a part of a path or a value of a query.
pub(crate) fn percent(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Whether a form came from one of our pages: its token fits the session. Without a session there are no forms.
pub(crate) fn may_write(caller: &Caller, token: &str) -> bool {
    match &caller.means {
        Means::Session(id) => sessions::csrf_matches(id, token),
        Means::Token | Means::Local | Means::InProcess => true,
    }
}
