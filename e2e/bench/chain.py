#!/usr/bin/env python3
"""Ten chained Python steps, beside the SDK's own local runner without a virtual environment, in turns."""

import contextlib
import io
import logging
import os
import pathlib
import sys
import tempfile
import time

import measuring
import steps

ROUNDS = int(os.environ.get("ROUNDS", "5"))


def main():
    row = measuring.Row("ten chained steps, and kfp.local SubprocessRunner(use_venv=False)")
    from kfp import local

    os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    with measuring.platform() as platform, tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        spec = steps.uncached(steps.document(steps.chain, folder))
        steps.wait(platform, steps.start(platform, spec))
        logging.disable(logging.CRITICAL)
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "local"), raise_on_error=True)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            state, ends = steps.follow(platform, steps.start(platform, spec))
            assert state == "SUCCEEDED", state
            ours.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                assert steps.chain(n=0).output == 10
            theirs.append((time.perf_counter() - started) * 1000)
        row.say(f"here:      {measuring.in_numbers(ours)}")
        row.say(f"kfp.local: {measuring.in_numbers(theirs)}")
        p50 = measuring.percentile(ours, 0.5), measuring.percentile(theirs, 0.5)
        row.figure("a step here, p50", p50[0] / 10, "ms")
        row.figure("a step of kfp.local, p50", p50[1] / 10, "ms")
        row.figure("how many times faster", p50[1] / p50[0], "x", 4, at_least=True)
    row.end()


if __name__ == "__main__":
    main()
