"""Pipelines for the rows, and how a run is followed to its end."""

import json
import time
import warnings

import requests

warnings.filterwarnings("ignore", category=FutureWarning)
from kfp import compiler, dsl  # noqa: E402


@dsl.component
def add_one(n: int) -> int:
    return n + 1


@dsl.pipeline(name="chain")
def chain(n: int = 0) -> int:
    last = add_one(n=n)
    for _ in range(9):
        last = add_one(n=last.output)
    return last.output


@dsl.container_component
def shell(n: int):
    return dsl.ContainerSpec(image="busybox", command=["sh", "-c", 'test "$0" -ge 0'], args=[n])


@dsl.pipeline(name="fan")
def fan(items: list):
    with dsl.ParallelFor(items) as item:
        shell(n=item)


def document(pipeline, folder):
    path = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    import yaml

    return yaml.safe_load(path.read_text())


def uncached(spec):
    for component in [spec["root"], *spec["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    return spec


def start(platform, spec, parameters=None):
    body = {"display_name": spec["pipelineInfo"]["name"], "pipeline_spec": spec, "runtime_config": {"parameters": parameters or {}}}
    answer = requests.post(f"{platform.url}/apis/v2beta1/runs", json=body, timeout=60)
    assert answer.ok, answer.text
    return answer.json()["run_id"]


def follow(platform, run_id):
    """Follows a run; gives its state and when each leaf was first seen to be over."""
    ends, state = {}, None
    with requests.get(f"{platform.url}/apis/v2beta1/runs/{run_id}:watch", stream=True, timeout=600) as answer:
        for line in answer.iter_lines(chunk_size=None):
            at, update = time.perf_counter(), json.loads(line)
            state = update["run"]["state"]
            for task in update["tasks"]:
                if task.get("type") == "RUNTIME" and task["state"] in ("SUCCEEDED", "FAILED"):
                    ends.setdefault(task["scope_path"], at)
    return state, ends


def wait(platform, run_id, limit=600):
    """Waits for the end, seldom asking."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        run = requests.get(f"{platform.url}/apis/v2beta1/runs/{run_id}", timeout=60).json()
        if run["state"] in ("SUCCEEDED", "FAILED", "CANCELED"):
            return run["state"], time.perf_counter()
        time.sleep(0.05)
    raise AssertionError(f"run {run_id} did not end in {limit} s")
