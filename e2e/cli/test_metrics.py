"""What a scraper reads: on both ports, for those who may, in a form that Prometheus takes."""

import re

import harness
import requests

LINE = re.compile(r'^([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$')


def scrape(answer):
    """The samples by name and labels; fails on a line that is none."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    lines = answer.text.splitlines()
    assert lines[-1] == "# EOF"
    samples = {}
    for line in lines:
        if line.startswith("#"):
            continue
        found = LINE.match(line)
        assert found, line
        name = found[1] + (found[2] or "")
        assert name not in samples, f"{name} stands there twice"
        samples[name] = float(found[3])
    return samples


def of(samples, name, **labels):
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(value for key, value in samples.items() if key.split("{")[0] == name and all(one in key for one in wanted))


def test_both_ports_show_the_same_figures(platform):
    kube = platform.kube()
    kube.call("GET", "/api/v1/namespaces/default/pods")
    for _ in range(3):
        requests.get(platform.url + "/apis/v2beta1/runs", timeout=30)
    requests.get(platform.url + "/no/such/page", timeout=30)
    front = scrape(requests.get(platform.url + "/metrics", timeout=30))
    port = scrape(kube.call("GET", "/metrics"))
    assert set(front) <= set(port) | {name for name in front if "route=" in name}
    assert of(port, "kubeflow_requests_total", port="front", method="GET", route="/apis/v2beta1/runs", status="200") >= 3
    assert of(port, "kubeflow_requests_total", route="unmatched", status="404") >= 1
    assert of(port, "kubeflow_requests_total", port="kubernetes", route="/api/v1/pods", status="200") >= 1
    assert of(port, "kubeflow_request_duration_seconds_count", route="/apis/v2beta1/runs") >= 3
    assert not [name for name in port if "no/such" in name], "a client's path is no label"
    assert of(port, "kubeflow_store_revision") > 0
    assert of(port, "kubeflow_data_free_bytes") > 1e6
    assert 1e6 < of(port, "process_resident_memory_bytes") < 1e9
    assert of(port, "kubeflow_uptime_seconds") > 0
    [build] = [name for name in port if name.startswith("kubeflow_build_info")]
    assert 'version="' in build


def test_runs_and_steps_are_counted(platform, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    url = platform.url + "/metrics"
    before = scrape(requests.get(url, timeout=30))
    run = platform.run("pipeline", "run", str(path)).stdout.strip()

    def running():
        now = scrape(requests.get(url, timeout=30))
        return now if of(now, "kubeflow_steps_running") > of(before, "kubeflow_steps_running") else None

    during = harness.eventually(running, 60, "a step runs")
    assert of(during, "kubeflow_runs", state="running") == of(before, "kubeflow_runs", state="running") + 1
    assert of(during, "kubeflow_runs_unfinished") == of(before, "kubeflow_runs_unfinished") + 1
    platform.run("pipeline", "cancel", run)

    def canceled():
        now = scrape(requests.get(url, timeout=30))
        return of(now, "kubeflow_runs", state="canceled") == of(before, "kubeflow_runs", state="canceled") + 1

    harness.eventually(canceled, 60, "the run is canceled")


def test_figures_are_for_those_who_may(platform):
    stranger = {"Origin": "http://other.example"}
    assert requests.get(platform.url + "/metrics", headers=stranger, timeout=30).status_code == 401
    kube = platform.kube()
    asked = requests.get(kube.url + "/metrics", verify=kube.authority, timeout=30)
    assert (asked.status_code, asked.json()["reason"]) == (403, "Forbidden")


def test_each_answer_names_its_trace_and_no_secret_is_logged(tmp_path):
    with harness.platform_on(tmp_path / "data", environment={"KUBEFLOW_LOG": "debug,hyper=trace,h2=trace"}) as platform:
        token = platform.token()
        link = platform.run("token", "--link").stdout.strip().splitlines()[-1]
        secret = re.search(r"link=([^&]+)", link)[1]
        with requests.Session() as browser:
            assert browser.get(link, timeout=30).status_code == 200
            head = {"Origin": platform.url}
            signed = browser.post(platform.url + "/signin", data={"link": secret}, headers=head, timeout=30)
            assert signed.status_code == 200
            cookie = browser.cookies["kubeflow_session"]
        answer = requests.get(platform.url + "/apis/v2beta1/runs", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        kube = platform.kube()
        kube.call("GET", "/api/v1/nodes")
        log = platform.log.read_text(errors="replace")
        assert "link=" not in log, "a sign-in link is in the log"
        trace = answer.headers["x-trace-id"]
        assert [line for line in log.splitlines() if trace in line and "status" in line], "the request is in the log under its trace"
        for what, value in [("token", token), ("link", secret), ("cookie", cookie), ("kubeconfig's token", kube.token)]:
            assert value not in log, f"the {what} is in the log"


PIPELINE = """
pipelineInfo: {name: waits}
schemaVersion: 2.1.0
root: {dag: {tasks: {wait: {taskInfo: {name: wait}, componentRef: {name: comp-wait}}}}}
components: {comp-wait: {executorLabel: exec-wait}}
deploymentSpec: {executors: {exec-wait: {container: {image: alpine, command: [sleep, "600"]}}}}
"""
