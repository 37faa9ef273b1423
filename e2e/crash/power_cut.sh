#!/usr/bin/env bash
# Power cuts on a block device of our own (root, Linux): see e2e/durability/src/bin/power_cut.rs. Arguments go through.
# Says SKIPPED and why where the machine lacks what it takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo run --quiet --profile e2e -p durability --bin power_cut -- "$@"
