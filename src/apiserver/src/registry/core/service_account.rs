//! ServiceAccount: nothing but a name here; tokens are in `auth`.
//!
//! Invariant: see `registry::strategy`.

use crate::registry::strategy::Strategy;

/// See the module.
pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn delete_answers_object(&self) -> bool {
        true
    }
}
