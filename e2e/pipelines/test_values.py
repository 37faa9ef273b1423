"""Parameters: every type in and out, defaults, constants, placeholders."""

from typing import Dict, List, NamedTuple, Optional

from kfp import dsl


@dsl.component
def add(a: int, b: int = 2) -> int:
    return a + b


def test_chain(run):
    @dsl.pipeline(name="chain")
    def chain(n: int = 3):
        first = add(a=n)
        add(a=first.output, b=10)

    result = run(chain, {"n": 5})
    assert result.state == "SUCCEEDED"
    assert result.output("add") == 7
    assert result.output("add-2") == 17
    assert result.states() == {"": "SUCCEEDED", "add": "SUCCEEDED", "add-2": "SUCCEEDED"}


def test_every_type(run):
    @dsl.component
    def echo(i: int, f: float, s: str, b: bool, l: List[int], d: Dict[str, str]) -> NamedTuple(
        "Out", [("i", int), ("f", float), ("s", str), ("b", bool), ("l", List[int]), ("d", Dict[str, str])]
    ):
        from collections import namedtuple

        assert isinstance(i, int) and isinstance(b, bool) and isinstance(l, list) and isinstance(d, dict), (i, b, l, d)
        return namedtuple("Out", "i f s b l d")(i + 1, f / 2, s + "!", not b, l[::-1], {**d, "more": "ü"})

    @dsl.pipeline(name="types")
    def types(i: int, f: float, s: str, b: bool, l: List[int], d: Dict[str, str]):
        echo(i=i, f=f, s=s, b=b, l=l, d=d)

    result = run(types, {"i": 2, "f": 0.5, "s": "line\n'quoted' \"text\" $HOME {{x}}", "b": True, "l": [1, 2, 3], "d": {"k": "v"}})
    assert result.state == "SUCCEEDED"
    out = result["echo"]["outputs"]["parameters"]
    assert out == {
        "i": 3, "f": 0.25, "s": "line\n'quoted' \"text\" $HOME {{x}}!", "b": False, "l": [3, 2, 1], "d": {"k": "v", "more": "ü"},
    }


def test_defaults_and_optional_inputs(run):
    @dsl.component
    def show(a: int = 7, b: Optional[str] = None, c: str = "c") -> str:
        return f"{a} {b} {c}"

    @dsl.pipeline(name="defaults")
    def defaults(x: str = "from the pipeline", y: Optional[str] = None):
        show()
        show(a=1, b=x, c="z")
        show(b=y)

    result = run(defaults)
    assert [result.output(name) for name in ("show", "show-2", "show-3")] == ["7 None c", "1 from the pipeline z", "7 None c"]


def test_text_made_of_channels(run):
    @dsl.component
    def text(s: str) -> str:
        return s

    @dsl.pipeline(name="texts")
    def texts(name: str = "world", n: int = 2):
        one = text(s=f"hello {name}")
        text(s=f"{one.output}, {n} times; {one.output}")

    result = run(texts)
    assert result.output("text-2") == "hello world, 2 times; hello world"


def test_facts_about_the_run(run):
    @dsl.component
    def show(name: str, resource: str, run_id: str, task: str, task_id: str, created: str) -> Dict[str, str]:
        return dict(name=name, resource=resource, run_id=run_id, task=task, task_id=task_id, created=created)

    @dsl.pipeline(name="facts")
    def facts():
        show(
            name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            resource=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            task=dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
            task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
            created=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
        )

    result = run(facts, run_name="a run of facts")
    out = result.output("show")
    assert out["name"] == "a run of facts"
    assert out["resource"].startswith("facts-")
    assert out["run_id"] == result.run.run_id
    assert out["task"] == "show"
    assert out["task_id"] == result["show"]["task_id"]
    assert out["created"].endswith("Z")


def test_a_component_of_a_component(run):
    @dsl.pipeline(name="inner")
    def inner(z: int) -> int:
        return add(a=z, b=10).output

    @dsl.pipeline(name="nested")
    def nested(n: int = 1) -> int:
        first = inner(z=n)
        second = inner(z=first.output)
        return second.output

    result = run(nested)
    assert result.output("inner-2") == 21
    assert result.output("") == 21
    assert result["inner-2/add"]["state"] == "SUCCEEDED"


def test_large_values(run):
    @dsl.component
    def make(n: int) -> str:
        return "x" * n

    @dsl.component
    def size(s: str) -> int:
        return len(s)

    @dsl.pipeline(name="large")
    def large(n: int):
        size(s=make(n=n).output)

    assert run(large, {"n": 100_000}).output("size") == 100_000
    # The SDK's own command passes all inputs as one argument, and the kernel has a limit for it.
    result = run(large, {"n": 300_000})
    assert result.state == "FAILED"
    assert "pass large values as artifacts" in result["size"]["failure"]["message"]
