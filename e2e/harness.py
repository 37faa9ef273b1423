"""A platform for tests: started from outside, on a folder and ports of its own, watched for what it logs."""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BINARY = os.environ.get("KUBEFLOW_BINARY", "kubeflow")


def eventually(condition, limit=30.0, what="the condition"):
    """Waits until `condition()` gives something true and returns it; fails with the last thing it gave."""
    deadline = time.monotonic() + limit
    pause, last = 0.005, None
    while time.monotonic() < deadline:
        last = condition()
        if last:
            return last
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
    raise AssertionError(f"{what} did not come true within {limit} s; last: {last!r}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Platform:
    """A platform on a data folder of its own. `user` runs it as somebody else."""

    def __init__(self, folder, user=None, arguments=(), environment=None):
        self.folder = pathlib.Path(folder)
        self.user = user
        self.listen = f"127.0.0.1:{free_port()}"
        self.kube_listen = f"127.0.0.1:{free_port()}"
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.process = None
        self.log = self.folder.parent / (self.folder.name + ".log")

    @property
    def url(self):
        return f"http://{self.listen}"

    def command(self, *arguments):
        words = [BINARY, *arguments, "--data-dir", str(self.folder)]
        if self.user:
            words = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "--", *words]
        return words

    def env(self):
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        if self.user:
            shutil.chown(home, self.user, self.user)
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "PIP_INDEX_URL", "UV_INDEX_URL", "PIP_CONFIG_FILE") if name in os.environ}
        for name, value in os.environ.items():
            if name.startswith(("PIP_", "UV_", "SSL_", "REQUESTS_")) or name.lower().endswith("_proxy"):
                keep[name] = value
        cache = os.environ.get("KUBEFLOW_TEST_CACHE", tempfile.gettempdir())
        keep["PATH"] = f"{pathlib.Path(sys.executable).parent}:{keep.get('PATH', '/usr/bin:/bin')}"
        keep["UV_CACHE_DIR"] = str(home / "uv-cache") if self.user else f"{cache}/uv"
        return {**keep, "HOME": str(home), "KUBEFLOW_LOG": "info", **self.environment}

    def start(self, wrapper=()):
        log = open(self.log, "ab")
        words = [*wrapper, *self.command("up", "--listen", self.listen, "--kube-listen", self.kube_listen, "--no-client-config", *self.arguments)]
        self.process = subprocess.Popen(words, stdout=log, stderr=log, env=self.env(), start_new_session=True)
        log.close()
        return self

    def wait_ready(self, limit=60):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the platform ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            with contextlib.suppress(OSError):
                host, port = self.listen.split(":")
                with socket.create_connection((host, int(port)), timeout=1) as stream:
                    stream.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return stream.recv(64).startswith(b"HTTP/1.1 200")
            return False

        eventually(ready, limit, "the platform is ready")
        return self

    def run(self, *arguments, check=True, timeout=300, **more):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.env(), timeout=timeout, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}\n{self.log.read_text()[-2000:]}")
        return done

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--output", "json").stdout)

    def kill(self):
        """kill -9 of the platform alone; its steps go on."""
        pid = self.json("status")["platform"]["pid"] if self.user else self.process.pid
        os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.run("down", check=False)
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def token(self):
        return self.run("token").stdout.strip().splitlines()[-1]

    def kubeconfig(self):
        path = self.folder.parent / "kubeconfig"
        path.write_text(self.run("kubeconfig").stdout)
        return path

    def kube(self):
        """The Kubernetes API, as the administrator."""
        return Kube(self.kubeconfig())

    def problems(self):
        """Warnings and errors that the platform logged: a test that expects some takes them out."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if " WARN " in line or " ERROR " in line]


class Kube:
    """The Kubernetes API through its port, without kubectl."""

    def __init__(self, kubeconfig):
        import requests
        import yaml

        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = kubeconfig.with_suffix(".ca")
        authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        self.url, self.token, self.authority = cluster["server"], user["token"], str(authority)
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {self.token}"
        # The user's own settings (a proxy, a bundle of authorities) are not meant for this port.
        self.session.trust_env, self.session.verify = False, self.authority

    def call(self, method, path, body=None, **more):
        answer = self.session.request(method, self.url + path, json=body, timeout=30, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def pod(self, name, image, command, namespace="default", **spec):
        """Creates a pod that is run once."""
        container = {"name": "main", "image": image, "command": command}
        body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container], **spec}}
        return self.call("POST", f"/api/v1/namespaces/{namespace}/pods", body).json()

    def ended(self, name, namespace="default", limit=120):
        """Waits for a pod's end; gives its phase and its log."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"

        def over():
            status = self.call("GET", path).json()["status"]
            return status if status.get("phase") in ("Succeeded", "Failed") else None

        status = eventually(over, limit, f"the end of pod {name}")
        return status["phase"], self.call("GET", path + "/log").text


@contextlib.contextmanager
def platform_on(folder, **more):
    """A started platform; ended, with everything in it, when the block ends."""
    platform = Platform(folder, **more)
    try:
        yield platform.start().wait_ready()
    finally:
        platform.stop()
