"""Who counts as the user without credentials, and who does not: every caller here is a real process."""

import json
import subprocess
import sys
import threading

import harness
import pytest
import requests

API = "/apis/v2beta1/runs"

# What the callers run: a request by hand, so that any Python does, and its status on the last line.
REQUEST = """
import socket, sys
def ask(address, host="127.0.0.1", head=""):
    name, port = address.rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=20) as stream:
        text = "GET /apis/v2beta1/runs HTTP/1.1\\r\\nHost: " + host + "\\r\\n" + head + "Connection: close\\r\\n\\r\\n"
        stream.sendall(text.encode())
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    print(answer.split(b" ", 2)[1].decode(), flush=True)
"""
PLAIN = REQUEST + "ask(sys.argv[1])\n"
# The main thread has ended: /proc/<pid>/fd is empty, only task/*/fd shows the socket.
MAIN_THREAD_ENDED = (
    REQUEST
    + """
import ctypes, threading, time
def later():
    status = "/proc/self/task/%d/status" % main
    while "State:\\tZ" not in open(status).read():
        time.sleep(0.01)
    ask(sys.argv[1])
    import os
    os._exit(0)
import os
main = os.getpid()
threading.Thread(target=later).start()
ctypes.CDLL(None).syscall(60, 0)  # exit: of this thread alone (x86-64)
"""
)
# A thread with a file table of its own: the socket is in no other thread's table.
OWN_FILE_TABLE = (
    REQUEST
    + """
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
def own():
    # unshare(CLONE_FILES); where a pod may not, close_range(CLOSE_RANGE_UNSHARE) does the same.
    if libc.unshare(0x400) != 0 and libc.syscall(436, 1 << 20, 1 << 20, 2) != 0:
        print("refused", os.strerror(ctypes.get_errno()), flush=True)
        os._exit(0)
    ask(sys.argv[1])
thread = threading.Thread(target=own)
thread.start()
thread.join()
"""
)
SHAPES = {"plain": PLAIN, "main thread ended": MAIN_THREAD_ENDED, "file table of its own": OWN_FILE_TABLE}


def outside(program, address, user=None):
    words = [sys.executable, "-c", program, address]
    if user:
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", "/usr/bin/python3", *words[1:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip(), done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_users_own_process_is_known(platform, shape):
    assert outside(SHAPES[shape], platform.listen) == "200"


@pytest.mark.parametrize("shape", SHAPES)
def test_another_local_user_is_not(platform, ordinary_user, shape):
    assert outside(SHAPES[shape], platform.listen, ordinary_user) == "401"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_process_in_a_pod_is_not(platform, shape):
    kube = platform.kube()
    name = "caller-" + shape.replace(" ", "-")
    kube.pod(name, "python:3.11", ["python3", "-c", SHAPES[shape], platform.listen])
    phase, log = kube.ended(name)
    said = log.strip().splitlines()[-1] if log.strip() else ""
    if said.startswith("refused"):
        pytest.skip(f"SKIPPED: pods may not do this at all: {said}")
    assert (phase, said) == ("Succeeded", "401"), log


def test_a_process_of_a_step_is_not(platform, tmp_path):
    """The same from a step of a run, whose image has a shell but no Python of its own."""
    from kfp import compiler, dsl

    @dsl.component
    def call(address: str) -> str:
        import urllib.error
        import urllib.request

        try:
            return str(urllib.request.urlopen(f"http://{address}/apis/v2beta1/runs", timeout=20).status)
        except urllib.error.HTTPError as refused:
            return str(refused.code)

    @dsl.pipeline(name="calls-home")
    def pipeline(address: str):
        call(address=address)

    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    done = platform.json("pipeline", "run", str(path), "--wait", "-p", f"address={platform.listen}")
    [task] = [task for task in done["tasks"] if task.get("scope_path") == "call"]
    assert task["outputs"]["parameters"]["Output"] == "401"


def test_a_child_of_a_pod_that_outlives_its_parent_is_not(platform):
    program = REQUEST + "import os\nif os.fork(): os._exit(0)\nos.setsid()\n"
    program += "if os.fork(): os._exit(0)\nask(sys.argv[1])\n"
    shell = 'python3 -c "$0" "$1"; sleep 2'
    kube = platform.kube()
    kube.pod("caller-orphan", "python:3.11", ["sh", "-c", shell, program, platform.listen])
    _, log = kube.ended("caller-orphan")
    assert log.strip() == "401"


HEADERS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Mode": "navigate"},
    {"Referer": "http://127.0.0.1/"},
    {"Cookie": "a=b"},
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:8080"},
    {"Host": "192.168.0.1:8080"},
    {"Host": "127.0.0.1.nip.io"},
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: ": ".join(*header.items()))
def test_what_a_web_page_can_make_a_browser_send_is_not(platform, header):
    assert requests.get(platform.url + API, headers=header, timeout=30).status_code == 401
    assert requests.post(platform.url + API, headers=header, json={}, timeout=30).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080", "127.3.2.1:1"])
def test_loopback_names_are(platform, host):
    assert requests.get(platform.url + API, headers={"Host": host}, timeout=30).status_code == 200


def test_one_connection_is_judged_anew_for_each_request(platform):
    """The proof is found once a connection, what the request says counts each time."""
    with requests.Session() as session:
        wanted = [({}, 200), ({"Origin": "http://evil.example"}, 401), ({}, 200), ({"Host": "evil.example"}, 401)]
        for header, expected in wanted:
            assert session.get(platform.url + API, headers=header, timeout=30).status_code == expected


