#!/usr/bin/env python3
"""Replays recorded requests against an API server and compares its answers with those of a real one.

  replay.py --base http://127.0.0.1:18080 --token T [--only errors,lists] [--show 20] [--at-least 90]

Prints equal/different by file; exits 1 when fewer than --at-least percent are equal. Needs only Python's library. The
server must be empty and alone: no controllers, no node. README.md says what the files hold and which rows count.
"""
import argparse
import gzip
import http.client
import json
import os
import re
import sys
import threading
import time
import urllib.parse

FOLDER = os.path.dirname(os.path.abspath(__file__))
FILES = ["discovery", "kinds", "tables", "errors", "lists", "watch", "patches"]
HEADERS = ["content-type", "warning", "retry-after", "vary", "location"]

# What a placeholder in a recorded answer stands for. Numbered ones must stand for the same value within a row.
PLACEHOLDERS = {
    "uid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "rv": r"\d+",
    "gen": r"[bcdfghjklmnpqrstvwxz2456789]{5}",
    "rand": r"[bcdfghjklmnpqrstvwxz2456789]{5}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d|Z(?=07:00))",
    "microtime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z",
    "age": r"\d+[smhdy](?:\d+[smhd])?",
    "continue": r".+",
    "text": r".+",
    "etag": r"\".+\"",
    "present": r".+",
    "host": r".+",
    "id": r"[0-9a-f]{64}",
    "event": r"[0-9a-f]{16}",
}
PLACEHOLDER = re.compile(r"<(%s)(-\d+)?>" % "|".join(PLACEHOLDERS))


def dig(value, *path):
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


# -- some answers were recorded shortened: the same shortening, by file and id ------------------------------------------
def kind(body):
    return body.get("kind")


def fields(*names):
    return lambda body: {name: body.get(name) for name in names}


def names_of(body):
    if not isinstance(body, dict) or "items" not in body:
        return body
    return {"kind": body.get("kind"), "metadata": body.get("metadata"), "names": [i["metadata"]["name"] for i in body["items"]]}


def after_delete(body):
    if body.get("kind") == "Status":
        return fields("kind", "status", "reason", "message", "details", "code")(body)
    return {"still there": True, "deletionTimestamp": "deletionTimestamp" in body["metadata"], "finalizers": body["metadata"].get("finalizers")}


def metadata_keys(body):
    return {name: sorted(value) if name == "metadata" else value for name, value in body.items()}


def finalizers(body):
    return dig(body, "metadata", "finalizers") if dig(body, "metadata") else body


def slim_event(event):
    shown = event.get("object", {}) if isinstance(event, dict) else {}
    whole = not isinstance(event, dict) or shown.get("kind") in ("Status", "Table") or event.get("type") in (None, "BOOKMARK")
    if whole or "metadata" not in shown:
        return event
    metadata = shown["metadata"]
    return {"type": event["type"], "name": metadata.get("name"), "resourceVersion": metadata.get("resourceVersion"),
            "labels": metadata.get("labels"), "keys": sorted(shown)}


