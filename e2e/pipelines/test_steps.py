"""What a step is: container components, placeholders in commands, environment, secrets, packages, caching, failures."""

import subprocess

import pytest
from kfp import dsl, kubernetes
from kfp.dsl import Artifact, Dataset, Input, Output

from harness import eventually


@dsl.component
def number(n: int) -> int:
    return n


def test_a_container_component(run):
    @dsl.container_component
    def shell(text: str, out: dsl.OutputPath(str), data: Output[Dataset]):
        return dsl.ContainerSpec(
            image="alpine",
            command=["sh", "-c", 'printf "%s" "$0 twice $0" > "$1"; echo data > "$2"; echo "to the log"'],
            args=[text, out, data.path],
        )

    @dsl.pipeline(name="container")
    def pipeline(text: str = "said"):
        shell(text=text)

    result = run(pipeline)
    assert result.output("shell", "out") == "said twice said"
    assert result.content("shell", "data") == "data\n"
    assert "to the log" in result.log("shell")


def test_structured_arguments(run):
    @dsl.container_component
    def show(out: dsl.OutputPath(str), name: str, suffix: str = None, other: str = None):
        return dsl.ContainerSpec(
            image="busybox",
            command=["sh", "-c", 'shift_to=$0; for a in "$@"; do printf "[%s]" "$a"; done > "$shift_to"'],
            args=[
                out,
                dsl.ConcatPlaceholder(["name=", name]),
                dsl.IfPresentPlaceholder("suffix", then=["--suffix", suffix], else_=["--no-suffix"]),
                dsl.IfPresentPlaceholder("other", then=["--other", other]),
            ],
        )

    @dsl.pipeline(name="structured")
    def pipeline():
        show(name="a", suffix="b")
        show(name="c")

    result = run(pipeline)
    assert result.output("show", "out") == "[name=a][--suffix][b]"
    assert result.output("show-2", "out") == "[name=c][--no-suffix]"


def test_uris_and_metadata_in_a_command(run):
    @dsl.component
    def make(out: Output[Artifact]):
        out.metadata["key"] = "value"
        open(out.path, "w").write("x")

    @dsl.container_component
    def show(out: dsl.OutputPath(str), data: Input[Artifact]):
        return dsl.ContainerSpec(
            image="alpine", command=["sh", "-c", 'printf "%s %s" "$1" "$2" > "$0"'],
            args=[out, data.uri, data.metadata["key"]],
        )

    @dsl.pipeline(name="placeholders")
    def pipeline():
        show(data=make().outputs["out"])

    uri, value = run(pipeline).output("show", "out").split()
    assert uri.startswith("minio://mlpipeline/v2/artifacts/placeholders/") and value == "value"


def test_environment_variables(run):
    @dsl.component
    def show() -> str:
        import os

        return f"{os.environ['PLAIN']} {bool(os.environ['KFP_POD_NAME'])} {os.environ['EXPANDED']}"

    @dsl.pipeline(name="environment")
    def pipeline():
        show().set_env_variable("PLAIN", "a b").set_env_variable("EXPANDED", "<$(PLAIN)>")

    assert run(pipeline).output("show") == "a b True <a b>"


def test_secrets_and_config_maps(run, platform):
    kubeconfig = platform.kubeconfig()
    manifest = """
apiVersion: v1
kind: Secret
metadata: {name: e2e, namespace: kubeflow}
stringData: {password: "p ss"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: e2e, namespace: kubeflow}
data: {colour: teal, file.txt: "in a file"}
"""
    subprocess.run(["kubectl", "--kubeconfig", kubeconfig, "apply", "-f", "-"], input=manifest, text=True, check=True)

    @dsl.component
    def show() -> str:
        import os

        volume = open("/config/file.txt").read()
        secret = open("/secret/password").read()
        return "|".join([os.environ["PASSWORD"], os.environ["COLOUR"], volume, secret])

    @dsl.pipeline(name="secrets")
    def pipeline():
        step = show()
        kubernetes.use_secret_as_env(step, secret_name="e2e", secret_key_to_env={"password": "PASSWORD"})
        kubernetes.use_config_map_as_env(step, config_map_name="e2e", config_map_key_to_env={"colour": "COLOUR"})
        kubernetes.use_config_map_as_volume(step, config_map_name="e2e", mount_path="/config")
        kubernetes.use_secret_as_volume(step, secret_name="e2e", mount_path="/secret")

    assert run(pipeline).output("show") == "p ss|teal|in a file|p ss"


