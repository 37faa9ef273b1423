//! The small parent of a pod's processes: it outlives the platform and keeps exit codes and logs.