SHAPES = [
    ("discovery", r"get /version", sorted),
    ("discovery", r"aggregated gzip.*", lambda body: "<same>"),
    ("kinds", r"metadata .*", metadata_keys),
    ("kinds", r"list kind .*", lambda b: {"kind": b.get("kind"), "apiVersion": b.get("apiVersion"), "itemKeys": sorted(b["items"][0]) if b.get("items") else None}),
    ("kinds", r"label patch .*", lambda b: {"generation": dig(b, "metadata", "generation"), "labels": dig(b, "metadata", "labels")}),
    ("kinds", r"status get .*", kind),
    ("kinds", r"get after delete .*", after_delete),
    ("tables", r"table paging", lambda b: {"metadata": b["metadata"], "rows": len(b["rows"])}),
    ("tables", r"accept cbor", lambda b: "<any>"),
    ("tables", r"pod table row .*", lambda b: {"cells": b["rows"][0]["cells"], "conditions": b["rows"][0].get("conditions")}),
    ("errors", r"anonymous version", lambda b: b.get("kind", "<version>")),
    ("errors", r"pod image change allowed", lambda b: {"generation": dig(b, "metadata", "generation"), "image": b["spec"]["containers"][0]["image"]}),
    ("errors", r"pod ephemeral containers", lambda b: dig(b, "spec", "ephemeralContainers") or b),
    ("errors", r"pod spec through status ignored", lambda b: {"nodeName": b["spec"].get("nodeName"), "message": b["status"].get("message"), "labels": b["metadata"].get("labels"), "annotations": b["metadata"].get("annotations")}),
    ("errors", r"pod status through main ignored", lambda b: dig(b, "status", "message")),
    ("errors", r"watch sendInitialEvents no bookmarks", lambda b: b if isinstance(b, dict) else "<stream>"),
    ("errors", r"watch continue", lambda b: b if isinstance(b, dict) and b.get("kind") == "Status" else "<stream>"),
    ("errors", r"namespace finalize|unknown finalizer removal", kind),
    ("errors", r"spec change while deleting", lambda b: b.get("data")),
    ("lists", r"delete collection", lambda b: {**names_of(b), "itemKeys": sorted(b["items"][0]) if b.get("items") else None}),
    ("lists", r"all namespaces order.*", lambda b: [i["metadata"]["name"] for i in b["items"]]),
    ("lists", r"delete (?!collection$).*", None),
    ("lists", r".*", names_of),
    ("watch", r"list before", lambda b: {"metadata": b["metadata"], "items": [{"name": i["metadata"]["name"], "resourceVersion": i["metadata"]["resourceVersion"]} for i in b["items"]]}),
    ("patches", r"finalizers create", lambda b: b["metadata"]["finalizers"]),
    ("patches", r"strategic primitive.*|strategic \$deleteFrom.*|strategic \$setElementOrder.*|merge primitive.*", finalizers),
    ("patches", r"csa create", lambda b: b["metadata"]["managedFields"]),
]


def shaped(name, row, body, was):
    if name == "kinds" and row["id"].startswith("no-op put"):
        return {"resourceVersion unchanged": dig(body, "metadata", "resourceVersion") == was, "generation": dig(body, "metadata", "generation")}
    if name == "errors" and row["id"] == "finalizer added while deleting":
        return kind(body)
    for file, pattern, shape in SHAPES:
        if file == name and re.fullmatch(pattern, row["id"]):
            return shape(body) if shape else body
    return body


# -- comparison ---------------------------------------------------------------------------------------------------------
class Comparison:
    """Compares an answer with a recorded one and learns what its placeholders stand for."""

    def __init__(self):
        self.bound, self.differences = {}, []

    def differ(self, path, golden, answer):
        self.differences.append((path, golden, answer))

    def bind(self, key, value):
        if self.bound.get(key, value) != value or any(v == value and k != key for k, v in self.bound.items() if k[0] == key[0]):
            return False
        self.bound[key] = value
        return True

    def text(self, golden, answer, path):
        pattern, keys, at = "", [], 0
        for match in PLACEHOLDER.finditer(golden):
            pattern += re.escape(golden[at:match.start()]) + "(" + PLACEHOLDERS[match.group(1)] + ")"
            keys.append((match.group(1), match.group(2)))
            at = match.end()
        pattern += re.escape(golden[at:])
        found = re.fullmatch(pattern, answer, re.S)
        if not found or not all(self.bind(k, v) for k, v in zip(keys, found.groups()) if k[1]):
            self.differ(path, golden, answer)

    def value(self, golden, answer, path=""):
        if isinstance(golden, str) and isinstance(answer, str):
            self.text(golden, answer, path)
        elif type(golden) is not type(answer):
            self.differ(path, golden, answer)
        elif isinstance(golden, dict):
            for name in sorted(set(golden) | set(answer)):
                if name in golden and name in answer:
                    self.value(golden[name], answer[name], f"{path}.{name}")
                else:
                    self.differ(f"{path}.{name}", golden.get(name, "<absent>"), answer.get(name, "<absent>"))
        elif isinstance(golden, list):
            if len(golden) != len(answer):
                self.differ(f"{path}.length", len(golden), len(answer))
            for at, (left, right) in enumerate(zip(golden, answer)):
                self.value(left, right, f"{path}[{at}]")
        elif golden != answer:
            self.differ(path, golden, answer)


