//! Starts, kills and watches the real binary from outside.
