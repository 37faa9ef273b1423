//! What the platform says about itself: logs, metrics, health.
