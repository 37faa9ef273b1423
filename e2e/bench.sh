#!/usr/bin/env bash
# The benchmarks: every row measures both sides in one run and prints figures, ratio, floor and the machine's noise.
#
#   ./e2e/bench.sh              all rows
#   ./e2e/bench.sh ROW...       only these: size idle start pod step chain fan records
#   ./e2e/bench.sh --alone ...  before everything else on the machine (root): steps are nicer than other programs, so on a
#                               busy machine the rows step and chain say more about those than about us
#
# KUBEFLOW_BINARY       the binary to measure              [built in release mode]
# KUBEFLOW_TEST_CACHE   where tools and templates are kept [~/.cache/kubeflow-tests]
# KUBEFLOW_BENCH_DIR    a folder on the disk to measure    [/tmp]
# CARGO_TARGET_DIR      where cargo builds                 [<cache>/target]
set -uo pipefail
cd "$(dirname "$0")/.."

ALL="size idle start pod step chain fan records"
export KUBEFLOW_TEST_CACHE=${KUBEFLOW_TEST_CACHE:-$HOME/.cache/kubeflow-tests}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$KUBEFLOW_TEST_CACHE/target}
export PATH="$HOME/.cargo/bin:$PATH"
mkdir -p "$KUBEFLOW_TEST_CACHE"

rows=() first=()
for argument in "$@"; do
  case "$argument" in
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --alone) first=(chrt -r 1); "${first[@]}" true || exit 1 ;;
    *) [[ " $ALL " == *" $argument "* ]] || { echo "unknown row $argument; there are: $ALL" >&2; exit 2; }
       rows+=("$argument") ;;
  esac
done
[[ ${#rows[@]} -gt 0 ]] || read -ra rows <<<"$ALL"

if [[ ! -x ${KUBEFLOW_BINARY:-} ]]; then
  cargo build --quiet --release -p kubeflow || exit 1
  export KUBEFLOW_BINARY=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release/kubeflow
fi
clients=$KUBEFLOW_TEST_CACHE/clients stamp=$(cksum <e2e/requirements.txt)
if [[ ! -x $clients/bin/pytest || $(cat "$clients/.stamp" 2>/dev/null) != "$stamp" ]]; then
  python3 -m venv "$clients" && "$clients/bin/pip" install --quiet --disable-pip-version-check -r e2e/requirements.txt || exit 1
  echo "$stamp" >"$clients/.stamp"
fi

missed=()
for row in "${rows[@]}"; do
  case "$row" in
    records) ./e2e/bench/records.sh ;;
    *) "${first[@]}" "$clients/bin/python" "e2e/bench/$row.py" ;;
  esac || missed+=("$row")
done
echo
if [[ ${#missed[@]} -gt 0 ]]; then echo "MISSED: ${missed[*]}"; exit 1; fi
echo "every floor holds: ${rows[*]}"
