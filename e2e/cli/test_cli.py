"""Every command, from outside: what it prints, what it changes, and its exit code."""

import json
import os
import pathlib
import signal
import socket
import subprocess

import harness
import pytest
import requests
import yaml


def shell(command, name="shell", **parameters):
    """A pipeline of one shell step, as the compiler writes it."""
    inputs = {"parameters": {key: {"parameterType": kind} for key, kind in parameters.items()}}
    passed = {key: {"componentInputParameter": key} for key in parameters}
    args = [f"{{{{$.inputs.parameters['{key}']}}}}" for key in parameters]
    return {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "deploymentSpec": {"executors": {"exec-step": {"container": {"image": "alpine", "command": ["sh", "-c", command], "args": args}}}},
        "components": {"comp-step": {"executorLabel": "exec-step", "inputDefinitions": inputs}},
        "root": {
            "inputDefinitions": inputs,
            "dag": {"tasks": {"step": {"taskInfo": {"name": "step"}, "componentRef": {"name": "comp-step"}, "inputs": {"parameters": passed}}}},
        },
    }


@pytest.fixture
def write(tmp_path):
    def made(command, **parameters):
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump(shell(command, **parameters)))
        return str(path)

    return made


# --- looking -----------------------------------------------------------------------------------------------------------


def test_status_in_both_forms(platform):
    found = platform.json("status")
    assert found["platform"]["pid"] == platform.process.pid
    assert found["platform"]["listen"] == platform.listen
    text = platform.run("status").stdout
    assert platform.listen in text and platform.kube_listen in text and str(platform.folder) in text
    assert found["platform"]["runtime"] in text


def test_token_stands_alone_on_the_last_line_and_works(platform):
    token = platform.run("token").stdout.splitlines()[-1]
    assert token and " " not in token
    head = {"Authorization": f"Bearer {token}", "Host": "elsewhere.example"}
    assert requests.get(platform.url + "/apis/v2beta1/runs", headers=head, timeout=30).status_code == 200
    elsewhere = subprocess.run(
        [harness.BINARY, "pipeline", "runs", "--server", platform.url, "--output", "json"],
        capture_output=True, text=True, env={**platform.env(), "KUBEFLOW_TOKEN": token}, timeout=60,
    )
    assert elsewhere.returncode == 0 and isinstance(json.loads(elsewhere.stdout), dict)


def test_a_link_signs_in_once(platform):
    link = platform.run("token", "--link", "/ns/kubeflow/runs").stdout.split()[-1]
    assert link.startswith(platform.url + "/signin?link=")
    with requests.Session() as browser:
        browser.headers["Sec-Fetch-Mode"] = "navigate"
        answer = browser.get(link, timeout=30)
        assert answer.status_code == 200 and answer.url.endswith("/ns/kubeflow/runs"), answer.url
    with requests.Session() as second:
        second.headers["Sec-Fetch-Mode"] = "navigate"
        answer = second.get(link, timeout=30)
        assert "/signin" in answer.url


def test_kubeconfig_stands_alone(platform):
    config = yaml.safe_load(platform.run("kubeconfig").stdout)
    assert config["current-context"] == "kubeflow" and config["kind"] == "Config"
    assert platform.kube().call("GET", "/api/v1/namespaces/kubeflow").json()["status"]["phase"] == "Active"


def test_env_is_for_a_shell(platform):
    words = platform.run("env").stdout
    told = subprocess.run(["sh", "-c", f'{words}\necho "$KF_PIPELINES_ENDPOINT|$KUBECONFIG"'], capture_output=True, text=True)
    endpoint, kubeconfig = told.stdout.strip().split("|")
    assert endpoint == platform.url and pathlib.Path(kubeconfig).is_file()
    assert platform.json("env")["KF_PIPELINES_ENDPOINT"] == endpoint


def test_config_says_where_each_value_is_from(tmp_path):
    platform = harness.Platform(tmp_path / "data", environment={"KUBEFLOW_LOG_FORMAT": "json"})
    platform.folder.mkdir()
    (platform.folder / "config.yaml").write_text("images: {standIn: never}\n")
    found = platform.json("config")
    assert found["images.standIn"] == {"value": "never", "origin": "file"}
    assert found["logFormat"] == {"value": "json", "origin": "environment"}
    assert found["listen"] == {"value": "127.0.0.1:8080", "origin": "default"}
    (platform.folder / "config.yaml").write_text("imagse: {standIn: never}\n")
    refused = platform.run("config", check=False)
    assert refused.returncode == 1 and "imagse.standIn" in refused.stderr


def test_doctor_looks_at_the_host(platform):
    done = platform.run("doctor", "--output", "json", check=False)
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert {"isolation", "python", "disk", "sync"} <= set(found)
    assert done.returncode == (0 if all(one["pass"] for one in found.values()) else 1)
    assert all(one["remedy"] for one in found.values() if not one["pass"])


