#!/usr/bin/env bash
# Kills of the store's writer, and a real file system that is full: see e2e/durability/src/bin/kill_and_full.rs.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo run --quiet --profile e2e -p durability --bin kill_and_full -- "$@"
