//! Handlers and view structs, a file per noun of the URL tree.

pub(crate) mod artifacts;
pub(crate) mod logs;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod sign_in;

use auth::caller::Caller;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use foundation::problem::Problem;
use http::header::{REFERER, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::layout::{Frame, may_write};
use crate::{Web, problem};

/// `/` always redirects: the fragment of an upstream address survives that.
pub(crate) async fn home(State(web): State<Web>, caller: Option<Caller>) -> Redirect {
    match caller {
        Some(_) => Redirect::to(&format!("/ns/{}/runs", web.operations.namespace())),
        None => Redirect::to("/signin"),
    }
}

pub(crate) async fn namespace(Path(ns): Path<String>) -> Redirect {
    Redirect::to(&format!("/ns/{}/runs", crate::layout::percent(&ns)))
}

/// Where upstream's addresses lead: the id alone finds the object.
pub(crate) async fn go(State(web): State<Web>, frame: Frame, Path((kind, id)): Path<(String, String)>) -> Response {
    let runs = format!("/ns/{}/runs", web.operations.namespace());
    match kind.as_str() {
        "run" => Redirect::to(&format!("{runs}/{}", crate::layout::percent(&id))).into_response(),
        "experiment" => Redirect::to(&format!("{runs}?experiment={}", crate::layout::percent(&id))).into_response(),
        _ => problem::page(frame, Problem::not_found(format!("There is no page for this {kind} yet"))),
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Theme {
    #[serde(default)]
    csrf: String,
    theme: String,
}

pub(crate) async fn theme(caller: Caller, headers: HeaderMap, Form(wanted): Form<Theme>) -> Response {
    if !may_write(&caller, &wanted.csrf) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let theme = if wanted.theme == "dark" { "dark" } else { "light" };
    let cookie = format!("theme={theme}; Path=/; Max-Age=31536000; SameSite=Lax");
    let back = headers.get(REFERER).and_then(|from| from.to_str().ok()).and_then(|from| from.parse::<http::Uri>().ok());
    let back = back.and_then(|from| from.path_and_query().map(ToString::to_string)).unwrap_or_else(|| "/".to_owned());
    ([(SET_COOKIE, cookie)], Redirect::to(&back)).into_response()
}

/// The one field that forms without others have.
#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    #[serde(default)]
    pub(crate) csrf: String,
}

/// The answer to a form that did not come from one of our pages.
pub(crate) fn not_ours(frame: Frame) -> Response {
    let what = "The form is older than your session";
    problem::page(
        frame,
        Problem::new(foundation::problem::Kind::Forbidden, what).remedy("Go back, reload the page and try again."),
    )
}
