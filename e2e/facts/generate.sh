#!/usr/bin/env bash
# Writes (or with --check compares) the tables of facts under src/apiserver/src/facts/ from the pinned Go modules.
# Needs go on PATH (./e2e/test.sh --tools provides one) and the module cache or a proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v go >/dev/null || { echo "SKIPPED: no go on PATH"; exit 0; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
printf 'module facts\n\ngo 1.24\n' >"$work/go.mod"
folder() {
  (cd "$work" && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p'
}
api=$(folder k8s.io/api@v0.37.2)
apimachinery=$(folder k8s.io/apimachinery@v0.37.2)
kubernetes=$(folder k8s.io/kubernetes@v1.37.2)
mkdir -p src/apiserver/src/facts
cargo run --quiet -p facts -- ${1:+"$1"} "$api" "$apimachinery" "$kubernetes" src/apiserver/src/facts
