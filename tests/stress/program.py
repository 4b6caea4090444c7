"""The real program on a tiny model: started, watched and ended."""

import asyncio
import os
import pathlib
import resource
import signal
import socket
import subprocess
import tempfile
import time
import uuid

from client import HOST, Broken, ask

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TIERCEL_BINARY") or str(ROOT / "build" / "release" / "tiercel")
MODEL = str(ROOT / "tests" / "data" / "tiny-qwen3")


class Failed(Exception):
    """What a part of the stress test found."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def raise_open_files(wanted):
    """Lets this process, and so its children, open that many files; gives what it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)


class Program:
    """A running `tiercel serve`. `words` come before it on the command line (unshare, prlimit)."""

    def __init__(self, *flags, port=None, words=(), kv_cache="64M"):
        self.port = port or free_port()
        self.mark = f"TIERCEL_STRESS={uuid.uuid4()}"
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        name, value = self.mark.split("=")
        cache = ["--kv-cache-memory-bytes", kv_cache] if kv_cache else []
        self.process = subprocess.Popen(
            [*words, BINARY, "serve", MODEL, "--served-model-name", "tiny", "--host", HOST,
             "--port", str(self.port), "--load-format", "dummy", "--generation-config", "vllm",
             "--enable-request-id-headers", *cache, *flags],
            stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, name: value})

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def last_lines(self, count=5):
        return "\n".join(self.output().splitlines()[-count:])

    async def ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            check(self.process.poll() is None,
                  f"the program ended with {self.process.poll()}:\n{self.last_lines()}")
            try:
                if (await ask(self.port, "/health")).status == 200:
                    return self
            except (OSError, Broken):
                pass
            await asyncio.sleep(0.05)
        raise Failed(f"not ready after {seconds} s:\n{self.last_lines()}")

    async def ended(self, seconds=20):
        """The exit code, a negative signal number if one ended it."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise Failed(f"still running after {seconds} s:\n{self.last_lines()}")
            await asyncio.sleep(0.01)
        return self.process.returncode

    async def stop(self, seconds=20):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.ended(seconds)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def relatives(self):
        """Processes that this program, or a child of it, has started and that still run."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if self.mark.encode() in environment:
                found.append(int(folder.name))
        return found

    # ---- watching

    def _status(self, field):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise Failed(f"no {field} of process {self.process.pid}: it has ended\n{self.last_lines()}")

    def resident(self):
        return self._status("VmRSS")

    def peak_resident(self):
        return self._status("VmHWM")

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def metrics(self):
        """{'name{labels}': value} of every sample."""
        samples = {}
        for line in (await ask(self.port, "/metrics")).body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples


def total(samples, name, label=""):
    """The sum over a name's label sets that contain `label`."""
    return sum(value for key, value in samples.items()
               if key.split("{")[0] == name and label in key)


GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")


async def until_idle(program, seconds=10):
    """How long the gauges take to be 0."""
    start = time.monotonic()
    while True:
        samples = await program.metrics()
        left = {name: total(samples, name) for name in GAUGES if total(samples, name) != 0}
        if not left:
            return time.monotonic() - start
        check(time.monotonic() - start < seconds, f"not 0 after {seconds} s: {left}")
        await asyncio.sleep(0.02)
