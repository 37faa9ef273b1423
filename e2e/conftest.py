"""Fixtures that every suite may use; the work is in harness.py."""

import os
import subprocess

import pytest


@pytest.fixture(scope="session")
def ordinary_user():
    """An ordinary user, made for the test."""
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: only root can make an ordinary user")
    name = "kubeflow-e2e"
    if subprocess.run(["id", name], capture_output=True).returncode != 0:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True)
    return name
