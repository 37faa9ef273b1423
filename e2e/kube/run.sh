#!/usr/bin/env bash
# Replays the recordings against a bare server of ours. Arguments go to replay.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet -p apiserver --example serve --message-format json 2>/dev/null >"${TMPDIR:-/tmp}/serve-build.$$" || cargo build -p apiserver --example serve
serve=$(sed -n 's/.*"executable":"\([^"]*examples\/serve\)".*/\1/p' "${TMPDIR:-/tmp}/serve-build.$$" | tail -1)
rm -f "${TMPDIR:-/tmp}/serve-build.$$"
folder=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$serve" "127.0.0.1:$port" "$folder/db" >"$folder/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
  grep -q '^token ' "$folder/log" && break
  kill -0 "$server" 2>/dev/null || { cat "$folder/log"; exit 1; }
  sleep 0.1
done
python3 -B e2e/kube/replay.py --base "http://127.0.0.1:$port" --token "$(sed -n 's/^token //p' "$folder/log")" "$@"
