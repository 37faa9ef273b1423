//! The one mapping of a problem to a page.

use askama::Template;
use axum::response::Response;
use foundation::problem::{Kind, Problem, chain};
use http::StatusCode;

use crate::layout::{self, Frame};

#[derive(Template)]
#[template(path = "problem.html")]
struct Page {
    frame: Frame,
    title: &'static str,
    what: String,
    cause: Option<String>,
    remedy: Option<String>,
    /// Under which name the log says more; only of what is our fault.
    trace: Option<String>,
}

/// A problem as a page: what failed, why, what to do.
pub(crate) fn page(frame: Frame, problem: Problem) -> Response {
    let (status, title) = match problem.kind {
        Kind::Invalid | Kind::FailedPrecondition => (StatusCode::UNPROCESSABLE_ENTITY, "Not possible"),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, "Signed out"),
        Kind::Forbidden => (StatusCode::FORBIDDEN, "Not allowed"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        Kind::AlreadyExists | Kind::Conflict => (StatusCode::CONFLICT, "Changed in between"),
        Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
        Kind::Full => (StatusCode::INSUFFICIENT_STORAGE, "The disk is full"),
        Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        Kind::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "Not available"),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Our fault"),
    };
    let ours = status.is_server_error();
    if ours {
        tracing::error!(error = %chain(&problem), "a page could not be made");
    }
    let trace = frame.trace.as_ref().filter(|_| ours).map(ToString::to_string);
    layout::page(
        status,
        &Page { frame, title, what: problem.what, cause: problem.cause, remedy: problem.remedy, trace },
    )
}
