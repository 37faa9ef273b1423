"""Runs pipelines through the unchanged SDK, as root and as an ordinary user."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import warnings

import pytest

import harness as base

warnings.filterwarnings("ignore", category=FutureWarning)
import kfp  # noqa: E402


class Result:
    """A run that is over, with its tasks by scope path."""

    def __init__(self, run, tasks, platform):
        self.run, self.platform = run, platform
        self.tasks = {task.get("scope_path", ""): task for task in tasks}

    @property
    def state(self):
        return self.run.state

    def __getitem__(self, path):
        assert path in self.tasks, f"no task {path!r}; there are {sorted(self.tasks)}"
        return self.tasks[path]

    def states(self):
        return {path: task["state"] for path, task in self.tasks.items()}

    def output(self, path, name="Output"):
        return self[path]["outputs"]["parameters"][name]

    def input(self, path, name):
        return self[path]["inputs"]["parameters"][name]

    def artifact(self, path, name):
        return self[path]["outputs"]["artifacts"][name][0]

    def content(self, path, name):
        """The content of an artifact that is a file."""
        uri = self.artifact(path, name)["uri"]
        return (self.platform.folder / "artifacts" / uri.removeprefix("minio://")).read_text()

    def log(self, path):
        return self.platform.run("pipeline", "logs", self.run.run_id, path).stdout


class Runner:
    def __init__(self, platform):
        self.platform = platform
        self.client = kfp.Client(platform.url)

    def __call__(self, pipeline, arguments=None, cache=False, timeout=240, **more):
        made = self.client.create_run_from_pipeline_func(pipeline, arguments=arguments or {}, enable_caching=cache, **more)
        return self.wait(made.run_id, timeout)

    def wait(self, run_id, timeout=240):
        self.client.wait_for_run_completion(run_id, timeout=timeout, sleep_duration=0.1)
        return self.result(run_id)

    def result(self, run_id):
        import requests

        answer = requests.get(f"{self.platform.url}/apis/v2beta1/runs/{run_id}/tasks", timeout=30)
        answer.raise_for_status()
        return Result(self.client.get_run(run_id), answer.json()["tasks"], self.platform)


@contextlib.contextmanager
def open_folder(user):
    """A folder that `user` may use, with the tools that the platform needs where it can read them."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kubeflow-e2e-"))
    try:
        if user:
            folder.chmod(0o755)
            shutil.copy(base.BINARY, folder / "kubeflow")
            shutil.copy(shutil.which("uv", path=f"{pathlib.Path(base.sys.executable).parent}:{os.environ['PATH']}"), folder / "uv")
            shutil.chown(folder, user, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=["root", "ordinary user"])
def platform(request):
    """A platform that the tests of a session share; once as who runs the tests, once as an ordinary user."""
    user = request.getfixturevalue("ordinary_user") if request.param == "ordinary user" else None
    with open_folder(user) as folder:
        environment = {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin", "KUBEFLOW_UV": str(folder / "uv")} if user else {}
        platform = base.Platform(folder / "data", user=user, environment=environment)
        if user:
            platform.command = lambda *words: [
                "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--",
                str(folder / "kubeflow"), *words, "--data-dir", str(platform.folder),
            ]
        try:
            yield platform.start().wait_ready()
        finally:
            platform.stop()


@pytest.fixture
def run(platform):
    """Runs a pipeline to its end. As an ordinary user the local caller is that user, so root passes a token."""
    if platform.user:
        os.environ["KUBEFLOW_E2E_TOKEN"] = platform.token()
    return Runner(platform) if not platform.user else TokenRunner(platform)


class TokenRunner(Runner):
    """The tests run as root, the platform as somebody else: root is not the local caller there."""

    def __init__(self, platform):
        self.platform = platform
        self.token = os.environ["KUBEFLOW_E2E_TOKEN"]
        self.client = kfp.Client(platform.url, existing_token=self.token)

    def result(self, run_id):
        import requests

        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.get(f"{self.platform.url}/apis/v2beta1/runs/{run_id}/tasks", headers=headers, timeout=30)
        answer.raise_for_status()
        return Result(self.client.get_run(run_id), answer.json()["tasks"], self.platform)
