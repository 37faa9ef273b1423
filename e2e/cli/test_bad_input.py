"""Bad input gets a clear answer and changes nothing; what a user uploads never runs in the dashboard's origin."""

import http.client
import json
import os
import shutil
import ssl
import subprocess

import harness
import pytest
import requests
import yaml
from test_cli import shell

API = "/apis/v2beta1"


def counts(platform):
    names = ["runs", "pipelines", "experiments"]
    return {name: requests.get(f"{platform.url}{API}/{name}", timeout=30).json().get("total_size", 0) for name in names}


def said_in(answer):
    """What a refusal says; uploads have a shape of their own."""
    body = answer.json()
    return body.get("message") or body["error_message"]


@pytest.fixture
def unchanged(platform):
    before = counts(platform)
    yield
    assert counts(platform) == before
    assert platform.process.poll() is None


def cycle():
    spec = shell("true")
    tasks = spec["root"]["dag"]["tasks"]
    tasks["other"] = {"taskInfo": {"name": "other"}, "componentRef": {"name": "comp-step"}, "dependentTasks": ["step"]}
    tasks["step"]["dependentTasks"] = ["other"]
    return spec


def without_component():
    spec = shell("true")
    del spec["components"]["comp-step"]
    return spec


def without_executor():
    spec = shell("true")
    spec["deploymentSpec"]["executors"] = {}
    return spec


def within_itself():
    """A component whose DAG is made of itself."""
    spec = shell("true")
    spec["components"]["comp-step"] = {"dag": {"tasks": {"again": {"taskInfo": {"name": "again"}, "componentRef": {"name": "comp-step"}}}}}
    return spec


BAD_SPECS = {
    "cycle": (cycle(), ["cycle", "each other"]),
    "missing component": (without_component(), ["comp-step"]),
    "missing executor": (without_executor(), ["exec-step"]),
    "component within itself": (within_itself(), ["comp-step", "itself", "cycle"]),
    "no root": ({"pipelineInfo": {"name": "x"}, "schemaVersion": "2.1.0"}, ["root"]),
    "a list": ([1, 2], ["pipeline"]),
    "a text": ("text", ["pipeline"]),
}


@pytest.mark.parametrize("name", BAD_SPECS)
@pytest.mark.parametrize("way", ["run", "upload"])
def test_specs_that_cannot_run_are_refused(platform, unchanged, name, way):
    spec, said = BAD_SPECS[name]
    if way == "run":
        answer = requests.post(f"{platform.url}{API}/runs", json={"display_name": "bad", "pipeline_spec": spec}, timeout=30)
    else:
        files = {"uploadfile": ("bad.yaml", yaml.safe_dump(spec))}
        answer = requests.post(f"{platform.url}{API}/pipelines/upload?name=bad", files=files, timeout=30)
    assert answer.status_code == 400, answer.text
    message = said_in(answer)
    assert any(word in message for word in said), message


BAD_YAML = {
    "an open bracket": b"a: [1",
    "nothing": b"",
    "zeros": b"\0" * 1000,
    "not UTF-8": b"name: \xff\xfe\xfd",
    "a bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 110)),
    "very deep": b"[" * 100_000,
    "deep in blocks": b"".join(b" " * n + b"a:\n" for n in range(2000)),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_files_that_are_no_package_are_refused(platform, unchanged, name):
    files = {"uploadfile": ("bad.yaml", BAD_YAML[name])}
    answer = requests.post(f"{platform.url}{API}/pipelines/upload?name=bad", files=files, timeout=30)
    assert answer.status_code == 400, answer.text
    assert said_in(answer)


BAD_BODIES = [b"", b"{", b"[]", b"null", b'"text"', b'{"display_name": 7}', b'{"runtime_config": []}', b"\xff", b"[" * 200_000]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:20]))
def test_bodies_that_are_no_run_are_refused(platform, unchanged, body):
    head = {"Content-Type": "application/json"}
    answer = requests.post(f"{platform.url}{API}/runs", data=body, headers=head, timeout=30)
    assert answer.status_code == 400, answer.text


