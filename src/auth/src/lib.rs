//! Who are you, and what may you do.
//!
//! One [`authenticator::Authenticator`] answers for the front door and for the Kubernetes API, one
//! [`authorizer::Authorizer`] decides for REST, pages, proxy and `kubectl`, and no route exists without saying who may
//! use it ([`routes::Routes`]).
//!
//! Invariant: a check that cannot be made counts as failed.

pub mod authenticator;
pub mod authorizer;
pub mod caller;
pub mod identity;
pub mod local;
pub mod routes;
pub mod sessions;
mod sock_diag;
pub mod tokens;
