"""The recorded answers of a real API server against a bare server of ours, and the tables of facts against their sources."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(*words):
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True)
    print(done.stdout, done.stderr)
    return done


def test_recorded_answers_are_equal():
    assert run("e2e/kube/run.sh").returncode == 0


def test_facts_equal_their_definitions():
    if not shutil.which("go"):
        pytest.skip("SKIPPED: no go on PATH; ./e2e/test.sh --tools provides one")
    assert run("e2e/facts/generate.sh", "--check").returncode == 0