def unordered(body):
    """Several causes come in no fixed order from a real server: compare them sorted, and the text up to its list."""
    causes = dig(body, "details", "causes")
    if isinstance(causes, list) and len(causes) > 1:
        body = json.loads(json.dumps(body))
        body["details"]["causes"].sort(key=lambda c: (c.get("field", ""), c.get("message", "")))
        body["message"] = re.split(r"[\[\n]", body.get("message", ""))[0]
    return body


def last_bookmarks(events):
    """How many plain bookmarks come is a matter of time: a run of them counts once."""
    out = []
    for event in events:
        plain = isinstance(event, dict) and event.get("type") == "BOOKMARK" and not dig(event, "object", "metadata", "annotations")
        if plain and out and out[-1][1]:
            out[-1] = (event, True)
        else:
            out.append((event, plain))
    return [event for event, _ in out]


# -- requests -----------------------------------------------------------------------------------------------------------
class Server:
    def __init__(self, base, token):
        self.url, self.token = urllib.parse.urlparse(base), token

    def connect(self, timeout):
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        if self.url.scheme == "https":
            import ssl
            return kind(self.url.netloc, timeout=timeout, context=ssl._create_unverified_context())
        return kind(self.url.netloc, timeout=timeout)

    def send(self, request, timeout=30):
        headers = {"Accept": "application/json", "User-Agent": "recorder", "Authorization": f"Bearer {self.token}"}
        body = request.get("body")
        if body is not None:
            headers["Content-Type"] = "application/json"
            if not isinstance(body, str):
                body = json.dumps(body)
        for name, value in request.get("headers", {}).items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = value
        if headers.get("Content-Type") == "":
            del headers["Content-Type"]
        connection = self.connect(timeout)
        connection.request(request["method"], request["path"], body.encode() if body is not None else None, headers)
        return connection, connection.getresponse()

    def answer(self, request):
        connection, response = self.send(request)
        data = response.read()
        connection.close()
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = data.decode("utf8", "replace")
        headers = {}
        for name, value in response.getheaders():
            headers[name.lower()] = headers[name.lower()] + ", " + value if name.lower() in headers else value
        return response.status, headers, body

    def watch(self, spec, during):
        """Reads one watch to its end while `during` writes."""
        path = spec["path"] + ("&" if "?" in spec["path"] else "?") + f"timeoutSeconds={spec['seconds']}"
        request = {"method": "GET", "path": path, "headers": {"Accept": spec["accept"], "User-Agent": None}}
        connection, response = self.send(request, spec["seconds"] + 30)
        events = []

        def read():
            for line in response:
                events.append(json.loads(line))

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.4)
        during()
        reader.join()
        connection.close()
        encoding = response.getheader("transfer-encoding")
        return {"events": last_bookmarks(events), "status": response.status, "content-type": response.getheader("content-type"), "te": encoding}


