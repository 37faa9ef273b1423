"""What the rows share: percentiles, the noise of the machine, and how a row is printed."""

import contextlib
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import harness  # noqa: E402


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def calibration():
    """The same work again and again: how long at best, and how much longer at the median and at the 95th of 100."""
    taken = []
    for _ in range(40):
        started = time.perf_counter()
        sum(n * n for n in range(60_000))
        taken.append(time.perf_counter() - started)
    best = min(taken)
    return best * 1000, statistics.median(taken) / best, percentile(taken, 0.95) / best


class Row:
    """One row: figures with their floors, the machine's noise before and after; the exit code says whether all hold."""

    def __init__(self, title):
        self.missed = False
        print(f"\n== {title}")
        self.noise("before")

    def noise(self, when):
        load = " ".join(f"{one:.1f}" for one in os.getloadavg())
        best, median, high = calibration()
        text = f"load {load} on {os.cpu_count()} cores; calibration {best:.1f} ms at best, median {median:.2f}x, p95 {high:.2f}x"
        print(f"   noise {when}: {text}")

    def figure(self, what, value, unit, floor=None, at_least=False):
        good = floor is None or (value >= floor if at_least else value <= floor)
        self.missed |= not good
        verdict = "" if floor is None else f"   floor {'>=' if at_least else '<='} {floor:g} {unit}: {'holds' if good else 'MISSED'}"
        print(f"   {what:<58} {value:10.2f} {unit}{verdict}", flush=True)

    def say(self, text):
        print(f"   {text}", flush=True)

    def end(self):
        self.noise("after ")
        sys.exit(1 if self.missed else 0)


@contextlib.contextmanager
def folder():
    """A folder on the disk that is measured: KUBEFLOW_BENCH_DIR, else where temporary files are."""
    with tempfile.TemporaryDirectory(prefix="kubeflow-bench-", dir=os.environ.get("KUBEFLOW_BENCH_DIR")) as made:
        yield pathlib.Path(made)


@contextlib.contextmanager
def platform(**more):
    with folder() as made, harness.platform_on(made / "data", **more) as started:
        yield started


def in_numbers(values, unit="ms"):
    return f"min {min(values):.1f}, p50 {percentile(values, 0.5):.1f}, p95 {percentile(values, 0.95):.1f}, max {max(values):.1f} {unit}, n {len(values)}"