def test_version_completions_and_man(platform):
    assert platform.run("version").stdout.startswith("kubeflow ")
    for kind in ["bash", "zsh", "fish"]:
        assert "kubeconfig" in platform.run("completions", kind).stdout
    man = platform.run("man").stdout
    assert man.startswith((".ie", ".TH")) and "kubeflow" in man
    for command in ["up", "down", "status", "token", "pipeline", "config", "doctor"]:
        assert "Usage:" in platform.run(command, "--help").stdout


def test_commands_without_a_platform(tmp_path):
    platform = harness.Platform(tmp_path / "data")
    for words in [["status"], ["token"], ["kubeconfig"], ["env"], ["pipeline", "list"]]:
        done = platform.run(*words, check=False)
        assert done.returncode == 3 and "kubeflow up" in done.stderr, (words, done)
    assert platform.run("down").stdout.startswith("No platform was running")
    assert platform.run("nonsense", check=False).returncode == 2


# --- starting and stopping -------------------------------------------------------------------------------------------------


def up(platform, *arguments, timeout=60):
    return subprocess.run(
        platform.command("up", "--no-client-config", *arguments), capture_output=True, text=True, env=platform.env(), timeout=timeout
    )


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["foreground", "detached"])
def test_a_second_up_says_who_holds_the_folder(platform, detach):
    ports = ["--listen", f"127.0.0.1:{harness.free_port()}", "--kube-listen", f"127.0.0.1:{harness.free_port()}"]
    done = up(platform, *ports, *detach)
    assert done.returncode == 1
    assert f"process {platform.process.pid}" in done.stderr and platform.listen in done.stderr
    assert platform.json("status")["platform"]["pid"] == platform.process.pid


@pytest.mark.parametrize("flag", ["--listen", "--kube-listen"])
def test_an_explicit_port_that_is_taken_fails_and_names_the_holder(tmp_path, flag):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = {"--listen": "--kube-listen", "--kube-listen": "--listen"}[flag]
        platform = harness.Platform(tmp_path / "data")
        done = up(platform, flag, f"127.0.0.1:{port}", other, f"127.0.0.1:{harness.free_port()}")
    assert done.returncode == 1
    assert str(port) in done.stderr and f"process {os.getpid()}" in done.stderr


def test_a_default_port_that_is_taken_moves_and_everything_follows(tmp_path):
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        except OSError:
            pass  # somebody else holds it: as good
        platform = harness.Platform(tmp_path / "data")
        log = open(platform.log, "wb")
        platform.process = subprocess.Popen(
            platform.command("up", "--no-client-config", "--kube-listen", platform.kube_listen),
            stdout=log, stderr=log, env=platform.env(), start_new_session=True,
        )
        try:
            found = harness.eventually(lambda: platform.run("status", "--output", "json", check=False).stdout, 30)
            platform.listen = json.loads(found)["platform"]["listen"]
            assert platform.listen != "127.0.0.1:8080"
            assert f"Port 8080 is taken" in platform.log.read_text()
            assert platform.json("env")["KF_PIPELINES_ENDPOINT"] == platform.url
            assert requests.get(platform.url + "/healthz", timeout=30).status_code == 200
        finally:
            platform.stop()


def test_detach_and_down(tmp_path):
    platform = harness.Platform(tmp_path / "data")
    done = up(platform, "--detach", "--listen", platform.listen, "--kube-listen", platform.kube_listen)
    try:
        assert done.returncode == 0, done.stderr
        assert requests.get(platform.url + "/readyz", timeout=30).status_code == 200
        assert platform.run("logs").returncode == 0
    finally:
        assert platform.run("down").stdout.startswith("The platform is stopped")
    assert platform.run("status", check=False).returncode == 3
    with pytest.raises(requests.ConnectionError):
        requests.get(platform.url + "/readyz", timeout=5)