class Replay:
    def __init__(self, server, name):
        self.server, self.name = server, name
        self.learned, self.tokens = {}, {}
        self.last = (None, None)

    def fill(self, value):
        """Puts what was learned into a request: {rv-3|17} is the value of <rv-3>, or 17 if it never came up."""
        if isinstance(value, dict):
            return {k: self.fill(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(v) for v in value]
        if not isinstance(value, str):
            return value
        value = re.sub(r"\{continue:([^}]+)\}", lambda m: urllib.parse.quote(self.tokens.get(m.group(1), "")), value)
        return re.sub(r"\{(uid|rv|gen)(-\d+)\|([^}|]*)\}", lambda m: self.learned.get((m.group(1), m.group(2)), m.group(3)), value)

    def row(self, row):
        comparison = Comparison()
        request = self.fill(row["req"])
        if "body" in row["req"] and "Content-Type" not in request.get("headers", {}) and "content type none" == row["id"]:
            request.setdefault("headers", {})["Content-Type"] = None
        if request.get("body") == "{current}":  # what is there, unchanged
            request["body"] = self.server.answer({"method": "GET", "path": request["path"]})[2]
        was = dig(request, "body", "metadata", "resourceVersion") if isinstance(request.get("body"), dict) else None
        status, headers, body = self.server.answer(request)
        token = dig(body, "metadata", "continue")
        if token:
            self.tokens[row["id"]] = token
        golden = row["res"]
        comparison.value(golden["status"], status, "status")
        for name in HEADERS:
            if name in golden["headers"]:
                comparison.value(golden["headers"][name], headers.get(name, "<absent>"), name)
        try:
            found = shaped(self.name, row, body, was)
        except (AttributeError, KeyError, IndexError, TypeError):
            found = body
        comparison.value(unordered(golden["body"]), unordered(found), "body")
        self.same_version(comparison, golden["body"], found)
        return comparison

    def same_version(self, comparison, golden, found):
        """A write that changes nothing keeps the version of the row before."""
        recorded, answered = dig(golden, "metadata", "resourceVersion"), dig(found, "metadata", "resourceVersion")
        before = self.last
        if recorded is not None or answered is not None:
            if before[0] is not None and (recorded == before[0]) != (answered == before[1]):
                comparison.differ("version is that of the row before", recorded == before[0], answered == before[1])
            self.last = (recorded, answered)

    def watched(self, row):
        comparison = Comparison()
        spec = self.fill(row["watch"])
        found = self.server.watch(spec, lambda: [self.server.answer(self.fill(r)) for r in row["during"]])
        whole = any("keys" not in e and e.get("type") != "BOOKMARK" for e in row["value"]["events"] if isinstance(e, dict))
        if not whole:
            found["events"] = [slim_event(e) for e in found["events"]]
        comparison.value(row["value"], found, "watch")
        return comparison

    def run(self):
        with gzip.open(os.path.join(FOLDER, "golden", self.name + ".jsonl.gz"), "rt") as lines:
            for step in map(json.loads, lines):
                if "do" in step:
                    self.server.answer(self.fill(step["do"]))
                    continue
                comparison = self.watched(step) if "watch" in step else self.row(step)
                for key, value in comparison.bound.items():
                    self.learned.setdefault(key, value)
                yield step["id"], comparison.differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), default=FILES)
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--at-least", type=float, default=90)
    options = parser.parse_args()
    with open(os.path.join(FOLDER, "rows.txt")) as lines:
        counted = {tuple(line.rstrip("\n").split("\t")) for line in lines}
    server, all_equal, total, shown = Server(options.base, options.token), 0, 0, 0
    for name in options.only:
        equal = rows = 0
        for row, differences in Replay(server, name).run():
            if (name, row) not in counted:
                continue
            rows += 1
            equal += not differences
            if differences and shown < options.show:
                shown += 1
                print(f"{name}: {row}")
                for path, golden, answer in differences[:4]:
                    print(f"   {path}\n     recorded {json.dumps(golden)[:300]}\n     answered {json.dumps(answer)[:300]}")
        print(f"{name:10} {equal:4} equal {rows - equal:4} different")
        all_equal, total = all_equal + equal, total + rows
    percent = 100 * all_equal / max(total, 1)
    print(f"{'all':10} {all_equal:4} equal {total - all_equal:4} different  {percent:.1f} %")
    sys.exit(percent < options.at_least)


if __name__ == "__main__":
    main()
