#!/usr/bin/env python3
"""From the POST of a pod to the event that says Running, through the HTTPS API; and beside it a fork and exec."""

import json
import os
import subprocess
import threading
import time

import measuring

COUNT = int(os.environ.get("COUNT", "50"))


def main():
    row = measuring.Row("pod create to Running")
    with measuring.platform() as platform:
        kube = platform.kube()
        seen, wake = {}, threading.Condition()

        def follow():
            path = "/api/v1/namespaces/default/pods?watch=true&timeoutSeconds=600"
            with platform.kube().session.get(kube.url + path, stream=True, timeout=600) as answer:
                for line in answer.iter_lines(chunk_size=None):
                    at, event = time.perf_counter(), json.loads(line)
                    pod = event["object"]
                    with wake:
                        key = (pod["metadata"]["name"], pod["status"].get("phase"))
                        seen.setdefault(key, at)
                        wake.notify_all()

        threading.Thread(target=follow, daemon=True).start()

        def wait(name, phases):
            with wake:
                found = wake.wait_for(lambda: next((seen[(name, one)] for one in phases if (name, one) in seen), None), 30)
            assert found, f"{name} was not {phases} in 30 s"
            return found

        taken, fork = [], []
        for n in range(COUNT + 3):
            name = f"bench-{n}"
            started = time.perf_counter()
            kube.pod(name, "busybox", ["sleep", "600"], terminationGracePeriodSeconds=0)
            found = (wait(name, ["Running"]) - started) * 1000
            kube.call("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")
            if n >= 3:
                taken.append(found)
            started = time.perf_counter()
            subprocess.run(["true"], check=True)
            fork.append((time.perf_counter() - started) * 1000)
        row.figure("create to Running, p50", measuring.percentile(taken, 0.5), "ms", 50)
        row.say(measuring.in_numbers(taken))
        row.say(f"a process alone, forked and ended: {measuring.in_numbers(fork)}; a real kubelet with containerd: 630 ms")
    row.end()


if __name__ == "__main__":
    main()
