"""A model over several processes: ranks and stages, on one machine's loopback, by flags and by mpirun."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import requests

from serving import Server, free_port
from tiny_model import BINARY, MODEL, NAME

ENDS = 30  # seconds for all to end: they take a fraction of one, but for one that hangs


class Job:
    """Process 0 is a Server, the others are started with it."""

    def __init__(self, count, *flags, others=(), wait=True, timeout="60"):
        port = str(free_port())
        self.flags = ["--nnodes", str(count), "--master-port", port, "--distributed-timeout-seconds", timeout, *flags]
        self.first = Server(*self.flags, "--node-rank", "0", wait=False)
        self.others = [Server(*(others or self.flags), "--node-rank", str(i), "--headless", wait=False)
                       for i in range(1, count)]
        self.all = [self.first, *self.others]
        if wait:
            self.first.wait_until_healthy()

    def wait_for_ends(self, seconds=ENDS):
        end = time.monotonic() + seconds
        while any(each.process.poll() is None for each in self.all):
            assert time.monotonic() < end, [each.output() for each in self.all]
            time.sleep(0.02)
        return [each.process.returncode for each in self.all]

    def kill(self):
        for each in self.all:
            with contextlib.suppress(ProcessLookupError):
                each.process.kill()
            each.process.wait()


@pytest.fixture
def make_job():
    started = []

    def make(*arguments, **options):
        started.append(Job(*arguments, **options))
        return started[-1]

    yield make
    for job in started:
        job.kill()


def ask(server):
    """Prompts of many tokens and of few, several at once; every number that comes of them."""
    answers = []
    for prompt in ("Hello", list(range(5, 400)), ["a", "b b", "c c c"]):
        body = {"model": NAME, "prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 3, "ignore_eos": True}
        answer = server.post("/v1/completions", body)
        assert answer.status_code == 200, answer.text
        answers.append([(choice["text"], choice["logprobs"]) for choice in answer.json()["choices"]])
    return answers


@pytest.mark.parametrize("count, flags, alone", [
    (2, ["-tp", "2"], ["-tp", "2"]),
    (2, ["-tp", "2", "--additional-config", '{"enable_flashcomm1": true, "sp_threshold": 50}'], ["-tp", "2"]),
    (2, ["-pp", "2"], []),
    (4, ["-tp", "2", "-pp", "2"], ["-tp", "2"]),
    (2, ["-tp", "2", "-pp", "2", "--quantization", "int8"], ["-tp", "2", "--quantization", "int8"]),
])
def test_answers_are_those_of_one_process(make_job, make_server, count, flags, alone):
    expected = ask(make_server(*alone))
    job = make_job(count, *flags)
    assert ask(job.first) == expected
    assert job.first.stop() == 0
    assert job.wait_for_ends() == [0] * count, [each.output() for each in job.all]


def begin_stream(server):
    body = {"model": NAME, "prompt": "x", "max_tokens": 30000, "ignore_eos": True, "stream": True}
    response = requests.post(server.url + "/v1/completions", json=body, stream=True, timeout=60)
    lines = response.iter_lines()
    assert next(lines).startswith(b"data: ")
    return response, lines


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("killed", [0, 1, 3])
def test_one_that_is_killed_ends_all(make_job, killed, busy):
    job = make_job(4, "-tp", "2", "-pp", "2", "--max-model-len", "32768")
    if busy:
        _, lines = begin_stream(job.first)
    job.all[killed].process.kill()
    codes = job.wait_for_ends()
    assert codes[killed] == -signal.SIGKILL and all(code == 1 for i, code in enumerate(codes) if i != killed), codes
    for i, each in enumerate(job.all):
        if i == killed:
            continue
        # Who waits for the first one minds nobody else, and hears of it by the first one's end.
        named = killed if i == 0 or busy else 0
        assert f"process {named} (" in each.output() or f"process {killed} (" in each.output(), each.output()
        assert "has gone" in each.output()
    if busy and killed:
        events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
        assert "error" in events[-1], events[-1]


def test_one_that_hangs_ends_all(make_job):
    job = make_job(2, "-tp", "2", timeout="2")
    job.others[0].process.send_signal(signal.SIGSTOP)
    try:
        answer = job.first.post("/v1/completions", {"model": NAME, "prompt": "x", "max_tokens": 3})
        assert answer.status_code == 500, answer.text
    except requests.ConnectionError:
        pass
    assert job.first.process.wait(ENDS) == 1
    assert "nothing came from process 1 (" in job.first.output() and "within 2 s" in job.first.output()
    job.others[0].process.send_signal(signal.SIGCONT)
    assert job.wait_for_ends() == [1, 1]


def test_a_signal_to_all_drains(make_job):
    """As a launcher does: the others go on until the first one has ended its streams."""
    job = make_job(2, "-tp", "2", "--shutdown-timeout", "30")
    body = {"model": NAME, "prompt": "x", "max_tokens": 300, "ignore_eos": True, "stream": True}
    with requests.post(job.first.url + "/v1/completions", json=body, stream=True, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        for each in job.all:
            each.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert rest[-1] == b"data: [DONE]" and json.loads(rest[-2][6:])["choices"][0]["finish_reason"] == "length"
    assert job.wait_for_ends() == [0, 0]


@pytest.mark.parametrize("of_second, part", [
    (["-tp", "2", "--quantization", "int8"], "flags: found ranks 2, stages 1, quantization"),
    (["-tp", "2", "--hf-overrides", '{"num_attention_heads": 7}'], "process 1 ("),
])
def test_what_differs_or_fails_in_one_is_told_by_all(make_job, of_second, part):
    job = make_job(2, "-tp", "2", wait=False)
    job.others[0].process.kill()
    job.others[0].process.wait()
    job.all.pop()
    second = Server(*job.flags, *of_second, "--node-rank", "1", wait=False)
    job.all.append(second)
    assert all(code in (1, 2) for code in job.wait_for_ends(30))
    assert part in job.first.output().splitlines()[-1]


def has_mpi():
    return shutil.which("mpirun") and "MPI" in subprocess.run([BINARY, "collect-env"], capture_output=True, text=True,
                                                              check=True).stdout


@pytest.mark.skipif(not has_mpi(), reason="the program was built without MPI")
@pytest.mark.parametrize("ending", ["term", "kill"])
def test_mpirun(make_server, tmp_path, ending):
    expected = ask(make_server("-tp", "2"))
    port = free_port()
    log = tmp_path / "log"
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2", BINARY, "serve", str(MODEL),
               "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port), "--kv-cache-memory-bytes", "256M",
               "--load-format", "dummy", "-tp", "2", "--distributed-executor-backend", "external_launcher"]
    with log.open("w") as out:
        job = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                               env={**os.environ, "OMPI_MCA_plm_rsh_agent": "sh"})  # there may be no ssh
    server = Server.__new__(Server)
    server.port, server.url, server.process = port, f"http://127.0.0.1:{port}", job
    server.output = lambda: log.read_text(errors="replace")
    try:
        server.wait_until_healthy()
        assert "by MPI" in server.output()
        assert ask(server) == expected
        if ending == "term":
            job.send_signal(signal.SIGTERM)
            job.wait(30)
            return
        children = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert job.wait(ENDS) != 0
        end = time.monotonic() + ENDS
        while any(os.path.exists(f"/proc/{child}") for child in children):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
