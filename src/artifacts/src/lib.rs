//! Object storage: where artifacts live and how a step reaches them.
