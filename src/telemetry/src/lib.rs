//! What the platform says about itself: logs, metrics, health.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod process;
pub mod requests;
