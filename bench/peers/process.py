"""Processes that the comparison starts: servers, and a busy neighbor."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS = 900


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(pid):
    """The process and all below it."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


class Server:
    def __init__(self, command, environment, log):
        self.begin = time.perf_counter()
        # A group of its own, to end it with its children; the session stays, with its share of the cores.
        self.process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log,
                                        env={**os.environ, **environment}, preexec_fn=os.setpgrp)

    def wait_for_token(self, port, model):
        """Seconds from the command to the first answered request."""
        body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1, "stream": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body,
                                         {"Content-Type": "application/json"})
        while time.perf_counter() - self.begin < START_SECONDS:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}")
            try:
                with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
                    response.read()
                return time.perf_counter() - self.begin
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
        raise RuntimeError(f"the server did not answer within {START_SECONDS} s")

    def peak_megabytes(self):
        """Of the process and its children, each at its own peak."""
        kib = 0
        for pid in descendants(self.process.pid):
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if match := re.search(r"VmHWM:\s+(\d+)", status):
                kib += int(match[1])
        return kib * 1024 / 1e6

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class BusyNeighbor:
    """A process that never waits, bound to one core: the kernel gives it half of that core."""

    def __enter__(self):
        cpu = max(os.sched_getaffinity(0))
        # It ends with this process, however that ends.
        loop = f"while kill -0 {os.getpid()}; do :; done"
        self.process = subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", loop])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
