#!/usr/bin/env python3
"""A loop of 1,000 small shell steps: its time, what API and pages take meanwhile, and the cost per iteration of 200.

The questions are asked one after the other on two kept connections, one with a token and one as the local caller.
"""

import http.client
import os
import tempfile
import threading
import time

import measuring
import steps

SMALL, LARGE = int(os.environ.get("SMALL", "200")), int(os.environ.get("LARGE", "1000"))


class Asker(threading.Thread):
    def __init__(self, platform, run_id, headers):
        super().__init__(daemon=True)
        self.platform, self.headers, self.over = platform, headers, threading.Event()
        self.paths = {
            "GET /apis/v2beta1/runs": "/apis/v2beta1/runs?page_size=20",
            "GET /apis/v2beta1/runs/{id}": f"/apis/v2beta1/runs/{run_id}",
            "page of the runs": "/ns/kubeflow/runs",
            "page of the run": f"/ns/kubeflow/runs/{run_id}",
        }
        self.taken = {name: [] for name in self.paths}
        self.bytes = {name: 0 for name in self.paths}

    def run(self):
        connection = http.client.HTTPConnection(self.platform.listen, timeout=60)
        while not self.over.is_set():
            for name, path in self.paths.items():
                started = time.perf_counter()
                connection.request("GET", path, headers=self.headers)
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, (path, answer.status, body[:200])
                self.taken[name].append((time.perf_counter() - started) * 1000)
                self.bytes[name] = max(self.bytes[name], len(body))
            self.over.wait(0.1)


def loop(platform, spec, count, askers=()):
    started = time.perf_counter()
    run_id = steps.start(platform, spec, {"items": list(range(count))})
    asking = [Asker(platform, run_id, headers) for headers in askers]
    for asker in asking:
        asker.start()
    state, ended = steps.wait(platform, run_id, 900)
    for asker in asking:
        asker.over.set()
        asker.join()
    assert state == "SUCCEEDED", state
    return ended - started, asking


def main():
    row = measuring.Row(f"a loop of {LARGE} shell steps")
    with measuring.platform() as platform, tempfile.TemporaryDirectory() as made:
        spec = steps.uncached(steps.document(steps.fan, measuring.pathlib.Path(made)))
        loop(platform, spec, 10)
        small, _ = loop(platform, spec, SMALL)
        token = {"Authorization": f"Bearer {platform.token()}"}
        large, asking = loop(platform, spec, LARGE, [token, {}])
        alone, _ = loop(platform, spec, LARGE)
        row.figure(f"{LARGE} iterations, while questions are asked", large, "s", 60)
        row.figure(f"{LARGE} iterations, alone", alone, "s", 60)
        row.figure(f"per iteration of {SMALL}", small / SMALL * 1000, "ms")
        row.figure(f"per iteration of {LARGE}", alone / LARGE * 1000, "ms")
        row.figure("cost per iteration, large over small", (alone / LARGE) / (small / SMALL), "x", 1.25)
        for who, asker in zip(["with a token", "local caller"], asking):
            for name, taken in asker.taken.items():
                row.figure(f"{name}, {who}, p95", measuring.percentile(taken, 0.95), "ms", 250)
                row.say(f"    {measuring.in_numbers(taken)}, {asker.bytes[name] >> 10} KiB")
    row.end()


if __name__ == "__main__":
    main()
