#!/usr/bin/env python3
"""From the start of the process to /readyz: on an empty folder, and with 10,000 finished runs.

The runs are made once through the API and kept under KUBEFLOW_TEST_CACHE; each round works on a copy.
"""

import concurrent.futures
import os
import pathlib
import shutil
import socket
import statistics
import tempfile
import time

import measuring
import requests
from measuring import harness

ROUNDS = int(os.environ.get("ROUNDS", "11"))
RUNS = int(os.environ.get("RUNS", "10000"))
CPU = []  # milliseconds of the process until it was ready: what does not depend on who else is on the machine
PIPELINE = {
    "pipelineInfo": {"name": "one-importer"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.17.0",
    "deploymentSpec": {
        "executors": {
            "exec-importer": {
                "importer": {"artifactUri": {"constant": "gs://nowhere/data"}, "typeSchema": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}, "reimport": True}
            }
        }
    },
    "components": {
        "comp-importer": {
            "executorLabel": "exec-importer",
            "outputDefinitions": {"artifacts": {"artifact": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}}},
        }
    },
    "root": {"dag": {"tasks": {"importer": {"taskInfo": {"name": "importer"}, "componentRef": {"name": "comp-importer"}}}}},
}


def to_ready(platform):
    """Milliseconds."""
    host, port = platform.listen.split(":")
    started = time.perf_counter()
    platform.start()
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=5) as stream:
                stream.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if stream.recv(64).startswith(b"HTTP/1.1 200"):
                    taken = (time.perf_counter() - started) * 1000
                    fields = pathlib.Path(f"/proc/{platform.process.pid}/stat").read_text().rpartition(")")[2].split()
                    CPU.append((int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK"))
                    return taken
        except OSError:
            pass
        if platform.process.poll() is not None:
            raise AssertionError(platform.log.read_text()[-2000:])
        time.sleep(0.001)


def stop(platform):
    platform.process.terminate()
    platform.process.wait(60)


def template():
    """A data folder with so many finished runs, made once."""
    cache = pathlib.Path(os.environ.get("KUBEFLOW_TEST_CACHE", tempfile.gettempdir())) / f"bench-runs-{RUNS}"
    if (cache / "done").exists():
        return cache / "data"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    platform = harness.Platform(cache / "data").start().wait_ready()
    local = [requests.Session() for _ in range(16)]

    def make(n):
        body = {"display_name": f"run {n}", "pipeline_spec": PIPELINE}
        local[n % 16].post(f"{platform.url}/apis/v2beta1/runs", json=body, timeout=60).raise_for_status()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(make, range(RUNS)))
    harness.eventually(lambda: platform.json("status")["active_runs"] == 0, 600, "the end of all runs")
    found = requests.get(f"{platform.url}/apis/v2beta1/runs", timeout=60).json()["total_size"]
    assert found == RUNS, found
    stop(platform)
    (cache / "done").touch()
    return cache / "data"


def main():
    row = measuring.Row("start to ready")
    empty = []
    for _ in range(ROUNDS):
        with measuring.folder() as folder:
            platform = harness.Platform(folder / "data")
            empty.append(to_ready(platform))
            stop(platform)
    row.figure("empty folder, median", statistics.median(empty), "ms", 500)
    row.say(f"{measuring.in_numbers(empty)}; of CPU {measuring.in_numbers(CPU)}")
    CPU.clear()
    made = time.perf_counter()
    source = template()
    row.say(f"{RUNS} runs: {sum(one.stat().st_size for one in source.rglob('*') if one.is_file()) >> 20} MiB, ready after {time.perf_counter() - made:.0f} s")
    full = []
    for _ in range(ROUNDS):
        with measuring.folder() as folder:
            shutil.copytree(source, folder / "data", ignore=shutil.ignore_patterns("*.sock"))
            platform = harness.Platform(folder / "data")
            full.append(to_ready(platform))
            found = requests.get(f"{platform.url}/apis/v2beta1/runs?page_size=1", timeout=60).json()["total_size"]
            assert found == RUNS, found
            stop(platform)
    row.figure(f"{RUNS} finished runs, median", statistics.median(full), "ms", 1000)
    row.say(f"{measuring.in_numbers(full)}; of CPU {measuring.in_numbers(CPU)}")
    row.say("others, measured on such a machine: Dagster 6 s, Prefect 12 s, Airflow 13 s")
    row.end()


if __name__ == "__main__":
    main()
