"""The real program on a tiny random model."""

import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import openai
import requests

from tiny_model import BINARY, MODEL, NAME


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running `tiercel serve`; its log is shown when it does not come up."""

    def __init__(self, *flags, env=None, model=MODEL, wait=True):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        command = [BINARY, "serve", str(model), "--served-model-name", NAME, "--host", "127.0.0.1",
                   "--port", str(self.port), "--kv-cache-memory-bytes", "256M",
                   "--load-format", "dummy", *flags]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT,
                                        env={**os.environ, **(env or {})})
        if wait:
            self.wait_until_healthy()

    def wait_until_healthy(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(self.url + "/health", timeout=2).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the server did not come up:\n{self.output()}")

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def client(self, **options):
        options.setdefault("api_key", "none")
        options.setdefault("max_retries", 0)
        return openai.OpenAI(base_url=self.url + "/v1", **options)

    def post(self, path, body, **options):
        return requests.post(self.url + path, json=body, timeout=60, **options)

    def complete(self, prompt="Hello", **fields):
        """The whole answer of /v1/completions, greedy unless told."""
        body = {"model": NAME, "prompt": prompt, "temperature": 0, **fields}
        response = self.post("/v1/completions", body)
        assert response.status_code == 200, response.text
        return response.json()

    def tokens(self, text):
        return self.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"]

    def metrics(self):
        """{'name{labels}': value} of every sample."""
        samples = {}
        for line in requests.get(self.url + "/metrics", timeout=10).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def metric(self, name):
        """The sum over a name's label sets."""
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name)

    def wait_for_metric(self, name, value, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.metric(name) == value:
                return
            time.sleep(0.02)
        raise AssertionError(f"{name} is {self.metric(name)}, expected {value}")

    def stop(self, sig=signal.SIGTERM, seconds=20):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
