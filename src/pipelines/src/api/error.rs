//! The one mapping of a problem to a KFP error body.
//!
//! Source: KFP's HTTP gateway: `{code, message, details: [{@type: google.rpc.Status, code, message}]}`; the upload
//! handlers answer `{error_message, error_details}` instead.

use axum::Json;
use axum::response::{IntoResponse, Response};
use foundation::problem::{Kind, Problem, chain};
use http::StatusCode;
use serde_json::json;

/// A problem on its way to a client of the API.
#[derive(Debug)]
pub struct Refusal {
    problem: Problem,
    upload: bool,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, upload: false }
    }
}

impl Refusal {
    /// In the shape of the upload handlers.
    pub(super) fn of_upload(problem: Problem) -> Self {
        Self { problem, upload: true }
    }
}

/// google.rpc.Code and HTTP status of a kind. Source: grpc-gateway's `HTTPStatusFromCode`.
fn codes(kind: Kind) -> (u16, StatusCode) {
    match kind {
        Kind::Invalid => (3, StatusCode::BAD_REQUEST),
        Kind::FailedPrecondition => (9, StatusCode::BAD_REQUEST),
        Kind::Unauthenticated => (16, StatusCode::UNAUTHORIZED),
        Kind::Forbidden => (7, StatusCode::FORBIDDEN),
        Kind::NotFound => (5, StatusCode::NOT_FOUND),
        Kind::AlreadyExists => (6, StatusCode::CONFLICT),
        Kind::Conflict => (10, StatusCode::CONFLICT),
        Kind::TooLarge => (8, StatusCode::PAYLOAD_TOO_LARGE),
        Kind::Full => (8, StatusCode::INSUFFICIENT_STORAGE),
        Kind::Unavailable => (14, StatusCode::SERVICE_UNAVAILABLE),
        Kind::Unimplemented => (12, StatusCode::NOT_IMPLEMENTED),
        Kind::Internal => (13, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, status) = codes(self.problem.kind);
        if status.is_server_error() {
            tracing::error!(error = %chain(&self.problem), "a request to the pipelines API failed");
        }
        let message = self.problem.sentence();
        let body = if self.upload {
            json!({"error_message": message, "error_details": message})
        } else {
            let details = json!([{"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": message}]);
            json!({"code": code, "message": message, "details": details})
        };
        (status, Json(body)).into_response()
    }
}
