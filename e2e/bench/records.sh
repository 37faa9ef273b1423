#!/usr/bin/env bash
# Durable commits per second beside SQLite WAL FULL, and time to open: see e2e/durability/src/bin/commits.rs.
# Arguments go through; --dir must be on the disk that is to be measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo run --quiet --profile bench -p durability --bin commits -- "$@"
