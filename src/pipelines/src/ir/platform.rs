//! The second document of a package: what only Kubernetes knows (`platforms.kubernetes`).
