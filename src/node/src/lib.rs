//! The node agent: pods to sandboxed processes, environments, volumes, logs.
