#!/usr/bin/env bash
# Builds Kubeflow, starts it in the background, runs the digits sample to its end and says where to look.
# Can be run again: an existing platform is used, finished steps come from the cache.
#
# KUBEFLOW_DATA_DIR   where everything is kept   [~/.local/share/kubeflow]
# CARGO_TARGET_DIR    where cargo builds         [~/.cache/kubeflow-target]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/kubeflow-target}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# A C compiler is needed for the few C and assembly files of TLS, zstd and the allocator.
if ! has cc; then
  [[ $(id -u) -eq 0 ]] && has apt-get || die "A C compiler is missing; install gcc (Debian: apt-get install gcc)."
  apt-get update -qq && apt-get install -y -qq gcc libc6-dev
fi
if ! has cargo; then
  has rustup || die "Rust is missing; install rustup, it reads rust-toolchain.toml."
  rustup show active-toolchain >/dev/null
fi
has python3 || die "Python 3 is missing; the sample's steps run in it (Debian: apt-get install python3 python3-venv)."

if [[ -f web/package.json ]] && has npm; then
  say "Building the pages' scripts and styles"
  (cd web && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent build)
elif [[ -f web/package.json ]]; then
  echo "SKIPPED: npm is missing, so the pages come without scripts and styles."
fi

say "Building (a first time takes some minutes)"
cargo build --quiet --profile e2e -p kubeflow
host=$(rustc -vV | sed -n 's/^host: //p')
kubeflow=$CARGO_TARGET_DIR/$host/e2e/kubeflow

say "Starting"
if "$kubeflow" status >/dev/null 2>&1; then
  echo "A platform runs already."
else
  "$kubeflow" up --detach
fi

say "Running the digits sample"
"$kubeflow" pipeline run config/samples/digits/pipeline.yaml --wait
run=$("$kubeflow" pipeline runs --limit 1 --output json | sed -n 's/.*"run_id": "\([^"]*\)".*/\1/p' | head -n 1)

say "The result"
"$kubeflow" pipeline get "$run"

cat <<TEXT

See it        $("$kubeflow" token --link "/ns/kubeflow/runs/$run")
              (signs a browser in once, within ten minutes; \`$kubeflow token --link\` makes another)
Use it        eval "\$($kubeflow env)" and any kfp script, or kubectl --context kubeflow
Stop it       $kubeflow down
TEXT
