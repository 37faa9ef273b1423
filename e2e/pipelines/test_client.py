"""The SDK's client, unchanged and without a token: everything that scripts do with it."""

import pathlib
import tempfile

import kfp
import pytest
from kfp import compiler, dsl


@dsl.component
def number(n: int) -> int:
    return n


@dsl.pipeline(name="client-pipeline", description="What it is for")
def pipeline(n: int = 1):
    number(n=n)


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return str(path)


def unique(name):
    import uuid

    return f"{name}-{uuid.uuid4().hex[:8]}"


def test_health_says_one_user(run):
    health = run.client.get_kfp_healthz()
    assert health.multi_user is False


def test_experiments(run):
    name = unique("experiment")
    made = run.client.create_experiment(name, description="some text")
    assert run.client.create_experiment(name).experiment_id == made.experiment_id
    assert run.client.get_experiment(experiment_name=name).description == "some text"
    with pytest.raises(ValueError):
        run.client.get_experiment(experiment_name=unique("absent"))
    listed = run.client.list_experiments(page_size=100, sort_by="created_at desc").experiments
    assert listed[0].display_name == name
    run.client.archive_experiment(made.experiment_id)
    assert run.client.get_experiment(experiment_id=made.experiment_id).storage_state == "ARCHIVED"
    run.client.unarchive_experiment(made.experiment_id)
    run.client.delete_experiment(made.experiment_id)
    with pytest.raises(kfp.client.client.kfp_server_api.ApiException) as refused:
        run.client.get_experiment(experiment_id=made.experiment_id)
    assert refused.value.status == 404


def test_upload_versions_and_run_them(run, package):
    name = unique("pipeline")
    made = run.client.upload_pipeline(package, pipeline_name=name, description="text")
    assert (made.display_name, made.description) == (name, "text")
    with pytest.raises(kfp.client.client.kfp_server_api.ApiException) as refused:
        run.client.upload_pipeline(package, pipeline_name=name)
    assert refused.value.status == 409
    second = run.client.upload_pipeline_version(package, pipeline_version_name=unique("v2"), pipeline_id=made.pipeline_id)
    versions = run.client.list_pipeline_versions(made.pipeline_id, sort_by="created_at desc").pipeline_versions
    assert len(versions) == 2 and versions[0].pipeline_version_id == second.pipeline_version_id
    assert run.client.get_pipeline_id(name) == made.pipeline_id
    assert run.client.get_pipeline(made.pipeline_id).display_name == name
    version = run.client.get_pipeline_version(made.pipeline_id, second.pipeline_version_id)
    assert version.pipeline_spec["pipelineInfo"]["name"] == "client-pipeline"
    experiment = run.client.create_experiment(unique("runs"))
    started = run.client.run_pipeline(
        experiment.experiment_id, unique("run"), pipeline_id=made.pipeline_id,
        version_id=second.pipeline_version_id, params={"n": 4}, enable_caching=False,
    )
    result = run.wait(started.run_id)
    assert result.output("number") == 4
    assert result.run.pipeline_version_reference.pipeline_version_id == second.pipeline_version_id
    run.client.delete_pipeline_version(made.pipeline_id, second.pipeline_version_id)
    run.client.delete_pipeline_version(made.pipeline_id, versions[1].pipeline_version_id)
    run.client.delete_pipeline(made.pipeline_id)


def test_a_package_file_runs(run, package):
    started = run.client.create_run_from_pipeline_package(package, arguments={"n": 2}, enable_caching=False)
    assert run.wait(started.run_id).output("number") == 2


