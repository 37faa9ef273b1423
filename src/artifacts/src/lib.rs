//! Object storage: where artifacts live and how a step reaches them.
//!
//! Used by `pipelines` (launch files, results) and `web` (previews, downloads). A URI names an object the same in every
//! mode; only the [`store::Store`] that was wired in knows whether a step reaches it by a mount or by a transfer.

pub mod durable;
pub mod store;
pub mod uri;
