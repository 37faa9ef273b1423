//! The few mechanisms that every crate shares: a closed list, not a drawer.
