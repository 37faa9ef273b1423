//! How a process is boxed: namespaces, mounts, limits, seccomp. The only home of unsafe code.
