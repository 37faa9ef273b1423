"""Artifacts: every type, lists, metadata, importers, what a step sees of others."""

from typing import List

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output


@dsl.component
def write(out: Output[Dataset], text: str = "content"):
    with open(out.path, "w") as file:
        file.write(text)
    out.metadata["rows"] = 3


@dsl.component
def read(data: Input[Dataset]) -> str:
    with open(data.path) as file:
        return f"{file.read()} {data.metadata.get('rows')}"


def test_an_artifact_goes_from_step_to_step(run):
    @dsl.pipeline(name="artifact")
    def artifact():
        read(data=write(text="hello").outputs["out"])

    result = run(artifact)
    assert result.output("read") == "hello 3"
    made = result.artifact("write", "out")
    assert made["type"] == "system.Dataset"
    assert made["metadata"] == {"rows": 3}
    assert made["size_bytes"] == 5 and len(made["sha256"]) == 64
    assert result.content("write", "out") == "hello"


def test_every_artifact_type(run):
    @dsl.component
    def make(m: Output[Metrics], c: Output[ClassificationMetrics], h: Output[HTML], k: Output[Markdown], model: Output[Model]):
        m.log_metric("accuracy", 0.97)
        m.log_metric("rows", 100)
        c.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.8, 1.0], [1.0, 0.5, 0.0])
        c.log_confusion_matrix(["cat", "dog"], [[5, 1], [2, 7]])
        open(h.path, "w").write("<h1>hi</h1><script>alert(1)</script>")
        open(k.path, "w").write("# Report\n")
        open(model.path, "wb").write(b"\0" * 1000)
        model.framework = "numbers"

    @dsl.pipeline(name="types-of-artifacts")
    def types():
        make()

    result = run(types)
    assert result.artifact("make", "m")["metadata"] == {"accuracy": 0.97, "rows": 100}
    matrix = result.artifact("make", "c")["metadata"]["confusionMatrix"]
    assert matrix["rows"] == [{"row": [5, 1]}, {"row": [2, 7]}]
    assert result.artifact("make", "model")["size_bytes"] == 1000
    assert result.artifact("make", "model")["metadata"]["framework"] == "numbers"
    assert result.content("make", "k") == "# Report\n"


def test_a_folder_as_an_artifact(run):
    @dsl.component
    def make(out: Output[Dataset]):
        import os

        os.makedirs(out.path)
        for name in "ab":
            open(os.path.join(out.path, name), "w").write(name * 10)

    @dsl.component
    def names(data: Input[Dataset]) -> List[str]:
        import os

        return sorted(os.listdir(data.path))

    @dsl.pipeline(name="folder")
    def folder():
        names(data=make().outputs["out"])

    result = run(folder)
    assert result.output("names") == ["a", "b"]
    assert result.artifact("make", "out")["size_bytes"] == 20


def test_a_step_sees_its_inputs_read_only_and_nothing_else(run):
    @dsl.component
    def look(data: Input[Dataset]) -> List[str]:
        import os

        seen = []
        try:
            open(data.path, "a").write("more")
            seen.append("input is writable")
        except OSError:
            pass
        root = "/minio/mlpipeline/v2/artifacts"
        for pipeline in os.listdir(root):
            for run_id in os.listdir(f"{root}/{pipeline}"):
                seen.extend(os.listdir(f"{root}/{pipeline}/{run_id}"))
        return sorted(seen)

    @dsl.pipeline(name="isolation")
    def isolation():
        write(text="not for you")
        mine = write(text="for you")
        look(data=mine.outputs["out"])

    assert run(isolation).output("look") == ["look", "write-2"]


def test_the_importer_brings_in_what_exists(run):
    @dsl.component
    def show(data: Input[Dataset]) -> str:
        return f"{data.uri} {data.metadata['kind']}"

    @dsl.pipeline(name="import")
    def imported(kind: str = "train"):
        one = dsl.importer(
            artifact_uri="gs://bucket/data.csv", artifact_class=Dataset, reimport=False, metadata={"kind": kind}
        )
        show(data=one.output)

    first, second = run(imported), run(imported)
    assert first.output("show") == "gs://bucket/data.csv train"
    assert first.artifact("importer", "artifact")["artifact_id"] == second.artifact("importer", "artifact")["artifact_id"]
    assert first["importer"]["type"] == "IMPORTER"


def test_outputs_of_a_pipeline(run):
    @dsl.pipeline(name="inner-artifact")
    def inner(text: str) -> Dataset:
        return write(text=text).outputs["out"]

    @dsl.pipeline(name="outer-artifact")
    def outer():
        read(data=inner(text="deep").output)

    assert run(outer).output("read") == "deep 3"
