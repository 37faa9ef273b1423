//! The table of arrows: which crate may use which. `tests/house.rs` fails on an arrow that is not in it.
//!
//! `ARCHITECTURE.md` holds the same table for people; the test compares.

/// A crate and the crates of ours that it may use. `deps` (external crates only) may be used by all and is left out.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("foundation", &[]),
    ("telemetry", &["foundation"]),
    ("sandbox", &[]),
    ("shim", &["sandbox"]),
    ("records", &["foundation"]),
    ("artifacts", &["foundation"]),
    ("auth", &["records", "foundation", "telemetry"]),
    ("apiserver", &["auth", "records", "foundation", "telemetry"]),
    ("node", &["sandbox", "shim", "foundation", "telemetry"]),
    ("workloads", &["foundation", "telemetry"]),
    ("pipelines", &["auth", "records", "artifacts", "foundation", "telemetry"]),
    ("gateway", &["auth", "foundation", "telemetry"]),
    ("web", &["pipelines", "auth", "records", "artifacts", "foundation", "telemetry"]),
    (
        "kubeflow",
        &[
            "web",
            "gateway",
            "pipelines",
            "workloads",
            "node",
            "apiserver",
            "auth",
            "shim",
            "artifacts",
            "records",
            "sandbox",
            "telemetry",
            "foundation",
        ],
    ),
    ("house", &[]),
    ("facts", &[]),
    ("durability", &["records"]),
];

/// Rooms that decide and so may not do: path fragments of files that must be pure.
pub const PURE: &[&str] = &[
    "src/pipelines/src/types",
    "src/pipelines/src/ir",
    "src/pipelines/src/engine",
    "src/apiserver/src/patch",
    "src/node/src/pod/step.rs",
];

/// What a pure room may not name.
pub const IMPURE: &[&str] = &[
    "tokio",
    "kube::Client",
    "records",
    "std::fs",
    "std::net",
    "SystemTime",
    "Instant",
    "rand",
    "crate::store",
    "crate::controller",
    "crate::api",
];

/// Rooms that speak a wire and so may not touch the store or the controller.
pub const WIRES: &[&str] = &["src/pipelines/src/api", "src/web/src/pages"];

/// What a wire may not name.
pub const BEHIND: &[&str] = &["crate::store", "crate::controller", "pipelines::store", "pipelines::controller"];

/// Names that say nothing.
pub const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helpers", "misc", "manager", "mod"];

/// Lines of a file without its tests.
pub const FILE_LINES_MAX: usize = 500;
/// Lines of a function.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Bytes of a file in git outside `testdata/` and lock files.
pub const FILE_BYTES_MAX: u64 = 256 << 10;

/// Files that are longer than they should be, each with its reason. The list may only shrink.
pub const LONG_FILES: &[&str] = &[];
