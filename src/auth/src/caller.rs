//! The person behind a call, as operations receive them: an identity and the one who decides for it.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use foundation::problem::{Kind, Problem};
use http::request::Parts;

use crate::authorizer::{Attributes, Authorizer, Decision};
use crate::identity::Identity;

/// How a caller was recognised; records say so, and a form's CSRF check asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// A bearer token.
    Token,
    /// A browser's session; the value is the session's id.
    Session(String),
    /// The person who started the platform, from the same machine, without credentials.
    Local,
    /// A part of the platform, in process.
    InProcess,
}

/// Who calls, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// How we know.
    pub means: Means,
    authorizer: Authorizer,
}

impl Caller {
    /// A caller that `authorizer` decides for.
    pub fn new(identity: Identity, means: Means, authorizer: Authorizer) -> Self {
        Self { identity, means, authorizer }
    }

    /// A part of the platform, calling operations without a request.
    pub fn in_process(name: &str) -> Self {
        Self::new(Identity::service(name), Means::InProcess, Authorizer::default())
    }

    /// Refuses unless the caller may do this.
    ///
    /// # Errors
    /// A problem of kind `Forbidden` that says which right is missing.
    pub fn may(&self, wanted: &Attributes<'_>) -> Result<(), Problem> {
        match self.authorizer.decide(&self.identity, wanted) {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) => {
                tracing::debug!(user.name = %self.identity.user, reason, "a call was refused");
                let place = match wanted.namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in namespace {namespace}"),
                };
                Err(Problem::new(
                    Kind::Forbidden,
                    format!("User {:?} may not {} {} {place}", self.identity.user, wanted.verb, wanted.resource),
                ))
            }
        }
    }
}

/// Refuses a request without a caller; a route guards itself with [`crate::routes::Access`], so this is the second lock.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = http::StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(http::StatusCode::UNAUTHORIZED)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
