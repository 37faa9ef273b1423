#!/usr/bin/env python3
"""Runs the compiled pipelines of a checkout of kubeflow/pipelines, and says which of them end as upstream expects.

  corpus.py FOLDER [--only TEXT] [--at-once 4] [--limit SECONDS] [--json FILE]

FOLDER is the checkout; nothing of it is kept here. A pipeline counts when its steps need only a CPU, images that
something here stands in for, and no package but kfp, and when its inputs all have defaults. Caching is off. Below
`failing/` FAILED is expected, else SUCCEEDED. Those below `invalid/` must be refused, and are counted apart.
Exits 1 when fewer than 80 % hold.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import sys
import tempfile
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
warnings.filterwarnings("ignore", category=FutureWarning)

import harness  # noqa: E402
import kfp  # noqa: E402
import requests  # noqa: E402
import yaml  # noqa: E402

FOLDER = "test_data/sdk_compiled_pipelines"
STAND_IN = re.compile(r"(.*/)?(python:3(\.\d+)?(-slim[\w.-]*)?|ubi\d+/python-3\d+(:\w+)?|(alpine|busybox|bash)(:[\w.]+)?)")
OTHER_VERSION = re.compile(r"(.*/)?python:(3\.[0-8]|alpine.*)$")
KFP_ONLY = re.compile(r"'(kfp==[^']*|--no-deps|typing-extensions[^']*|setuptools[^']*)'")
# What upstream's own suite has in the cluster before it starts.
SECRETS = {"test-secret-1": {"username": "user1"}, "test-secret-2": {"password": "psw1"}, "test-secret-3": {"password": "psw2"}}
# The client says where to look at each run; here that only hides the table.
kfp.client.client.print = lambda *_, **__: None


def specification(path):
    documents = [one for one in yaml.safe_load_all(path.read_text()) if isinstance(one, dict)]
    specs = [one.get("pipeline_spec", one.get("pipelineSpec", one)) for one in documents]
    return next((one for one in specs if "root" in one), None)


def why_not(spec):
    """Why a pipeline does not count; none when it does."""
    reasons = set()
    for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
        container = executor.get("container")
        if not container:
            continue
        image = container.get("image", "")
        if not STAND_IN.fullmatch(image) or OTHER_VERSION.fullmatch(image):
            reasons.add(f"image {image.split('@')[0]}")
        if "accelerator" in container.get("resources", {}):
            reasons.add("a GPU")
        text = " ".join(str(word) for word in [*container.get("command", []), *container.get("args", [])])
        for line in re.findall(r"pip install ([^&]*)", text):
            reasons |= {f"package {name}" for name in re.findall(r"'([^']+)'", KFP_ONLY.sub("", line))}
    inputs = spec["root"].get("inputDefinitions", {})
    parameters = inputs.get("parameters", {})
    without = [name for name, one in parameters.items() if "defaultValue" not in one and not one.get("isOptional")]
    without += [name for name, one in inputs.get("artifacts", {}).items() if not one.get("isOptional")]
    reasons |= {f"no default for {name}" for name in without}
    return ", ".join(sorted(reasons)) or None


def failure(platform, run):
    """The first thing that went wrong, in a line."""
    tasks = requests.get(f"{platform.url}/apis/v2beta1/runs/{run.run_id}/tasks", timeout=30).json().get("tasks", [])
    for task in tasks:
        found = task.get("failure") or {}
        if task.get("state") == "FAILED" and task.get("type") == "RUNTIME":
            last = [line for line in found.get("last_lines", []) if line.strip()]
            return f"{task.get('scope_path')}: {found.get('message', '')} {last[-1] if last else ''}".strip()
    unfinished = [task.get("scope_path", "?") for task in tasks if task.get("state") in ("RUNNING", "PENDING")]
    return f"unfinished: {', '.join(unfinished)}" if unfinished else str(run.error.message if run.error else "")


def run(platform, client, path, limit):
    """State, seconds, and what is to be said about it."""
    started = time.monotonic()
    try:
        made = client.create_run_from_pipeline_package(str(path), enable_caching=False)
    except Exception as refused:  # noqa: BLE001: a refusal of any kind is a result
        body = getattr(refused, "body", None) or str(refused)
        return "REFUSED", 0.0, str(body).splitlines()[0][:300]
    try:
        client.wait_for_run_completion(made.run_id, timeout=limit, sleep_duration=0.5)
    except TimeoutError:
        said = failure(platform, client.get_run(made.run_id))
        client.terminate_run(made.run_id)
        return "TOO LONG", time.monotonic() - started, said
    ended = client.get_run(made.run_id)
    return ended.state, time.monotonic() - started, "" if ended.state == "SUCCEEDED" else failure(platform, ended)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--only", default="")
    options.add_argument("--at-once", type=int, default=4)
    options.add_argument("--limit", type=int, default=1800)
    options.add_argument("--json", type=pathlib.Path)
    options = options.parse_args()
    base = options.folder / FOLDER
    paths = sorted(path for path in base.rglob("*.yaml") if options.only in str(path))
    left_out, wanted = {}, []
    for path in paths:
        name = str(path.relative_to(base))
        if name.startswith("invalid/"):
            wanted.append((name, path, "REFUSED"))
            continue
        spec = specification(path)
        reason = why_not(spec) if spec else "no pipeline in it"
        if reason:
            left_out[name] = reason
        else:
            wanted.append((name, path, "FAILED" if "/failing/" in f"/{name}" else "SUCCEEDED"))
    rows = []
    with tempfile.TemporaryDirectory(prefix="kubeflow-corpus-") as folder:
        with harness.platform_on(pathlib.Path(folder) / "data") as platform:
            for secret, values in SECRETS.items():
                body = {"metadata": {"name": secret}, "stringData": values}
                platform.kube().call("POST", "/api/v1/namespaces/kubeflow/secrets", body)
            with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
                client = kfp.Client(platform.url)
                started = {pool.submit(run, platform, client, path, options.limit): (name, expected) for name, path, expected in wanted}
                for done in concurrent.futures.as_completed(started):
                    (name, expected), (state, seconds, said) = started[done], done.result()
                    good = state == expected
                    rows.append({"file": name, "expected": expected, "state": state, "seconds": round(seconds, 1), "good": good, "said": said})
                    print(f"{'ok  ' if good else 'NOT '} {state:<10} {seconds:7.1f} s  {name}  {'' if good else said}", flush=True)
    rows.sort(key=lambda row: row["file"])
    counted = [row for row in rows if row["expected"] != "REFUSED"]
    good = sum(row["good"] for row in counted)
    print("\nLeft out:")
    for name, reason in left_out.items():
        print(f"  {name}: {reason}")
    print(f"\n{len(paths)} files; {len(left_out)} left out, {len(rows) - len(counted)} must be refused, {len(counted)} count")
    share = 100 * good / max(1, len(counted))
    print(f"as upstream expects: {good} of {len(counted)} ({share:.1f} %)")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "left_out": left_out}, indent=1))
    return 0 if share >= 80 else 1


if __name__ == "__main__":
    sys.exit(main())
