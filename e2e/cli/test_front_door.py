"""The front door as an attacker tries it: what is refused, and what an answer carries."""

import os
import re
import stat
import subprocess

import harness
import pytest
import requests

API = "/apis/v2beta1/runs"


def curl(*words):
    """The status of an answer, by a client that speaks HTTP/2 without TLS."""
    words = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{http_version}", *words]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def test_http2_without_tls_is_judged_by_its_authority(platform):
    ask = ["--http2-prior-knowledge", platform.url + API]
    if "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout:
        pytest.skip("SKIPPED: this curl speaks no HTTP/2")
    assert curl(*ask) == "200 2"
    assert curl("--header", "Host: evil.example", *ask) == "401 2"
    assert curl("--header", "Origin: http://evil.example", *ask) == "401 2"


def test_a_second_name_of_the_host_is_not_overlooked(platform):
    import socket

    host, port = platform.listen.split(":")
    for head in [
        "GET http://evil.example/apis/v2beta1/runs HTTP/1.1\r\nHost: localhost\r\n",
        "GET /apis/v2beta1/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n",
    ]:
        with socket.create_connection((host, int(port)), timeout=20) as stream:
            stream.sendall((head + "Connection: close\r\n\r\n").encode())
            status = stream.recv(4096).split(b" ", 2)[1]
        assert status in (b"400", b"401"), head


def test_identities_that_a_client_claims_are_not_believed(platform):
    for name in ["Kubeflow-UserId", "X-Remote-User", "Impersonate-User", "X-Forwarded-User"]:
        head = {"Origin": "http://other.example", name: "admin"}
        assert requests.get(platform.url + API, headers=head, timeout=30).status_code == 401


def sign_in(platform):
    browser = requests.Session()
    link = platform.run("token", "--link").stdout.strip().splitlines()[-1]
    secret = re.search(r"link=([^&]+)", link)[1]
    own = {"Origin": platform.url}
    answer = browser.post(platform.url + "/signin", data={"link": secret}, headers=own, allow_redirects=False, timeout=30)
    assert answer.status_code == 303
    return browser, answer


def test_a_session_is_the_browsers_alone_and_writes_come_from_our_pages(platform):
    browser, answer = sign_in(platform)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    body = {"display_name": "made by a page"}
    url = platform.url + "/apis/v2beta1/experiments"
    for head in [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}]:
        assert browser.post(url, json=body, headers=head, timeout=30).status_code == 403, head
    assert browser.post(url, json=body, headers={"Origin": platform.url}, timeout=30).status_code == 200


def test_no_other_page_signs_a_browser_in(platform):
    link = platform.run("token", "--link").stdout.strip().splitlines()[-1]
    secret = re.search(r"link=([^&]+)", link)[1]
    forged = requests.post(platform.url + "/signin", data={"link": secret}, headers={"Origin": "http://evil.example"}, timeout=30)
    assert forged.status_code == 403 and "set-cookie" not in forged.headers


def test_signing_in_again_ends_the_session_that_the_browser_had(platform):
    browser, _ = sign_in(platform)
    old = browser.cookies["kubeflow_session"]
    secret = re.search(r"link=([^&]+)", platform.run("token", "--link").stdout.strip().splitlines()[-1])[1]
    browser.post(platform.url + "/signin", data={"link": secret}, headers={"Origin": platform.url}, timeout=30)
    assert browser.cookies["kubeflow_session"] != old
    asked = requests.get(platform.url + API, cookies={"kubeflow_session": old}, timeout=30)
    assert asked.status_code == 401


def test_answers_say_what_a_browser_may_do_with_them(platform):
    for path in [API, "/healthz", "/metrics", "/signin", "/ns/kubeflow/runs", "/no/such/page"]:
        head = requests.get(platform.url + path, timeout=30).headers
        assert head["x-content-type-options"] == "nosniff", path
        assert head["referrer-policy"] == "no-referrer", path
        assert head["content-security-policy"].startswith("default-src 'none'"), path
        assert "no-store" in head["cache-control"] or "no-cache" in head["cache-control"], path
        assert re.fullmatch("[0-9a-f]{32}", head["x-trace-id"]), path


def test_guessing_tokens_ends_soon_and_locks_nobody_out(tmp_path):
    with harness.platform_on(tmp_path / "data") as platform:
        url, own = platform.url + "/signin", {"Origin": platform.url}
        statuses = [requests.post(url, data={"token": f"kubeflow_{n}"}, headers=own, timeout=30).status_code for n in range(25)]
        assert statuses[0] == 422 and statuses[-1] == 429
        right = requests.post(url, data={"token": platform.token()}, headers=own, allow_redirects=False, timeout=30)
        assert right.status_code == 303


def test_what_holds_secrets_is_for_its_owner(platform):
    platform.run("kubeconfig")
    for name, mode in [("", 0o700), ("control.sock", 0o600), ("tls/kubeconfig", 0o600), ("tls/ca.key", 0o600), ("tls/server.key", 0o600)]:
        found = stat.S_IMODE(os.stat(platform.folder / name).st_mode)
        assert found == mode, f"{name or 'the data folder'}: {found:o}"


def test_a_read_only_home_is_no_obstacle(tmp_path):
    home = {"HOME": "/proc/self", "KUBECONFIG": ""}
    with harness.platform_on(tmp_path / "data", environment=home) as platform:
        assert platform.json("status")["platform"]["version"]
    said = subprocess.run([harness.BINARY, "up", "--data-dir", "/proc/self/data", "--detach"], capture_output=True, text=True, timeout=60)
    assert said.returncode == 1 and "--data-dir" in said.stderr, said.stderr


def test_a_server_that_cannot_be_trusted_or_read_is_told_so(platform):
    said = platform.run("pipeline", "list", "--server", f"https://{platform.kube_listen}", "--token", "x", check=False)
    assert said.returncode == 1 and "SSL_CERT_FILE" in said.stderr
    said = platform.run("pipeline", "list", "--server", "kubeflow.example", check=False)
    assert said.returncode == 1 and "must look like" in said.stderr
    said = platform.run("status", "--server", platform.url, check=False)
    assert said.returncode == 1 and "--server" in said.stderr
    listed = platform.run("pipeline", "list", "--server", platform.url, "--token", platform.token())
    assert listed.stdout.startswith("NAME")
