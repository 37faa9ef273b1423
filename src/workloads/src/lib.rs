//! The built-in controllers of a laptop: scheduler, service accounts, namespaces, garbage collection.
