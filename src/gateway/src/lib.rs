//! The front door: one listener for both ports, filters, routing.
