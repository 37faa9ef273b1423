//! The front door: one listener function for both ports, the certificate authority of a laptop, and the chain of filters
//! before the routes.
//!
//! Invariant: the only place where a request's identity is established; nothing behind it believes a header.

mod body;
pub mod filters;
pub mod listener;
pub mod measure;
pub mod tls;