def test_tokens(platform):
    for token, expected in [(platform.token(), 200), ("wrong", 401), ("", 401)]:
        head = {"Authorization": f"Bearer {token}", "Host": "kubeflow.example", "Origin": "http://other.example"}
        assert requests.get(platform.url + API, headers=head, timeout=30).status_code == expected
    # Credentials that are not good are never overlooked in favour of the local caller.
    for value in ["Bearer wrong", "Basic YTpi", "Negotiate"]:
        assert requests.get(platform.url + API, headers={"Authorization": value}, timeout=30).status_code == 401


def test_identity_headers_of_gateways_are_believed_by_nobody(platform):
    head = {"kubeflow-userid": "admin", "x-remote-user": "admin", "Host": "kubeflow.example"}
    assert requests.get(platform.url + API, headers=head, timeout=30).status_code == 401


def test_switched_off(tmp_path):
    with harness.platform_on(tmp_path / "data", arguments=["--no-local-caller"]) as platform:
        assert outside(PLAIN, platform.listen) == "401"
        head = {"Authorization": f"Bearer {platform.token()}"}
        assert requests.get(platform.url + API, headers=head, timeout=30).status_code == 200
        # The commands go through the socket in the folder, which only the user can open.
        assert platform.json("pipeline", "runs").get("runs", []) == []


def test_an_ordinary_user_and_not_even_root(tmp_path_factory, ordinary_user):
    """Started by somebody else, the platform takes that user for the local caller, and not root."""
    import os
    import pathlib
    import shutil
    import tempfile

    folder = pathlib.Path(tempfile.mkdtemp(prefix="kubeflow-e2e-"))
    folder.chmod(0o755)
    shutil.chown(folder, ordinary_user, ordinary_user)
    shutil.copy(harness.BINARY, folder / "kubeflow")
    environment = {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}
    platform = harness.Platform(folder / "data", user=ordinary_user, environment=environment)
    words = ["setpriv", f"--reuid={ordinary_user}", f"--regid={ordinary_user}", "--init-groups", "--"]
    platform.command = lambda *more: [*words, str(folder / "kubeflow"), *more, "--data-dir", str(platform.folder)]
    try:
        platform.start().wait_ready()
        assert outside(PLAIN, platform.listen, ordinary_user) == "200"
        assert outside(PLAIN, platform.listen) == ("401" if os.geteuid() != int(platform.folder.stat().st_uid) else "200")
    finally:
        platform.stop()
        shutil.rmtree(folder, ignore_errors=True)


OPEN = ["/healthz", "/readyz", "/livez", "/apis/v2beta1/healthz", "/version", "/signin"]
CLOSED = [
    "/metrics", API, "/apis/v2beta1/pipelines", "/apis/v2beta1/experiments", "/control/status", "/control/token",
    "/api/v1/namespaces", "/apis", "/apis/v2beta1", "/nothing/here", "/ns/kubeflow/runs", "/signin/../metrics",
]


@pytest.fixture(scope="module")
def stranger(platform):
    """A client without credentials that is not the local caller."""
    session = requests.Session()
    session.headers["Host"] = "stranger.example"
    session.hooks["response"] = []
    return lambda path, **more: session.get(platform.url + path, allow_redirects=False, timeout=30, **more)


@pytest.mark.parametrize("path", OPEN)
def test_open_without_credentials(stranger, path):
    assert stranger(path).status_code == 200


@pytest.mark.parametrize("path", CLOSED)
def test_closed_without_credentials(stranger, path):
    answer = stranger(path)
    redirected = answer.status_code in (302, 303, 307) and answer.headers["location"].startswith("/signin")
    assert answer.status_code == 401 or redirected, (answer.status_code, answer.headers)
    if path.startswith("/apis/"):
        assert answer.status_code == 401


def test_a_browser_is_led_to_the_sign_in(stranger):
    navigation = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path in ["/", "/ns/kubeflow/runs"]:
        answer = stranger(path, headers=navigation)
        assert answer.status_code in (302, 303, 307) and answer.headers["location"].startswith("/signin"), path
    assert stranger(API, headers=navigation).status_code == 401


KUBE = [
    ("/healthz", 200), ("/livez", 200), ("/readyz", 200), ("/version", 200), ("/apis/v2beta1/healthz", 200),
    ("/api", 403), ("/apis", 403), ("/api/v1/namespaces/kubeflow/pods", 403), ("/metrics", 403), ("/openapi/v3", 403),
    ("/apis/v2beta1/runs", 401), ("/nothing", 403),
]


@pytest.mark.parametrize("path, expected", KUBE)
def test_the_kubernetes_port_without_credentials(platform, path, expected):
    """As a cluster of kubeadm's: health and version are open, the rest refuses the anonymous user by name."""
    kube = platform.kube()
    head = {"Host": "stranger.example"}  # or this process would be the local caller where pipelines are served
    answer = requests.get(kube.url + path, verify=kube.authority, timeout=30, headers=head)
    assert answer.status_code == expected, answer.text
    if expected == 403:
        assert "system:anonymous" in answer.json()["message"]
    head = {"Authorization": "Bearer wrong"}
    assert requests.get(kube.url + path, verify=kube.authority, timeout=30, headers=head).status_code == 401


def test_threads_share_one_connection_pool(platform):
    """Many connections at once: each is proven on its own, none is confused with another's."""
    found = []

    def ask():
        with requests.Session() as session:
            found.extend(session.get(platform.url + API, timeout=60).status_code for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 160


def test_refusals_have_the_shape_of_the_api(stranger):
    answer = stranger(API)
    assert answer.headers["content-type"].startswith("application/json")
    assert json.loads(answer.text)["code"] == 16
