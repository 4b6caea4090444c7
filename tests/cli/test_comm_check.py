"""`comm-check`: the links between the processes of a job, on this machine and between network namespaces."""

import re
import socket
import subprocess
import sys
import time

import pytest
import slow_network

from cli_support import BINARY, TINY, clean_env, run


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*words, prefix=()):
    return subprocess.Popen([*prefix, BINARY, *map(str, words)], env=clean_env(), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def end_all(processes, seconds=60):
    end = time.monotonic() + seconds
    outputs = []
    for process in processes:
        try:
            outputs.append(process.communicate(timeout=max(0.1, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            for each in processes:
                each.kill()
            raise
    return outputs


def check_table(out, count):
    parts = re.fullmatch(r"Processes\n(.*)Pairs, one way\n(.*)Sums over all processes\n(.*)", out, re.S).groups()
    assert [int(n) for n in re.findall(r"^  process (\d+) \(", parts[0], re.M)] == list(range(count))
    assert len(re.findall(r"; version \d", parts[0])) == count
    pairs = re.findall(r"^  (\d+) - (\d+): ([\d.]+) us, ([\d.]+) GB/s$", parts[1], re.M)
    assert [(int(a), int(b)) for a, b, *_ in pairs] == [(a, b) for a in range(count) for b in range(a + 1, count)]
    assert re.findall(r"^  (.*): [\d.e+]+ ms$", parts[2], re.M) == ["8.2 kB", "41.9 MB"]
    return [(float(us), float(gb)) for *_, us, gb in pairs]


def test_processes_of_one_machine():
    port = free_port()
    processes = [start("comm-check", "--nnodes", 3, "--node-rank", i, "--master-port", port) for i in range(3)]
    outputs = end_all(processes)
    assert [p.returncode for p in processes] == [0, 0, 0], outputs
    check_table(outputs[0][0], 3)
    assert not outputs[1][0] and not outputs[2][0]


@pytest.mark.parametrize("flags, env, part", [
    ([], {}, "found one process, expected several"),
    (["--nnodes", "2", "--node-rank", "2"], {}, "--node-rank"),
    (["--nnodes", "2", "--distributed-timeout-seconds", "1", "--master-port", "{port}"], {}, "number 1 did not come within 1 s"),
    (["--nnodes", "2", "-r", "1", "--distributed-timeout-seconds", "1", "--master-port", "{port}"], {},
     "did not answer within 1 s"),
    (["--nnodes", "2", "--master-addr", "no.such.host.invalid"], {}, "--master-addr"),
    ([], {"RANK": "1", "WORLD_SIZE": "2"}, "MASTER_ADDR"),
])
def test_what_cannot_be_is_said(flags, env, part):
    result = run("comm-check", *[flag.format(port=free_port()) for flag in flags], env=env)
    assert result.returncode in (1, 2)
    assert part in result.stderr.splitlines()[-1]


def test_bench_over_two_processes():
    """The others end with the first one."""
    flags = ["--model", TINY, "--load-format", "dummy", "--max-model-len", "256", "--kv-cache-memory-bytes", "64M",
             "--input-len", "10", "--output-len", "4", "--batch-size", "2", "--num-iters", "2", "--num-iters-warmup", "1",
             "-tp", "2", "--nnodes", "2", "--master-port", free_port()]
    processes = [start("bench", "latency", *flags, "--node-rank", i) for i in range(2)]
    outputs = end_all(processes)
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert "Avg latency" in outputs[0][0] and not outputs[1][0]


def test_other_commands_refuse_it(tmp_path):
    text = tmp_path / "text"
    text.write_text("x")
    result = run("run-batch", "-i", text, "-o", tmp_path / "out", "--model", TINY, "--load-format", "dummy", "-tp", "2",
                 "--nnodes", "2")
    assert result.returncode != 0
    assert "found a model over 2 processes" in result.stderr.splitlines()[-1]


needs_namespaces = pytest.mark.skipif(not slow_network.is_possible(), reason="network namespaces need root, ip and /dev/net/tun")


@needs_namespaces
@pytest.mark.parametrize("milliseconds, megabits", [(0, 0), (0.1, 0), (1, 2000)])
def test_hosts_of_their_own(milliseconds, megabits):
    with slow_network.network(4, milliseconds, megabits) as hosts:
        processes = [start("comm-check", "--nnodes", 4, "--node-rank", i, "--master-addr", "10.213.7.1", prefix=host)
                     for i, host in enumerate(hosts)]
        outputs = end_all(processes, 120)
        assert [p.returncode for p in processes] == [0] * 4, outputs
        pairs = check_table(outputs[0][0], 4)
        print(outputs[0][0], file=sys.stderr)
        assert all(us >= 1000 * milliseconds for us, _ in pairs)
        assert not megabits or all(gigabytes <= megabits / 8e3 for _, gigabytes in pairs)


SCRIPT = """
import json, sys, time, urllib.error, urllib.request
url = "http://127.0.0.1:8000"
for _ in range(600):
    try:
        urllib.request.urlopen(url + "/health", timeout=5)
        break
    except (urllib.error.URLError, ConnectionError):
        time.sleep(0.1)
body = {"model": "m", "prompt": list(range(3, 300)), "max_tokens": 16, "temperature": 0, "logprobs": 2, "ignore_eos": True}
request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
begin = time.monotonic()
choice = json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]
print(json.dumps([choice["text"], choice["logprobs"]]))
print(f"{(time.monotonic() - begin) * 1e3:.0f} ms", file=sys.stderr)
"""


@needs_namespaces
@pytest.mark.parametrize("milliseconds", [0, 0.1, 1])
@pytest.mark.parametrize("flags, alone", [(["-tp", "2", "-pp", "2"], ["-tp", "2"]), (["-tp", "4"], ["-tp", "4"])])
def test_answers_of_hosts_are_those_of_one_machine(flags, alone, milliseconds):
    """Four hosts, so far apart, against one process."""
    serve = ["serve", TINY, "--load-format", "dummy", "--served-model-name", "m", "--kv-cache-memory-bytes", "64M",
             "--max-model-len", "512", "--hf-overrides", '{"num_key_value_heads": 4}']

    def ask(host):
        return subprocess.run([*host, sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)

    with slow_network.network(5, milliseconds) as hosts:
        one = start(*serve, *alone, prefix=hosts[4])
        job = [start(*serve, *flags, "--nnodes", 4, "--node-rank", i, "--master-addr", "10.213.7.1", prefix=host)
               for i, host in enumerate(hosts[:4])]
        try:
            answers = [ask(hosts[4]), ask(hosts[0])]
        finally:
            for process in (one, job[0]):
                process.terminate()
            end_all([one, *job])
        assert answers[0].stdout == answers[1].stdout and answers[0].stdout.startswith("[")
        print(flags, milliseconds, "one process, four hosts:", answers[0].stderr.strip(), answers[1].stderr.strip(), file=sys.stderr)
        assert [process.returncode for process in job] == [0] * 4
