//! The way from the API to a node's own endpoints (logs, exec): the node's router, handed in by `kubeflow`.
//!
//! Invariant: neither crate knows the other; paths are the kubelet's.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode, Uri};
use tower::ServiceExt as _;

use crate::status::ApiError;

/// How much of a node's error text is passed on.
const ERROR_LIMIT: usize = 64 * 1024;

/// The node's endpoints; empty until connected. Cheap to clone.
#[derive(Clone, Default)]
pub struct NodeProxy {
    router: Arc<OnceLock<Router>>,
}

impl NodeProxy {
    /// A proxy that is connected already.
    pub fn to(router: Router) -> Self {
        let proxy = Self::default();
        proxy.connect(router);
        proxy
    }

    /// Connects the node's router; a second call changes nothing.
    pub fn connect(&self, router: Router) {
        let _ = self.router.set(router);
    }

    /// Sends a request to the node under `path_and_query`, keeping method, headers and upgrade.
    pub async fn send(&self, mut request: Request<Body>, path_and_query: &str) -> Result<Response, ApiError> {
        let Some(router) = self.router.get() else {
            return Err(ApiError::unavailable("the node's endpoints are not there yet"));
        };
        *request.uri_mut() = path_and_query
            .parse::<Uri>()
            .map_err(|e| ApiError::bad_request(format!("the path for the node is not valid: {e}")))?;
        let Ok(response) = router.clone().oneshot(request).await;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), ERROR_LIMIT).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        Err(match status {
            StatusCode::NOT_FOUND => ApiError::unknown_resource(),
            StatusCode::BAD_REQUEST => ApiError::bad_request(text),
            _ => ApiError::internal(text),
        })
    }
}
