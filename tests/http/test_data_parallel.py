"""Data parallelism: several engines behind one API, against one engine; and where their workers run."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from test_ranks import answer, prompts
from tiny_model import NAME

CPUS = sorted(os.sched_getaffinity(0))
DEV = {"VLLM_SERVER_DEV_MODE": "1"}

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="two engines need two cores")


def of_engine(server, name):
    """[value of each engine], the other labels added up."""
    values = {}
    for sample, value in server.metrics().items():
        if sample.split("{")[0] == name:
            engine = sample.split('engine="')[1].split('"')[0]
            values[engine] = values.get(engine, 0) + value
    return [values[engine] for engine in sorted(values)]


@pytest.mark.parametrize("flags", [(), ("-tp", "2"), ("--kv-cache-dtype", "int8", "--no-enable-prefix-caching"),
                                   ("--kv-cache-dtype", "fp8")])
def test_two_engines_answer_as_one_does(make_server, flags):
    one, two = make_server(*flags), make_server("-dp", "2", *flags)
    asked = prompts(16, 300, 1)
    alone = [answer(one, prompt) for prompt in asked]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda prompt: answer(two, prompt), asked * 2)) == alone * 2  # bit for bit
    assert all(count > 0 for count in of_engine(two, "vllm:request_success_total"))
    assert sum(of_engine(two, "vllm:request_success_total")) == 32
    for fields in ({"n": 3, "temperature": 1, "seed": 5}, {"n": 2, "use_beam_search": True, "logprobs": None},
                   {"echo": True}):
        body = {"max_tokens": 5, "ignore_eos": True, **fields}
        left, right = (s.complete(asked[0], **body)["choices"] for s in (one, two))
        assert left == right
    # The prompts of a list are requests of their own.
    left, right = (s.complete(asked[:6], max_tokens=5, ignore_eos=True) for s in (one, two))
    assert left["choices"] == right["choices"] and left["usage"] == right["usage"]
    two.wait_for_metric("vllm:num_requests_running", 0)


def test_what_is_drawn_without_a_seed_does_not_depend_on_the_engine(make_server):
    one, two = make_server(), make_server("-dp", "2")
    for prompt in prompts(8, 50, 3):
        left, right = (s.complete(prompt, max_tokens=8, temperature=1, ignore_eos=True)["choices"]
                       for s in (one, two))
        assert left == right


def test_prompts_go_where_their_beginning_is(make_server):
    server = make_server("-dp", "2", "--enable-prompt-tokens-details")
    texts = [[3 + (7 * i + text) % 900 for i in range(600)] for text in range(4)]
    for turn in range(4):
        for text in texts:
            usage = server.complete(text + [turn] * 8, max_tokens=2)["usage"]
            assert (usage["prompt_tokens_details"] or {}).get("cached_tokens", 0) == (512 if turn else 0)
    assert of_engine(server, "vllm:request_success_total") == [8, 8]
    assert of_engine(server, "vllm:prefix_cache_hits_total") == [6 * 512, 6 * 512]


def test_streams_that_are_left_stop_in_every_engine(make_server):
    server = make_server("-dp", "2", "--enable-server-load-tracking")
    body = {"model": NAME, "prompt": "x", "max_tokens": 20000, "ignore_eos": True, "stream": True}
    streams = [requests.post(server.url + "/v1/completions", json=body, stream=True, timeout=60) for _ in range(6)]
    lines = [stream.iter_lines() for stream in streams]  # kept: one that is dropped closes its stream
    for line in lines:
        next(line)
    assert of_engine(server, "vllm:num_requests_running") == [3, 3]
    assert requests.get(server.url + "/load", timeout=10).json() == {"server_load": 6}
    for stream in streams:
        stream.close()
    server.wait_for_metric("vllm:num_requests_running", 0)
    assert sum(v for k, v in server.metrics().items()
               if k.startswith("vllm:request_success_total") and "abort" in k) == 6


def test_operators_speak_to_all_engines(make_server):
    server = make_server("-dp", "2", "--enable-sleep-mode", env=DEV)
    prompt = list(range(300))
    body = {"model": NAME, "prompt": prompt, "max_tokens": 20000, "ignore_eos": True, "temperature": 0}
    before = server.complete(prompt, max_tokens=4)["choices"]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(server.post, "/v1/completions", {**body, "prompt": [i] * 200}) for i in range(4)]
        server.wait_for_metric("vllm:num_requests_running", 4)
        assert server.post("/reset_prefix_cache", None).json() == {"success": False}
        assert server.post("/sleep", None).status_code == 200
        assert {job.result().json()["choices"][0]["finish_reason"] for job in jobs} == {"abort"}
    asleep = {k for k, v in server.metrics().items() if 'sleep_state="weights_offloaded"' in k and v == 1}
    assert len(asleep) == 2
    refused = [server.post("/v1/completions", body).status_code for _ in range(4)]
    assert refused == [503] * 4
    requests.post(server.url + "/wake_up", timeout=10)
    assert [server.complete(prompt, max_tokens=4)["choices"] for _ in range(3)] == [before] * 3
    assert server.post("/reset_prefix_cache", None).json() == {"success": True}
    assert requests.get(server.url + "/health", timeout=10).status_code == 200


def test_shutdown_waits_for_all_engines(make_server):
    server = make_server("-dp", "2", "--shutdown-timeout", "60")
    body = {"model": NAME, "prompt": "x", "max_tokens": 4000, "ignore_eos": True}
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(server.post, "/v1/completions", body) for _ in range(4)]
        server.wait_for_metric("vllm:num_requests_running", 4)
        assert server.stop(signal.SIGTERM, 60) == 0
        assert [job.result().json()["usage"]["completion_tokens"] for job in jobs] == [4000] * 4


def test_vectors_of_two_engines(make_server):
    texts = ["a", "some more words", "x " * 100, "b", "c " * 50]
    bodies = []
    for flags in ((), ("-dp", "2")):
        server = make_server("--runner", "pooling", *flags)
        bodies.append(server.post("/v1/embeddings", {"model": NAME, "input": texts}).json())
    assert bodies[0]["data"] == bodies[1]["data"]


def test_the_log_says_who_is_where_and_what_is_shared(make_server):
    first, second = CPUS[:2]
    log = make_server("-dp", "2", env={"VLLM_CPU_OMP_THREADS_BIND": f"{second}|{first}"}).output()
    assert f"engine 0: CPUs {second}\n" in log and f"engine 1: CPUs {first}\n" in log
    assert "of weights that 2 engines share" in log
    assert log.count("KV cache size") == 2
    log = make_server("-tp", "2", "--numa-bind-cpus", str(second), str(first)).output()
    assert f"rank 0: CPUs {second}\n" in log and f"rank 1: CPUs {first}\n" in log
    assert "not pinned" in make_server(env={"VLLM_CPU_OMP_THREADS_BIND": "nobind"}).output()


def test_one_engine_of_several_processes(make_server):
    server = make_server("-dp", "4", "--data-parallel-rank", "3")
    server.complete("x", max_tokens=2)
    assert {k.split('engine="')[1].split('"')[0] for k in server.metrics() if "engine=" in k} == {"3"}
    assert "a load balancer has to choose" in server.output()
    two = make_server("-dp", "4", "-dph", "-dpl", "2", "-dpr", "2")
    assert {k.split('engine="')[1].split('"')[0] for k in two.metrics() if "engine=" in k} == {"2", "3"}


@pytest.mark.parametrize("flags, env, message", [
    (("-dp", "5000"), {}, "argument --data-parallel-size: found 5000, expected 1 … 4096"),
    (("-dp", str(len(CPUS) + 1)), {}, f"found {len(CPUS) + 1} engines, expected at most"),
    (("-dp", "2", "-dpl", "1"), {}, "engines of other processes behind this one's API are not supported"),
    ((), {"VLLM_CPU_OMP_THREADS_BIND": "0-x"}, "VLLM_CPU_OMP_THREADS_BIND: found '0-x', expected CPUs as in 0-3,8"),
    (("-dp", "2"), {"VLLM_CPU_OMP_THREADS_BIND": str(CPUS[0])}, "found 1 lists of CPUs, expected 2"),
    ((), {"VLLM_CPU_OMP_THREADS_BIND": "65000"}, "found CPU 65000, expected some of those that this process may use"),
    (("--numa-bind-nodes", "777"), {}, "argument --numa-bind-nodes: found node 777, expected some of those with CPUs"),
])
def test_refused_in_one_line(make_server, flags, env, message):
    server = make_server(*flags, env=env, wait=False)
    assert server.process.wait(30) == 2
    assert message in server.output().splitlines()[-1]
