"""An unchanged kubectl against the whole platform: every test of kubectl.py."""

import os
import shutil

import kubectl
import pytest
from harness import platform_on


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    program = shutil.which("kubectl")
    if not program:
        pytest.skip("SKIPPED: no kubectl on PATH")
    folder = tmp_path_factory.mktemp("kubectl")
    with platform_on(folder / "data") as platform:
        k = kubectl.Kubectl(program, str(platform.kubeconfig()), f"kubectl-{os.getpid()}", str(folder))
        k.make_namespace()
        yield k
        assert platform.problems() == []


@pytest.mark.parametrize("test", kubectl.TESTS, ids=lambda test: test.__name__)
def test_kubectl(cluster, test):
    try:
        test(cluster)
    except kubectl.Skipped as why:
        pytest.skip(f"SKIPPED: {why}")
