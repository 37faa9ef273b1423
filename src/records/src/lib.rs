//! Typed tables with transactions and one change feed; an acknowledged write survives a power cut.