def test_packages(run):
    @dsl.component(packages_to_install=["six==1.16.0"])
    def uses() -> str:
        import six

        return six.__version__

    @dsl.pipeline(name="packages")
    def pipeline():
        uses()

    assert run(pipeline).output("uses") == "1.16.0"


def test_the_second_run_is_served_from_the_cache(run):
    @dsl.component
    def stamp(salt: str) -> float:
        import time

        return time.time()

    @dsl.pipeline(name="cached")
    def pipeline(salt: str = "s"):
        first = stamp(salt=salt)
        stamp(salt=f"{first.output}")

    first, second, other = run(pipeline, cache=True), run(pipeline, cache=True), run(pipeline, {"salt": "t"}, cache=True)
    assert first.output("stamp") == second.output("stamp") != other.output("stamp")
    assert [second[name]["state"] for name in ("stamp", "stamp-2")] == ["CACHED", "CACHED"]
    assert second["stamp"]["cached_from"]["run_id"] == first.run.run_id
    assert {detail.state for detail in second.run.run_details.task_details} == {"SUCCEEDED"}
    again = run(pipeline, cache=False)
    assert again.output("stamp") != first.output("stamp")


def test_a_failing_step_says_why_everywhere(run, platform):
    @dsl.component
    def divide(a: int, b: int) -> float:
        print("about to divide")
        return a / b

    @dsl.pipeline(name="failing-simple")
    def simple():
        divide(a=1, b=0)

    result = run(simple)
    assert result.state == "FAILED"
    failure = result["divide"]["failure"]
    assert failure["message"] == "ZeroDivisionError: division by zero"
    assert failure["exit_code"] == 1
    assert any("about to divide" in line for line in result.log("divide").splitlines())
    assert failure["last_lines"][-1] == "ZeroDivisionError: division by zero"
    detail = next(one for one in result.run.run_details.task_details if one.display_name == "divide")
    assert "ZeroDivisionError" in detail.error.message and "exit code 1" in detail.error.message
    shown = platform.run("pipeline", "get", result.run.run_id).stdout
    assert "divide" in shown and "ZeroDivisionError: division by zero" in shown and "exit code 1" in shown


def test_a_command_that_does_not_exist(run):
    @dsl.container_component
    def missing():
        return dsl.ContainerSpec(image="alpine", command=["no-such-command"], args=["x"])

    @dsl.pipeline(name="missing-command")
    def pipeline():
        missing()

    failure = run(pipeline)["missing"]["failure"]
    assert failure["exit_code"] == 127 and "no-such-command" in failure["message"]


def test_an_unknown_image(run):
    @dsl.container_component
    def unknown():
        return dsl.ContainerSpec(image="registry.example/nobody/knows:1", command=["true"])

    @dsl.pipeline(name="unknown-image")
    def pipeline():
        unknown()

    failure = run(pipeline)["unknown"]["failure"]
    assert failure["reason"] == "ErrImagePull", failure
    assert "registry.example/nobody/knows:1" in failure["message"]


def test_an_output_that_was_not_written(run):
    @dsl.container_component
    def forgets(out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="alpine", command=["true"], args=[out])

    @dsl.pipeline(name="forgets")
    def pipeline():
        forgets()

    result = run(pipeline)
    assert result.state == "FAILED"
    assert "out" in result["forgets"]["failure"]["message"]


@pytest.mark.parametrize("seconds", [30])
def test_a_canceled_run_ends_its_steps(run, platform, seconds):
    @dsl.component
    def sleep(seconds: int):
        import time

        print("sleeping", flush=True)
        time.sleep(seconds)

    @dsl.pipeline(name="canceled")
    def pipeline(seconds: int):
        number(n=1).after(sleep(seconds=seconds))

    made = run.client.create_run_from_pipeline_func(pipeline, arguments={"seconds": seconds}, enable_caching=False)
    eventually(lambda: run.result(made.run_id)["sleep"]["state"] == "RUNNING", 60, "the step runs")
    run.client.terminate_run(made.run_id)
    eventually(lambda: run.client.get_run(made.run_id).state == "CANCELED", 20, "the run is canceled")
    states = run.result(made.run_id).states()
    assert states["sleep"] == "CANCELED" and states["number"] == "CANCELED", states
