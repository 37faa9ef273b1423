"""kill -9 of the platform at chosen moments: steps go on under their shims, runs end right, and nothing runs twice.

Every step calls a counter on a loopback server of the test when it begins and when it ends, so that "twice" cannot hide.
"""

import collections
import http.server
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings

import pytest

import harness as base

warnings.filterwarnings("ignore", category=FutureWarning)
import kfp  # noqa: E402
from kfp import dsl  # noqa: E402

STEPS = 6
KILLS = 5


class Counter:
    """Counts visits by path, and calls `on` for each, while the visitor waits."""

    def __init__(self):
        self.visits = collections.Counter()
        self.on = lambda path: None
        counter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                counter.visits[self.path] += 1
                counter.on(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@dsl.component
def visit(url: str, name: str, seconds: float, before: int) -> int:
    import time
    import urllib.request

    urllib.request.urlopen(f"{url}/{name}/begin").read()
    time.sleep(seconds)
    urllib.request.urlopen(f"{url}/{name}/end").read()
    return before + 1


def chain(url, seconds):
    @dsl.pipeline(name="chain")
    def pipeline():
        before = 0
        for number in range(STEPS):
            task = visit(url=url, name=f"step-{number}", seconds=seconds, before=before)
            before = task.output

    return pipeline


@pytest.fixture
def counter():
    counter = Counter()
    yield counter
    counter.server.shutdown()


@pytest.fixture
def platform():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kubeflow-e2e-"))
    with base.platform_on(folder / "data") as platform:
        yield platform
    shutil.rmtree(folder, ignore_errors=True)


def finish(platform, counter, run_id):
    """Waits for the run's end and checks that every step began and ended exactly once."""
    client = kfp.Client(platform.url)
    run = client.wait_for_run_completion(run_id, timeout=180, sleep_duration=0.1)
    assert run.state == "SUCCEEDED", f"{run.state}: {run.error}; visits {dict(counter.visits)}"
    expected = {f"/step-{number}/{what}": 1 for number in range(STEPS) for what in ("begin", "end")}
    assert dict(counter.visits) == expected


def begin(platform, counter, seconds):
    client = kfp.Client(platform.url)
    return client.create_run_from_pipeline_func(chain(counter.url, seconds), enable_caching=False).run_id


def kill_and_start(platform):
    platform.kill()
    platform.start().wait_ready()


def entries(platform, pattern):
    return set(platform.folder.glob(pattern))


@pytest.mark.parametrize("pattern", ["pods/*", "pods/*/logs/*", "pods/*/exit/*"], ids=["created", "started", "ended"])
def test_kills_at_the_moments_of_a_pod(platform, counter, pattern):
    """As soon as a pod's folder, its first log, or its exit record (outputs are collected then) is there."""
    known = entries(platform, pattern)
    run_id = begin(platform, counter, seconds=0.05)
    for _ in range(KILLS):
        fresh = base.eventually(lambda: entries(platform, pattern) - known, 120, f"a new {pattern}")
        known |= fresh
        kill_and_start(platform)
    finish(platform, counter, run_id)


def test_kills_while_steps_run(platform, counter):
    """In the middle of a step, which goes on under its shim and ends while no platform is there, or after."""
    begun = threading.Semaphore(0)
    counter.on = lambda path: begun.release() if path.endswith("/begin") else None
    run_id = begin(platform, counter, seconds=0.6)
    for number in range(KILLS):
        assert begun.acquire(timeout=120), f"step {number} never began"
        platform.kill()
        if number % 2:
            ended = f"/step-{number}/end"
            base.eventually(lambda: counter.visits[ended], 60, "the step ends without a platform")
        platform.start().wait_ready()
    finish(platform, counter, run_id)


@pytest.mark.parametrize(("call", "places"), [("fdatasync", (2, 3, 4, 5, 6)), ("mkdir", (1, 2, 1, 3, 1))], ids=["commit", "effect"])
def test_kills_between_a_commit_and_its_effect(platform, counter, call, places):
    """strace kills at a thread's n-th system call of a kind: as a commit reaches the disk, or as its effect begins."""
    if not shutil.which("strace"):
        pytest.skip("SKIPPED: strace is not installed")
    assert len(places) == KILLS
    # The steps' environment first: the tracer would kill uv too, which it follows as a child.
    finish(platform, counter, begin(platform, counter, seconds=0.0))
    counter.visits.clear()
    run_id = begin(platform, counter, seconds=0.02)
    for nth in places:
        pid = platform.process.pid
        words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}"]
        tracer = subprocess.Popen([*words, "-p", str(pid)], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while platform.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            tracer.terminate()
            tracer.wait()
        if platform.process.poll() is None:
            os.kill(pid, signal.SIGKILL)
            platform.process.wait()
        platform.start().wait_ready()
    finish(platform, counter, run_id)


def test_down_ends_steps_also_without_a_platform(platform, counter):
    begun = threading.Event()
    counter.on = lambda path: begun.set()
    begin(platform, counter, seconds=600.0)
    assert begun.wait(120), "the step never began"
    platform.kill()
    platform.run("down")
    left = subprocess.run(["pgrep", "-f", str(platform.folder)], capture_output=True, text=True).stdout.split()
    assert not left, f"processes are left: {left}"
    platform.start().wait_ready()
