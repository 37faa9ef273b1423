"""Conditions, loops, exit handlers, retries."""

from typing import Dict, List

from kfp import dsl
from kfp.dsl import Dataset, Input, Output, PipelineTaskFinalStatus


@dsl.component
def number(n: int) -> int:
    return n


@dsl.component
def text(s: str) -> str:
    return s


@dsl.component
def total(xs: List[int]) -> int:
    return sum(xs)


@dsl.component
def fail(message: str = "boom"):
    raise ValueError(message)


def test_if_elif_else_and_one_of(run):
    @dsl.pipeline(name="branches")
    def branches(n: int):
        value = number(n=n)
        with dsl.If(value.output > 10):
            a = text(s="big")
        with dsl.Elif(value.output == 5):
            b = text(s="five")
        with dsl.Else():
            c = text(s="other")
        text(s=dsl.OneOf(a.output, b.output, c.output))

    for n, word, branch in ((11, "big", "condition-2"), (5, "five", "condition-3"), (1, "other", "condition-4")):
        result = run(branches, {"n": n})
        assert result.state == "SUCCEEDED"
        assert result.output("text-4") == word
        group = {path: task["state"] for path, task in result.tasks.items() if path.startswith("condition-branches-1/condition-")}
        taken = [path for path, state in group.items() if state == "SUCCEEDED" and path.count("/") == 1]
        assert taken == [f"condition-branches-1/{branch}"], group


def test_one_of_artifacts(run):
    @dsl.component
    def make(out: Output[Dataset], s: str):
        open(out.path, "w").write(s)

    @dsl.component
    def read(data: Input[Dataset]) -> str:
        return open(data.path).read()

    @dsl.pipeline(name="one-of-artifacts")
    def pipeline(flag: bool):
        with dsl.If(flag == True):  # noqa: E712
            a = make(s="yes")
        with dsl.Else():
            b = make(s="no")
        read(data=dsl.OneOf(a.outputs["out"], b.outputs["out"]))

    assert run(pipeline, {"flag": True}).output("read") == "yes"
    assert run(pipeline, {"flag": False}).output("read") == "no"


def test_a_condition_that_is_false_skips_what_depends_on_it(run):
    @dsl.pipeline(name="skipped")
    def skipped(s: str = "no"):
        with dsl.If(s == "yes", name="only-if-yes"):
            text(s="inside")

    result = run(skipped)
    assert result.state == "SUCCEEDED"
    assert [task["state"] for path, task in result.tasks.items() if path.startswith("condition")] == ["SKIPPED"]


def test_nested_conditions_and_comparisons(run):
    @dsl.component
    def ratio() -> float:
        return 0.75

    @dsl.pipeline(name="nested-conditions")
    def nested(n: int = 4, flag: bool = True):
        r = ratio()
        with dsl.If(r.output >= 0.5):
            with dsl.If(n < 5):
                text(s="both")
            with dsl.If(n != 4):
                text(s="never")

    result = run(nested)
    states = result.states()
    assert states["condition-1/condition-2/text"] == "SUCCEEDED"
    assert states["condition-1/condition-3"] == "SKIPPED"


def test_a_loop_over_constants(run):
    @dsl.component
    def area(w: int, h: int) -> int:
        return w * h

    @dsl.pipeline(name="constants")
    def constants():
        with dsl.ParallelFor([{"w": 1, "h": 2}, {"w": 3, "h": 4}]) as item:
            area(w=item.w, h=item.h)

    result = run(constants)
    assert [result.output(f"for-loop-2/{i}/area") for i in range(2)] == [2, 12]


def test_a_loop_over_an_output_collected(run):
    @dsl.component
    def items(n: int) -> List[int]:
        return list(range(n))

    @dsl.pipeline(name="collected")
    def collected(n: int = 5):
        with dsl.ParallelFor(items(n=n).output, parallelism=2) as item:
            doubled = number(n=item)
        total(xs=dsl.Collected(doubled.output))

    result = run(collected)
    assert result.output("total") == 10
    assert result.input("total", "xs") == [0, 1, 2, 3, 4]
    assert result["for-loop-1"]["type_attributes"]["iteration_count"] == 5
    empty = run(collected, {"n": 0})
    assert empty.state == "SUCCEEDED" and empty.output("total") == 0


def test_the_limit_of_a_loop_holds(run):
    @dsl.component
    def busy(i: int) -> Dict[str, float]:
        import time

        start = time.time()
        time.sleep(0.3)
        return {"start": start, "end": time.time()}

    @dsl.pipeline(name="limited")
    def limited():
        with dsl.ParallelFor([0, 1, 2, 3, 4, 5], parallelism=2) as item:
            busy(i=item)

    result = run(limited)
    spans = [result.output(f"for-loop-2/{i}/busy") for i in range(6)]
    most = max(sum(1 for other in spans if other["start"] <= span["start"] < other["end"]) for span in spans)
    assert most <= 2, spans


