#!/usr/bin/env python3
"""Drives an unchanged kubectl against an API server and checks what it prints.

  kubectl.py --kubeconfig FILE [--only apply,watch] [--kubectl kubectl]

Works in a namespace of its own, which it deletes at the end. Tests that need pods to run (marked `node`) say SKIPPED
where no node is Ready. Exits 1 when a test fails.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

TESTS = []
LIMIT_S = 60


class Skipped(Exception):
    pass


def test(function):
    TESTS.append(function)
    return function


def eventually(what, condition):
    """Waits for a condition; its last value is shown when it never comes true."""
    end, seen = time.monotonic() + LIMIT_S, None
    while time.monotonic() < end:
        seen = condition()
        if seen:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"not within {LIMIT_S} s: {what} (last seen {seen!r})")


class Kubectl:
    def __init__(self, program, kubeconfig, namespace, folder):
        self.program, self.namespace, self.folder = program, namespace, folder
        self.environment = {**os.environ, "KUBECONFIG": kubeconfig, "HOME": folder}

    def command(self, arguments):
        return [self.program, "-n", self.namespace, *arguments]

    def run(self, *arguments, stdin=None):
        return subprocess.run(self.command(arguments), input=stdin, text=True, capture_output=True, env=self.environment, timeout=LIMIT_S)

    def out(self, *arguments, stdin=None):
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def fails(self, *arguments, stdin=None):
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} did not fail: {done.stdout}"
        return done.stderr

    def apply(self, *objects):
        whole = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.out("apply", "-f", "-", stdin=json.dumps(whole))

    def start(self, *arguments):
        return subprocess.Popen(self.command(arguments), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment)

    def make_namespace(self):
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": self.namespace}}
        # A controller makes it; where none runs we do, and either of us may be first.
        self.run("create", "-f", "-", stdin=json.dumps(account))

    def needs_node(self):
        nodes = json.loads(self.out("get", "nodes", "-o", "json"))["items"]
        ready = [n for n in nodes for c in n.get("status", {}).get("conditions", []) if c["type"] == "Ready" and c["status"] == "True" and n["status"].get("nodeInfo", {}).get("kubeletVersion")]
        if not ready:
            raise Skipped("no node is Ready")


    def needs_controllers(self):
        if self.run("get", "cm", "kube-root-ca.crt").returncode != 0:
            raise Skipped("no controllers run")


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name, *command, **spec):
    container = {"name": "c", "image": "busybox:1.36", "command": list(command) or ["sh", "-c", "echo hello"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], **spec}}


def unplaced(name):
    """A pod that no node can take: it stays as the API made it."""
    return pod(name, nodeSelector={"no.example/such": "node"})


@test
def discovery(k):
    assert "Server Version: v1.37" in k.out("version")
    names = k.out("api-resources", "--no-headers")
    for line in ["configmaps", "events", "namespaces", "nodes", "pods", "secrets", "serviceaccounts"]:
        assert line in names, names
    assert k.out("get", "--raw", "/healthz") == "ok"
    assert "KIND:       Pod" in k.out("explain", "pod.spec.containers")


@test
def apply_three_ways(k):
    assert "configmap/a created" in k.apply(config_map("a", x="1"))
    assert "configmap/a unchanged" in k.apply(config_map("a", x="1"))
    assert "configmap/a configured" in k.apply(config_map("a", y="2"))
    assert json.loads(k.out("get", "cm", "a", "-o", "json"))["data"] == {"y": "2"}
    dry = k.apply(config_map("a", y="3"))
    assert "configured" in dry
    assert "configmap/a configured (server dry run)" in k.out("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(config_map("a", y="4")))
    assert json.loads(k.out("get", "cm", "a", "-o", "json"))["data"] == {"y": "3"}


@test
def a_mistake_is_refused_by_name(k):
    wrong = config_map("wrong", x="1")
    wrong["dataa"] = {}
    assert 'unknown field "dataa"' in k.fails("apply", "-f", "-", stdin=json.dumps(wrong))
    bad = pod("bad")
    bad["spec"]["containers"][0]["image"] = ""
    assert "spec.containers[0].image: Required value" in k.fails("create", "-f", "-", stdin=json.dumps(bad))
    assert '"nonesuch" not found' in k.fails("get", "pod", "nonesuch")
    assert "doesn't have a resource type" in k.fails("get", "nonesuches")


@test
def what_comes_later_is_refused_by_name(k):
    assert "protobuf" in k.fails("create", "configmap", "generated", "--from-literal=a=b")
    assert "server-side apply" in k.fails("apply", "--server-side", "-f", "-", stdin=json.dumps(config_map("ssa", a="b")))


@test
def every_output(k):
    k.apply(unplaced("out"))
    assert k.out("get", "pods", "out", "--no-headers").split()[:4] == ["out", "0/1", "Pending", "0"]
    wide = k.out("get", "pods", "out", "-o", "wide").splitlines()
    assert wide[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert k.out("get", "pods", "out", "-o", "name") == "pod/out\n"
    assert k.out("get", "pods", "out", "-o", "jsonpath={.spec.restartPolicy}") == "Never"
    assert "name: out" in k.out("get", "pods", "out", "-o", "yaml")
    assert json.loads(k.out("get", "pods", "out", "-o", "json"))["kind"] == "Pod"
    assert k.out("get", "pods", "out", "-o", "custom-columns=N:.metadata.name", "--no-headers").strip() == "out"
    assert "out" in k.out("get", "pods", "-l", "app=out", "--no-headers")
    assert "out" in k.out("get", "pods", "--field-selector", "status.phase=Pending", "--no-headers")
    described = " ".join(k.out("describe", "pod", "out").split())  # its columns' widths depend on what else there is
    for words in ["Name: out", "Status: Pending", "QoS Class: BestEffort"]:
        assert words in described, described


@test
def paging_and_sorting(k):
    k.apply(*[config_map(f"page{n}", n=str(n)) for n in range(5)])
    names = k.out("get", "cm", "--chunk-size=2", "-o", "name").split()
    assert [n for n in names if "page" in n] == [f"configmap/page{n}" for n in range(5)], names
    assert "page4" in k.out("get", "cm", "--sort-by=.metadata.name", "--no-headers")


@test
def label_annotate_patch(k):
    k.apply(config_map("p", x="1"))
    assert "labeled" in k.out("label", "cm", "p", "tier=one")
    assert "annotated" in k.out("annotate", "cm", "p", "note=two")
    k.out("patch", "cm", "p", "-p", '{"data":{"y":"2"}}')
    k.out("patch", "cm", "p", "--type=merge", "-p", '{"data":{"x":null}}')
    k.out("patch", "cm", "p", "--type=json", "-p", '[{"op":"add","path":"/data/z","value":"3"}]')
    found = json.loads(k.out("get", "cm", "p", "-o", "json"))
    assert found["data"] == {"y": "2", "z": "3"} and found["metadata"]["labels"] == {"tier": "one"}
    assert "no change" in k.out("patch", "cm", "p", "-p", '{"data":{"y":"2"}}')


@test
def replace_and_create(k):
    assert "created" in k.out("create", "-f", "-", stdin=json.dumps(config_map("r", x="1")))
    assert "already exists" in k.fails("create", "-f", "-", stdin=json.dumps(config_map("r", x="1")))
    assert "replaced" in k.out("replace", "-f", "-", stdin=json.dumps(config_map("r", x="2")))
    assert k.out("get", "cm", "r", "-o", "jsonpath={.data.x}") == "2"


@test
def watching(k):
    watch = k.start("get", "cm", "-w", "-o", "name")
    try:
        time.sleep(0.5)
        k.apply(config_map("seen", x="1"))
        eventually("the watch prints the new object", lambda: "configmap/seen" in watch.stdout.readline())
    finally:
        watch.kill()
        watch.communicate()


@test
def waiting(k):
    k.apply(unplaced("w"))
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    waits = k.start("wait", "--for=condition=Ready", "pod/w", f"--timeout={LIMIT_S}s")
    k.out("patch", "pod", "w", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    out, err = waits.communicate(timeout=LIMIT_S)
    assert "condition met" in out, err
    waits = k.start("wait", "--for=delete", "pod/w", f"--timeout={LIMIT_S}s")
    k.out("delete", "pod", "w")
    out, err = waits.communicate(timeout=LIMIT_S)
    assert waits.returncode == 0, err


@test
def deleting(k):
    k.apply(config_map("d1", x="1"), config_map("d2", x="1"))
    k.out("label", "cm", "d1", "d2", "gone=yes")
    deleted = k.out("delete", "cm", "-l", "gone=yes")
    assert 'configmap "d1" deleted' in deleted and 'configmap "d2" deleted' in deleted
    held = config_map("held", x="1")
    held["metadata"]["finalizers"] = ["x.example/hold"]
    k.apply(held)
    going = k.start("delete", "cm", "held")
    eventually("it is marked", lambda: k.out("get", "cm", "held", "-o", "jsonpath={.metadata.deletionTimestamp}"))
    k.out("patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    going.communicate(timeout=LIMIT_S)
    assert going.returncode == 0
    assert "not found" in k.fails("get", "cm", "held")


def owned(k, name, owner):
    """A ConfigMap that another one owns."""
    uid = k.out("get", "cm", owner, "-o", "jsonpath={.metadata.uid}")
    child = config_map(name, x="1")
    child["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": True}]
    k.apply(child)


def is_gone(k, name):
    return lambda: k.run("get", "cm", name).returncode != 0


@test
def dependents_go_with_their_owner(k):
    k.needs_controllers()
    for policy in ["background", "foreground"]:
        k.apply(config_map("owner", x="1"))
        owned(k, "child", "owner")
        k.out("delete", "cm", "owner", f"--cascade={policy}")
        eventually(f"the child goes with {policy} deletion", is_gone(k, "child"))


@test
def orphans_stay(k):
    k.needs_controllers()
    k.apply(config_map("parent", x="1"))
    owned(k, "orphan", "parent")
    k.out("delete", "cm", "parent", "--cascade=orphan")
    eventually("the parent goes", is_gone(k, "parent"))
    assert k.out("get", "cm", "orphan", "-o", "jsonpath={.metadata.ownerReferences}") == ""


@test
def a_namespace_ends_with_all_that_is_in_it(k):
    k.needs_controllers()
    name = k.namespace + "-ends"
    k.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    inside = config_map("a", x="1")
    inside["metadata"]["namespace"] = name
    k.out("-n", name, "create", "-f", "-", stdin=json.dumps(inside))
    eventually("its service account", lambda: k.run("-n", name, "get", "sa", "default").returncode == 0)
    k.out("delete", "namespace", name)
    assert "not found" in k.fails("get", "namespace", name)
    assert "not found" in k.fails("-n", name, "create", "-f", "-", stdin=json.dumps(inside))


@test
def a_pod_runs_to_its_end(k):
    k.needs_node()
    k.apply(pod("runs", "sh", "-c", "echo one; echo two; exit 0"))
    k.out("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/runs", f"--timeout={LIMIT_S}s")
    assert k.out("logs", "runs") == "one\ntwo\n"
    assert k.out("logs", "runs", "--tail=1") == "two\n"
    assert "Completed" in k.out("get", "pod", "runs", "--no-headers")
    described = eventually("events of the pod", lambda: (lambda d: d if "Scheduled" in d else "")(k.out("describe", "pod", "runs")))
    assert "Started" in described, described


@test
def an_exit_code_is_shown(k):
    k.needs_node()
    k.apply(pod("fails", "sh", "-c", "echo no; exit 7"))
    k.out("wait", "--for=jsonpath={.status.phase}=Failed", "pod/fails", f"--timeout={LIMIT_S}s")
    code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
    assert k.out("get", "pod", "fails", "-o", code) == "7"


@test
def logs_are_followed_and_a_running_pod_is_deleted(k):
    k.needs_node()
    k.apply(pod("long", "sh", "-c", "echo first; while true; do sleep 0.2; echo more; done"))
    k.out("wait", "--for=condition=Ready", "pod/long", f"--timeout={LIMIT_S}s")
    follow = k.start("logs", "-f", "long")
    assert follow.stdout.readline() == "first\n"
    assert follow.stdout.readline() == "more\n"
    k.out("delete", "pod", "long", "--grace-period=1")
    follow.communicate(timeout=LIMIT_S)
    assert "not found" in k.fails("get", "pod", "long")


@test
def a_pod_that_fits_nowhere_says_so(k):
    k.needs_node()
    k.apply(pod("huge", containers=[{"name": "c", "image": "busybox", "resources": {"requests": {"cpu": "100000"}}}]))
    eventually("FailedScheduling", lambda: "Insufficient cpu" in k.out("describe", "pod", "huge"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG"))
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--only", type=lambda text: text.split(","))
    options = parser.parse_args()
    program = shutil.which(options.kubectl)
    if not program:
        print("SKIPPED: no kubectl on PATH")
        return 0
    failed, namespace = 0, f"kubectl-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        k = Kubectl(program, os.path.abspath(options.kubeconfig), namespace, folder)
        k.make_namespace()
        for function in TESTS:
            if options.only and function.__name__ not in options.only:
                continue
            started = time.monotonic()
            try:
                function(k)
                result = "ok"
            except Skipped as why:
                result = f"SKIPPED: {why}"
            except Exception:
                failed += 1
                result = "FAILED\n" + traceback.format_exc()
            print(f"{function.__name__:50} {result}  ({time.monotonic() - started:.1f} s)", flush=True)
        k.run("delete", "namespace", namespace, "--wait=false")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
