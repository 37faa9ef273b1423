"""What a person types instead of an id, and the platform's own log as it grows."""

import subprocess

import harness

PIPELINE = """
pipelineInfo: {name: says}
schemaVersion: 2.1.0
root: {dag: {tasks: {say: {taskInfo: {name: say}, componentRef: {name: comp-say}}}}}
components: {comp-say: {executorLabel: exec-say}}
deploymentSpec: {executors: {exec-say: {container: {image: alpine, command: [echo, "a word"]}}}}
"""


def test_a_run_is_found_by_its_name_and_by_the_beginning_of_its_id(platform, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    run = platform.run("pipeline", "run", str(path), "--wait", "--name", "only one").stdout.split()[-1]
    for text in [run, run[:8], "only one"]:
        assert run in platform.run("pipeline", "get", text).stdout, text
        assert platform.run("pipeline", "logs", text).stdout == "a word\n", text
    for _ in range(2):
        platform.run("pipeline", "run", str(path), "--wait", "--name", "twice")
    said = platform.run("pipeline", "get", "twice", check=False)
    assert said.returncode == 1 and "could mean 2 runs" in said.stderr
    said = platform.run("pipeline", "get", "no such run", check=False)
    assert said.returncode == 1 and "kubeflow pipeline runs" in said.stderr


def test_the_log_of_a_platform_in_the_background_is_followed(tmp_path):
    platform = harness.Platform(tmp_path / "data")
    platform.run("up", "--detach", "--listen", platform.listen, "--kube-listen", platform.kube_listen, "--no-client-config")
    try:
        words = platform.command("logs", "--follow")
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=platform.env()) as follower:
            ready = harness.eventually(follower.stdout.readline, 30, "a line")
            assert ready
            platform.run("down")
            for line in follower.stdout:
                if line.startswith("Stopped."):
                    break
            follower.kill()
    finally:
        platform.run("down", check=False)
    assert platform.run("logs", "--lines", "1").stdout.startswith("Stopped.")
    # A reader that has seen enough is no failure.
    pipe = subprocess.run(["sh", "-c", '"$@" | head -c 1', "sh", *platform.command("logs")], capture_output=True, text=True, timeout=30)
    assert (pipe.returncode, len(pipe.stdout), pipe.stderr) == (0, 1, "")


def test_the_last_line_of_a_step_that_still_runs_is_there(platform, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE.replace('[echo, "a word"]', '[sh, -c, "echo a word; sleep 600"]'))
    run = platform.run("pipeline", "run", str(path)).stdout.strip()
    try:
        harness.eventually(lambda: platform.run("pipeline", "logs", run, "say", check=False).stdout == "a word\n", 30, "the line")
    finally:
        platform.run("pipeline", "cancel", run)