def endless(host, port, path, head, tls=None, limit=200 << 20):
    """Sends a body without end; gives the status, and how much was taken before the answer."""
    connection = http.client.HTTPSConnection(host, port, context=tls, timeout=60) if tls else http.client.HTTPConnection(host, port, timeout=60)
    connection.putrequest("POST", path, skip_host=False)
    for name, value in {**head, "Transfer-Encoding": "chunked"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    chunk, sent = b'{"a": "' + b"x" * (1 << 20), 0
    try:
        while sent < limit:
            connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            sent += len(chunk)
    except OSError:
        pass  # it was cut off
    try:
        return connection.getresponse().status, sent
    except (OSError, http.client.HTTPException):
        return None, sent


def resident(platform):
    lines = open(f"/proc/{platform.process.pid}/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10


@pytest.mark.parametrize("path", ["/runs", "/pipelines/upload", "/experiments", "/pipelines"])
def test_bodies_without_end_are_cut_off(platform, unchanged, path):
    host, port = platform.listen.split(":")
    before = resident(platform)
    status, sent = endless(host, int(port), API + path, {"Content-Type": "application/json"})
    assert status in (400, 413, 415, None) and sent < 150 << 20, (status, sent >> 20)
    assert resident(platform) - before < 200
    # Without the right to ask, nothing is read at all.
    status, _ = endless(host, int(port), API + path, {"Content-Type": "application/json", "Origin": "http://evil.example"})
    assert status in (401, None)


def test_bodies_without_end_are_cut_off_on_the_kubernetes_port(platform, unchanged):
    kube = platform.kube()
    host, port = platform.kube_listen.split(":")
    tls = ssl.create_default_context(cafile=kube.authority)
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {kube.token}"}
    status, sent = endless(host, int(port), "/api/v1/namespaces/default/configmaps", head, tls)
    assert status in (400, 413, None) and sent < 150 << 20, (status, sent >> 20)
    large = {"metadata": {"name": "large"}, "data": {"a": "x" * (4 << 20)}}
    try:
        answer = kube.session.post(f"{kube.url}/api/v1/namespaces/default/configmaps", json=large, timeout=60)
    except requests.ConnectionError:
        pass  # cut off while it was still sending
    else:
        assert answer.status_code in (413, 422), answer.text[:200]
    absent = kube.session.get(f"{kube.url}/api/v1/namespaces/default/configmaps/large", timeout=60)
    assert absent.status_code == 404


def test_40_mib_are_refused_by_size(platform, unchanged):
    files = {"uploadfile": ("large.yaml", b"# " + b"x" * (40 << 20))}
    try:
        answer = requests.post(f"{platform.url}{API}/pipelines/upload?name=large", files=files, timeout=60)
    except requests.ConnectionError:
        return  # cut off while it was still sending
    assert answer.status_code == 413 and "32 MiB" in said_in(answer), answer.text


def run_to_end(platform, spec):
    made = requests.post(f"{platform.url}{API}/runs", json={"display_name": "bad", "pipeline_spec": spec}, timeout=30)
    assert made.ok, made.text
    run = made.json()["run_id"]

    def over():
        found = requests.get(f"{platform.url}{API}/runs/{run}", timeout=30).json()
        return found if found["state"] in ("SUCCEEDED", "FAILED") else None

    found = harness.eventually(over, 60, "the run's end")
    tasks = requests.get(f"{platform.url}{API}/runs/{run}/tasks", timeout=30).json()["tasks"]
    return found, next(task for task in tasks if task.get("scope_path") == "step")


def test_an_unknown_image_says_what_there_is(platform):
    spec = shell("true")
    spec["deploymentSpec"]["executors"]["exec-step"]["container"]["image"] = "registry.example/team/thing:1"
    run, task = run_to_end(platform, spec)
    assert run["state"] == "FAILED"
    for said in ["registry.example/team/thing:1", "python:3"]:
        assert said in json.dumps(task["failure"]), task["failure"]


def test_a_command_that_does_not_exist_is_named(platform):
    spec = shell("true")
    spec["deploymentSpec"]["executors"]["exec-step"]["container"]["command"] = ["/no/such/command"]
    run, task = run_to_end(platform, spec)
    assert run["state"] == "FAILED" and "/no/such/command" in json.dumps(task["failure"]), task["failure"]


def test_an_uploaded_page_never_runs_in_the_dashboards_origin(platform):
    spec = shell("true")
    container = spec["deploymentSpec"]["executors"]["exec-step"]["container"]
    path = "{{$.outputs.artifacts['page'].path}}"
    container.update(command=["sh", "-c", 'mkdir -p "$(dirname "$0")"; echo "<script>parent.document.title</script>" > "$0"'], args=[path])
    kind = {"artifactType": {"schemaTitle": "system.HTML", "schemaVersion": "0.0.1"}}
    spec["components"]["comp-step"]["outputDefinitions"] = {"artifacts": {"page": kind}}
    run, task = run_to_end(platform, spec)
    assert run["state"] == "SUCCEEDED"
    content = f"{platform.url}/ns/kubeflow/runs/{run['run_id']}/artifact/content?task=step&output=page&index=0"
    with requests.Session() as browser:
        browser.get(platform.run("token", "--link").stdout.split()[-1], timeout=30)
        shown = browser.get(content + "&as=page", timeout=30)
        kept = browser.get(content, timeout=30)
    for answer in (shown, kept):
        assert answer.status_code == 200 and "<script>" in answer.text, answer.text
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox") and "allow-same-origin" not in policy and "allow-top-navigation" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert kept.headers["content-disposition"].startswith("attachment")
    assert "content-disposition" not in shown.headers or shown.headers["content-disposition"].startswith("inline")
    # Nobody else sees it, and no name leads out of the artifacts.
    assert requests.get(content, headers={"Host": "evil.example"}, allow_redirects=False, timeout=30).status_code in (302, 303, 401)
    for wrong in ["task=..%2F..&output=page", "task=step&output=..%2F..%2Fpage", "task=step&output=page&index=9"]:
        answer = requests.get(f"{platform.url}/ns/kubeflow/runs/{run['run_id']}/artifact/content?{wrong}", timeout=30)
        assert answer.status_code in (400, 404), (wrong, answer.status_code)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 128 MiB."""
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: only root can mount a small file system")
    image, place = tmp_path / "disk", tmp_path / "small"
    place.mkdir()
    image.touch()
    os.truncate(image, 128 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, text=True) if shutil.which("mkfs.ext4") else None
    if not made or made.returncode != 0:
        pytest.skip("SKIPPED: mkfs.ext4 is missing")
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"SKIPPED: a loop device cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_said_and_passes(small_disk):
    with harness.platform_on(small_disk / "data") as platform:
        made = requests.post(f"{platform.url}{API}/experiments", json={"display_name": "before"}, timeout=30)
        assert made.ok
        ballast = small_disk / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * (1 << 16))
            except OSError:
                pass
        acknowledged, refused = ["before"], None
        for n in range(2000):
            body = {"display_name": f"while full {n}", "description": "x" * 60_000}
            answer = requests.post(f"{platform.url}{API}/experiments", json=body, timeout=60)
            if not answer.ok:
                refused = answer
                break
            acknowledged.append(body["display_name"])
        assert refused is not None, "the disk was never full"
        assert refused.status_code == 507 and "full" in refused.text.lower(), refused.text

        def names():
            found, token = [], ""
            while True:
                page = requests.get(f"{platform.url}{API}/experiments?page_size=200&page_token={token}", timeout=30).json()
                found += [one["display_name"] for one in page.get("experiments", [])]
                token = page.get("next_page_token", "")
                if not token:
                    return sorted(name for name in found if name != "Default")

        assert names() == sorted(acknowledged)
        assert requests.get(f"{platform.url}/livez", timeout=30).status_code in (200, 503)
        ballast.unlink()

        def again():
            return requests.post(f"{platform.url}{API}/experiments", json={"display_name": "after"}, timeout=30).ok

        harness.eventually(again, 60, "the store takes writes again")
        platform.process.terminate()
        platform.process.wait(30)
        platform.start().wait_ready()
        assert names() == sorted([*acknowledged, "after"])
