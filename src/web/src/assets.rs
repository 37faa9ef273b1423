//! Scripts and styles: built into `web/dist`, embedded, served under names that change with their content.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use rust_embed::RustEmbed;

/// A worker lives by the policy of its own script: it talks to us and to nobody else.
const POLICY: &str = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[exclude = ".gitkeep"]
struct Dist;

/// Names of sources to names of files; empty when nothing was built.
static MANIFEST: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let file = Dist::get("manifest.json");
    file.and_then(|file| serde_json::from_slice(&file.data).ok()).unwrap_or_default()
});

/// The address of an asset by the name of its source; none when nothing was built.
pub(crate) fn href(source: &str) -> Option<String> {
    MANIFEST.get(source).map(|file| format!("/assets/{file}"))
}

pub(crate) async fn get(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let kind = match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let accepts = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let takes_brotli = accepts.split(',').any(|one| one.trim().split(';').next() == Some("br"));
    let packed = if takes_brotli { Dist::get(&format!("{file}.br")) } else { None };
    let (data, encoding) = match (packed, Dist::get(&file)) {
        (Some(packed), _) => (packed.data, Some("br")),
        (None, Some(plain)) => (plain.data, None),
        (None, None) => return StatusCode::NOT_FOUND.into_response(),
    };
    let mut response = Response::new(Body::from(data.into_owned()));
    let into = response.headers_mut();
    into.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    into.insert(CACHE_CONTROL, http::HeaderValue::from_static("public, max-age=31536000, immutable"));
    into.insert(CONTENT_SECURITY_POLICY, http::HeaderValue::from_static(POLICY));
    into.insert(VARY, http::HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        into.insert(CONTENT_ENCODING, http::HeaderValue::from_static(encoding));
    }
    response
}