@pytest.mark.parametrize("signals", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_stops_the_platform_only(tmp_path, write, signals):
    mark = f"sleep 61{os.getpid()}"
    platform = harness.Platform(tmp_path / "data").start().wait_ready()
    try:
        run = platform.run("pipeline", "run", write(mark)).stdout.strip()
        wanted = {"step": "RUNNING"}
        harness.eventually(lambda: states(platform, run) == wanted, 60, "the step runs")
        platform.process.send_signal(signals)
        assert platform.process.wait(30) == 0
        assert "1 step goes on" in platform.log.read_text()
        assert subprocess.run(["pgrep", "-f", mark], capture_output=True).returncode == 0
        if signals == signal.SIGINT:
            # The next platform takes the step back.
            platform.start().wait_ready()
            assert states(platform, run) == wanted
            assert "1 step was ended" in platform.run("down").stdout
        else:
            assert platform.run("down").stdout.strip() == "No platform was running; 1 step was ended."
        assert subprocess.run(["pgrep", "-f", mark], capture_output=True).returncode == 1
    finally:
        platform.stop()


def test_up_adds_a_context_and_never_switches_to_it(tmp_path):
    platform = harness.Platform(tmp_path / "data")
    mine = tmp_path / "home" / ".kube" / "config"
    mine.parent.mkdir(parents=True)
    before = {
        "apiVersion": "v1", "kind": "Config", "current-context": "work",
        "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
        "clusters": [{"name": "work", "cluster": {"server": "https://work.example"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }
    mine.write_text(yaml.safe_dump(before))
    done = subprocess.run(
        platform.command("up", "--detach", "--listen", platform.listen, "--kube-listen", platform.kube_listen),
        capture_output=True, text=True, env=platform.env(), timeout=60,
    )
    try:
        assert done.returncode == 0, done.stderr
        after = yaml.safe_load(mine.read_text())
        assert after["current-context"] == "work"
        assert [one["name"] for one in after["contexts"]] == ["work", "kubeflow"]
        assert after["clusters"][0] == before["clusters"][0] and after["users"][0] == before["users"][0]
        assert mine.stat().st_mode & 0o077 == 0 or mine.stat().st_mode & 0o777 == 0o644
        server = next(one for one in after["clusters"] if one["name"] != "work")["cluster"]["server"]
        assert server == f"https://{platform.kube_listen}"
    finally:
        platform.run("down")


# --- pipelines -------------------------------------------------------------------------------------------------------------


def states(platform, run):
    tasks = platform.json("pipeline", "get", run)["tasks"]
    return {task["scope_path"]: task["state"] for task in tasks if task.get("type") == "RUNTIME"}


def test_waiting_for_success(platform, write):
    done = platform.run("pipeline", "run", write("echo hello"), "--wait", "--name", "a run of mine")
    assert done.stdout.startswith("SUCCEEDED") and "step" in done.stderr
    run = done.stdout.split()[-1]
    assert platform.run("pipeline", "logs", run, "step").stdout == "hello\n"
    assert "a run of mine" in platform.run("pipeline", "runs").stdout
    assert "succeeded" in platform.run("pipeline", "get", run).stdout


def test_waiting_for_a_failure(platform, write):
    done = platform.run("pipeline", "run", write("echo last words; exit 7"), "--wait", check=False)
    assert done.returncode == 4
    for said in ["FAILED", "step failed (exit code 7)", "last words"]:
        assert said in done.stdout, done.stdout
    machine = platform.run("pipeline", "run", write("exit 7"), "--wait", "--output", "json", check=False)
    assert machine.returncode == 4 and json.loads(machine.stdout)["run"]["state"] == "FAILED"


def test_waiting_for_a_canceled_run(platform, write):
    words = platform.command("pipeline", "run", write("sleep 600"), "--wait", "--name", "to be canceled")
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=platform.env())

    def running():
        found = [one for one in platform.json("pipeline", "runs").get("runs", []) if one["display_name"] == "to be canceled"]
        return found and found[0]["state"] == "RUNNING" and found[0]["run_id"]

    run = harness.eventually(running, 60, "the run runs")
    assert "being canceled" in platform.run("pipeline", "cancel", run).stdout
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 5 and out.startswith("CANCELED")


def test_parameters_from_the_line_and_from_a_file(platform, write, tmp_path):
    value = tmp_path / "value.txt"
    value.write_text("from a file")
    path = write('echo "$0|$1"', text="STRING", count="NUMBER_INTEGER")
    done = platform.run("pipeline", "run", path, "--wait", "-p", f"text=@{value}", "-p", "count=3", "--experiment", "mine")
    assert platform.run("pipeline", "logs", done.stdout.split()[-1]).stdout.strip() == "from a file|3"
    for wrong, said in [(["-p", "text=@/nowhere/at/all"], "/nowhere/at/all"), (["-p", "count=three"], "whole number"), (["-p", "unknown=1"], "unknown")]:
        before = platform.json("status")["runs"]
        done = platform.run("pipeline", "run", path, "-p", "text=a", "-p", "count=1", *wrong, check=False)
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert platform.json("status")["runs"] == before


def test_a_python_file_is_compiled_with_the_users_own_kfp(platform, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(
        "from kfp import dsl\n\n\n@dsl.component\ndef double(n: int) -> int:\n    return 2 * n\n\n\n"
        '@dsl.pipeline(name="mine")\ndef mine(n: int = 4) -> int:\n    return double(n=n).output\n'
    )
    done = platform.json("pipeline", "run", str(source), "--wait", "-p", "n=21")
    [task] = [task for task in done["tasks"] if task.get("scope_path") == "double"]
    assert task["outputs"]["parameters"]["Output"] == 42
    source.write_text("this is no Python\n")
    refused = platform.run("pipeline", "run", str(source), check=False)
    assert refused.returncode == 1 and "mine.py" in refused.stderr


def test_an_uploaded_pipeline_runs_by_name_and_version(platform, write):
    with open(write("echo uploaded"), "rb") as file:
        answer = requests.post(f"{platform.url}/apis/v2beta1/pipelines/upload?name=by-name", files={"uploadfile": file}, timeout=30)
    assert answer.ok, answer.text
    assert "by-name" in platform.run("pipeline", "list").stdout
    assert platform.run("pipeline", "run", "by-name", "--wait").stdout.startswith("SUCCEEDED")
    absent = platform.run("pipeline", "run", "by-name@none", check=False)
    assert absent.returncode == 1 and "none" in absent.stderr
    absent = platform.run("pipeline", "run", "no-such-pipeline", check=False)
    assert absent.returncode == 1 and "no-such-pipeline" in absent.stderr