def test_listing_runs(run):
    experiment = run.client.create_experiment(unique("listing"))
    ids = []
    for n in range(5):
        made = run.client.create_run_from_pipeline_func(
            pipeline, arguments={"n": n}, run_name=f"listed {n}", experiment_name=experiment.display_name, enable_caching=False
        )
        ids.append(made.run_id)
    for run_id in ids:
        run.client.wait_for_run_completion(run_id, 120, 0.1)
    by_age = run.client.list_runs(experiment_id=experiment.experiment_id, sort_by="created_at desc", page_size=2)
    assert by_age.total_size == 5
    seen, token = [one.run_id for one in by_age.runs], by_age.next_page_token
    while token:
        page = run.client.list_runs(experiment_id=experiment.experiment_id, sort_by="created_at desc", page_size=2, page_token=token)
        seen += [one.run_id for one in page.runs]
        token = page.next_page_token
    assert seen == ids[::-1]
    import json

    wanted = {"predicates": [{"operation": 1, "key": "display_name", "stringValue": "listed 3"}]}
    found = run.client.list_runs(experiment_id=experiment.experiment_id, filter=json.dumps(wanted)).runs
    assert [one.run_id for one in found] == [ids[3]]
    state = {"predicates": [{"operation": "IN", "key": "state", "string_values": {"values": ["SUCCEEDED"]}}]}
    assert run.client.list_runs(experiment_id=experiment.experiment_id, filter=json.dumps(state)).total_size == 5


def test_archive_and_delete_a_run(run, platform):
    made = run.client.create_run_from_pipeline_func(pipeline, enable_caching=False)
    run.client.wait_for_run_completion(made.run_id, 120, 0.1)
    run.client.archive_run(made.run_id)
    assert run.client.get_run(made.run_id).storage_state == "ARCHIVED"
    run.client.unarchive_run(made.run_id)
    assert run.client.get_run(made.run_id).storage_state == "AVAILABLE"
    folder = platform.folder / "artifacts/mlpipeline/v2/artifacts/client-pipeline" / made.run_id
    assert folder.exists()
    run.client.delete_run(made.run_id)
    with pytest.raises(kfp.client.client.kfp_server_api.ApiException) as refused:
        run.client.get_run(made.run_id)
    assert refused.value.status == 404
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments, said",
    [({"n": "three"}, "whole number"), ({"unknown": 1}, "unknown"), ({"n": 1.5}, "whole number")],
)
def test_wrong_parameters_are_refused_and_nothing_is_made(run, arguments, said):
    before = run.client.list_runs().total_size
    with pytest.raises(kfp.client.client.kfp_server_api.ApiException) as refused:
        run.client.create_run_from_pipeline_func(pipeline, arguments=arguments)
    assert refused.value.status == 400 and said in refused.value.body
    assert run.client.list_runs().total_size == before


def test_bad_packages_are_refused_by_name(run, package):
    text = pathlib.Path(package).read_text()
    cases = {
        "not valid YAML": "a: [1",
        "KFP 1": "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n",
        "comp-absent": text.replace("name: comp-number", "name: comp-absent"),
        "schemaVersion": text.replace("schemaVersion: 2.1.0", "schemaVersion: 1.0.0"),
    }
    before = run.client.list_pipelines().total_size
    for said, content in cases.items():
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(content)
            file.flush()
            with pytest.raises(Exception) as refused:
                run.client.upload_pipeline(file.name, pipeline_name=unique("bad"))
        assert said in str(refused.value), (said, refused.value)
    with tempfile.NamedTemporaryFile("wb", suffix=".yaml") as file:
        file.write(b" " * (40 << 20))
        file.flush()
        with pytest.raises(Exception) as refused:
            run.client.upload_pipeline(file.name, pipeline_name=unique("large"))
    assert "32 MiB" in str(refused.value) or "413" in str(refused.value), refused.value
    assert run.client.list_pipelines().total_size == before


def test_a_failed_run_goes_on_after_a_retry(run):
    import json

    import requests

    @dsl.component
    def once(marker: str) -> int:
        import os

        if os.environ.get("KFP_RETRY_INDEX") is None and not os.path.exists("/tmp/never"):
            raise RuntimeError(marker)
        return 1

    @dsl.pipeline(name="retry-run")
    def failing():
        number(n=3)
        once(marker="x")

    made = run.client.create_run_from_pipeline_func(failing, enable_caching=False)
    first = run.wait(made.run_id)
    assert first.state == "FAILED"
    run.client._run_api.run_service_retry_run(run_id=made.run_id)
    second = run.wait(made.run_id)
    assert second.state == "FAILED"
    assert second["number"]["end_time"] == first["number"]["end_time"], json.dumps(second.tasks, indent=1)
    assert second["once"]["task_id"] != first["once"]["task_id"]
    assert requests