def test_nested_loops_collect_flat(run):
    @dsl.component
    def add(a: int, b: int) -> int:
        return a + b

    @dsl.pipeline(name="nested-loops")
    def nested():
        with dsl.ParallelFor([1, 2]) as i:
            with dsl.ParallelFor([10, 20]) as j:
                s = add(a=i, b=j)
        total(xs=dsl.Collected(s.output))

    result = run(nested)
    assert result.input("total", "xs") == [11, 21, 12, 22]
    assert result.output("total") == 66


def test_collected_artifacts(run):
    @dsl.component
    def make(out: Output[Dataset], i: int):
        open(out.path, "w").write(str(i * i))

    @dsl.component
    def join(parts: Input[List[Dataset]]) -> str:
        return ",".join(open(part.path).read() for part in parts)

    @dsl.pipeline(name="collected-artifacts")
    def collected():
        with dsl.ParallelFor([1, 2, 3]) as i:
            part = make(i=i)
        join(parts=dsl.Collected(part.outputs["out"]))

    assert run(collected).output("join") == "1,4,9"


def test_a_condition_in_a_loop(run):
    @dsl.pipeline(name="condition-in-loop")
    def pipeline():
        with dsl.ParallelFor([1, 2, 3]) as i:
            n = number(n=i)
            with dsl.If(n.output > 1):
                text(s="large")

    states = run(pipeline).states()
    assert [states[f"for-loop-2/{i}/condition-3"] for i in range(3)] == ["SKIPPED", "SUCCEEDED", "SUCCEEDED"]


def test_the_exit_task_learns_how_its_group_ended(run):
    @dsl.component
    def cleanup(status: PipelineTaskFinalStatus) -> Dict[str, str]:
        return {"state": status.state, "task": status.pipeline_task_name, "job": status.pipeline_job_resource_name,
                "message": status.error_message or ""}

    @dsl.pipeline(name="exit")
    def pipeline(bad: bool):
        with dsl.ExitHandler(cleanup()):
            number(n=1)
            with dsl.If(bad == True):  # noqa: E712
                fail(message="the reason")

    good = run(pipeline, {"bad": False})
    assert good.state == "SUCCEEDED"
    assert good.output("cleanup")["state"] == "COMPLETE"
    assert good.output("cleanup")["task"] == "exit-handler-1"
    assert good.output("cleanup")["job"].startswith("exit-")
    bad = run(pipeline, {"bad": True})
    assert bad.state == "FAILED"
    assert bad["cleanup"]["state"] == "SUCCEEDED"
    assert bad.output("cleanup")["state"] == "FAILED"
    assert "the reason" in bad.output("cleanup")["message"]


def test_ignore_upstream_failure(run):
    @dsl.component
    def maybe(s: str = "default") -> str:
        return s

    @dsl.component
    def broken() -> str:
        raise RuntimeError("no output")

    @dsl.pipeline(name="ignore")
    def pipeline():
        maybe(s=broken().output).ignore_upstream_failure()

    result = run(pipeline)
    assert result.state == "FAILED"
    assert result["broken"]["state"] == "FAILED"
    assert result.output("maybe") == "default"


def test_retries_with_backoff(run):
    @dsl.component
    def flaky(attempt: int) -> str:
        import os

        index = int(os.environ.get("KFP_RETRY_INDEX", "0"))
        if index < 2:
            raise RuntimeError(f"attempt {index}")
        return f"attempt {index}"

    @dsl.pipeline(name="retry")
    def pipeline():
        flaky(attempt=0).set_retry(3, backoff_duration="0s", backoff_factor=2)

    result = run(pipeline)
    assert result.state == "SUCCEEDED"
    assert result.output("flaky") == "attempt 2"
    assert result["flaky"]["attempt"] == 2


def test_retries_run_out(run):
    @dsl.pipeline(name="retry-fails")
    def pipeline():
        fail().set_retry(1, backoff_duration="0s")
        number(n=1).after()

    result = run(pipeline)
    assert result.state == "FAILED"
    assert result["fail"]["attempt"] == 1


def test_order_without_data(run):
    @dsl.component
    def now() -> float:
        import time

        return time.time()

    @dsl.pipeline(name="order")
    def pipeline():
        first = now()
        second = now().after(first)
        now().after(second)

    result = run(pipeline)
    times = [result.output(name) for name in ("now", "now-2", "now-3")]
    assert times == sorted(times)
