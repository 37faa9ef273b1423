#!/usr/bin/env bash
# The tests. Installs what they need and can be run again safely.
#
#   ./e2e/test.sh               everything, as CI does
#   ./e2e/test.sh --fast        house, format, lints, unit tests
#   ./e2e/test.sh SUITE...      only these: house format lints deny unit web build cli kube pipelines crash browser
#   ./e2e/test.sh --tools       fetches tools into the cache first (cargo-deny)
#
# KUBEFLOW_TEST_CACHE   where tools and environments are kept   [~/.cache/kubeflow-tests]
# CARGO_TARGET_DIR      where cargo builds                      [<cache>/target]
set -uo pipefail
cd "$(dirname "$0")/.."

ALL="house format lints deny unit web build cli kube pipelines crash browser"
FAST="house format lints unit"
CACHE=${KUBEFLOW_TEST_CACHE:-$HOME/.cache/kubeflow-tests}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
export PATH="$HOME/.cargo/bin:$PATH"
mkdir -p "$CACHE"

suites=() tools=no
for argument in "$@"; do
  case "$argument" in
    --fast) read -ra suites <<<"$FAST" ;;
    --tools) tools=yes ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "unknown option $argument; see --help" >&2; exit 2 ;;
    *) [[ " $ALL " == *" $argument "* ]] || { echo "unknown suite $argument; there are: $ALL" >&2; exit 2; }
       suites+=("$argument") ;;
  esac
done
[[ ${#suites[@]} -gt 0 ]] || read -ra suites <<<"$ALL"

passed=0 failed=0 skipped=0
declare -a summary

SKIP=77 # what a suite returns after it said why
run() {
  local name=$1 start=$SECONDS code
  printf '\n=== %s\n' "$name"
  "suite_$name"; code=$?
  case $code in
    0) passed=$((passed + 1)); summary+=("passed   $name ($((SECONDS - start)) s)") ;;
    "$SKIP") skipped=$((skipped + 1)); summary+=("SKIPPED  $name") ;;
    *) failed=$((failed + 1)); summary+=("FAILED   $name ($((SECONDS - start)) s)"); return 1 ;;
  esac
}
skip() { echo "SKIPPED: $*"; return $SKIP; }
has() { command -v "$1" >/dev/null 2>&1; }

# --- what the suites need -------------------------------------------------------------------------------------------

need_rust() {
  has cargo && return
  has rustup || { echo "Rust is missing: install rustup (it reads rust-toolchain.toml)" >&2; return 1; }
  rustup show active-toolchain >/dev/null
}

# Debian packages; only root can install them, everybody else is told.
need_packages() {
  local missing=() name
  for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name"); done
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $(id -u) -eq 0 ]] && has apt-get; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >"$CACHE/apt.log" 2>&1 && return
    tail -n 5 "$CACHE/apt.log" >&2
  fi
  echo "missing Debian packages: ${missing[*]}" >&2
  return 1
}

# The Python environment with the real clients. Made again when the list of packages changes.
need_clients() {
  local venv=$CACHE/clients stamp
  stamp=$(cksum <e2e/requirements.txt)
  if [[ ! -x $venv/bin/pytest || $(cat "$venv/.stamp" 2>/dev/null) != "$stamp" ]]; then
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check -r e2e/requirements.txt || {
      echo "the Python clients cannot be installed (e2e/requirements.txt)" >&2
      return 1
    }
    echo "$stamp" >"$venv/.stamp"
  fi
  PYTEST=$venv/bin/pytest
}

need_binary() {
  [[ -n ${KUBEFLOW_BINARY:-} && -x ${KUBEFLOW_BINARY:-} ]] && return
  suite_build
}

pytest() {
  need_binary && need_clients || return 1
  KUBEFLOW_BINARY=$KUBEFLOW_BINARY KUBEFLOW_TEST_CACHE=$CACHE "$PYTEST" -q -p no:cacheprovider "$@"
}

# --- the suites -----------------------------------------------------------------------------------------------------

suite_house() { need_rust && cargo test --quiet -p house; }
suite_format() { need_rust && cargo fmt --all --check; }
suite_lints() { need_rust && cargo clippy --quiet --workspace --all-targets -- -D warnings; }
suite_deny() {
  has cargo-deny || { skip "cargo-deny is not installed; ./e2e/test.sh --tools installs it"; return; }
  cargo deny --log-level error check
}
suite_unit() { need_rust && cargo test --quiet --workspace; }

suite_web() {
  [[ -f web/package.json ]] || { skip "there are no scripts yet"; return; }
  has npm || { skip "npm is not installed"; return; }
  (cd web && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent check && npm run --silent build && npm test --silent)
}

suite_build() {
  need_rust && cargo build --quiet --profile e2e -p kubeflow || return 1
  local host
  host=$(rustc -vV | sed -n 's/^host: //p')
  export KUBEFLOW_BINARY=$CARGO_TARGET_DIR/$host/e2e/kubeflow
  # One fully static executable: no interpreter, no shared library.
  if readelf -lW "$KUBEFLOW_BINARY" | grep -q INTERP || readelf -dW "$KUBEFLOW_BINARY" 2>/dev/null | grep -q NEEDED; then
    echo "$KUBEFLOW_BINARY is not static; is RUSTFLAGS set?" >&2
    return 1
  fi
  printf '%s: %s MiB, static\n' kubeflow "$(($(stat -c %s "$KUBEFLOW_BINARY") >> 20))"
}

suite_cli() { pytest e2e/cli; }
suite_kube() {
  ls e2e/kube/test_*.py >/dev/null 2>&1 || { skip "there is no suite yet"; return; }
  pytest e2e/kube
}
suite_pipelines() { pytest e2e/pipelines; }
suite_crash() {
  ls e2e/crash/test_*.py >/dev/null 2>&1 || { skip "there is no suite yet"; return; }
  need_packages strace && pytest e2e/crash
}
suite_browser() {
  [[ -f e2e/package.json ]] || { skip "there are no pages yet"; return; }
  has npm || { skip "npm is not installed"; return; }
  need_packages chromium || { skip "chromium cannot be installed"; return; }
  need_binary && (cd e2e && npm ci --ignore-scripts --no-audit --no-fund --silent && KUBEFLOW_BINARY=$KUBEFLOW_BINARY npx playwright test)
}

if [[ $tools == yes ]]; then
  has cargo-deny || cargo install --quiet --locked cargo-deny@0.20.2
fi

for suite in "${suites[@]}"; do run "$suite" || break; done

printf '\n'
printf '%s\n' "${summary[@]}"
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[[ $failed -eq 0 ]]
