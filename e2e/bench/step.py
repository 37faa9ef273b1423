#!/usr/bin/env python3
"""What a lightweight Python step costs beyond its executor, which runs in the same environment in between.

A step's time goes from the end of the step before it to its own end, as a client sees them: the engine, a fresh pod,
the compiled command with its pip line, the executor, the outputs on disk. Caching is off.
"""

import json
import os
import subprocess
import tempfile
import time

import measuring
import steps

RUNS = int(os.environ.get("RUNS", "6"))  # of ten steps, whose first is not counted


def executor_alone(python, source, folder):
    """Milliseconds of `_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main ...`."""
    module = folder / "ephemeral_component.py"
    module.write_text(source)
    outputs = {"parameters": {"Output": {"outputFile": str(folder / "Output")}}, "outputFile": str(folder / "executor_output.json")}
    given = json.dumps({"inputs": {"parameterValues": {"n": 1}}, "outputs": outputs})
    words = [python, "-m", "kfp.dsl.executor_main", "--component_module_path", str(module), "--executor_input", given, "--function_to_execute", "add_one"]
    started = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", "_KFP_RUNTIME": "true"})
    return (time.perf_counter() - started) * 1000


def main():
    row = measuring.Row("overhead per lightweight Python step")
    with measuring.platform() as platform, tempfile.TemporaryDirectory() as made:
        folder = measuring.pathlib.Path(made)
        spec = steps.uncached(steps.document(steps.chain, folder))
        source = spec["deploymentSpec"]["executors"]["exec-add-one"]["container"]["command"][-1]
        assert steps.follow(platform, steps.start(platform, spec))[0] == "SUCCEEDED"  # builds the environment
        pythons = [one for one in platform.folder.rglob("bin/python3") if list(one.parents[1].glob("lib/python3*/site-packages/kfp"))]
        assert pythons, "no environment with kfp in the data folder"
        executor_alone(pythons[0], source, folder)
        whole, alone = [], []
        for _ in range(RUNS):
            state, ends = steps.follow(platform, steps.start(platform, spec))
            assert state == "SUCCEEDED" and len(ends) == 10, (state, ends)
            at = sorted(ends.values())
            whole += [(b - a) * 1000 for a, b in zip(at, at[1:])]
            alone += [executor_alone(pythons[0], source, folder) for _ in range(9)]
        p50 = measuring.percentile(whole, 0.5), measuring.percentile(alone, 0.5)
        row.say(f"a step:         {measuring.in_numbers(whole)}")
        row.say(f"executor alone: {measuring.in_numbers(alone)}")
        row.figure("a step over its executor alone, ratio of p50", p50[0] / p50[1], "x")
        row.figure("overhead per step, p50", p50[0] - p50[1], "ms", 100)
    row.end()


if __name__ == "__main__":
    main()
