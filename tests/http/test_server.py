"""Groups H, I, K and O: aborts, metrics, health under load, start and stop, the HTTP surface."""

import concurrent.futures
import os
import re
import resource
import signal
import socket
import subprocess
import time

import pytest
import requests

from tiny_model import BINARY, MODEL, NAME

# Runs until its client goes, on any machine: the tiny model gives some 10,000 tokens a second.
LONG = {"model": NAME, "prompt": "x", "max_tokens": 30_000, "ignore_eos": True}


def begin(server):
    """A streamed answer of which the first event has come."""
    response = requests.post(server.url + "/v1/completions", json={**LONG, "stream": True},
                             stream=True, timeout=30)
    assert response.status_code == 200
    response.lines = response.iter_lines()  # held: the connection closes with the iterator
    assert next(response.lines).startswith(b"data: ")
    return response


def test_series_are_there_before_traffic(make_server):
    server = make_server()
    samples = server.metrics()
    labels = f'{{model_name="{NAME}",engine="0"}}'
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                 "gpu_cache_usage_perc", "prompt_tokens_total", "generation_tokens_total",
                 "num_preemptions_total", "prefix_cache_queries_total", "prefix_cache_hits_total",
                 "time_to_first_token_seconds_count", "inter_token_latency_seconds_count",
                 "time_per_output_token_seconds_count", "e2e_request_latency_seconds_count"):
        assert samples[f"vllm:{name}{labels}"] == 0, name
    text = requests.get(server.url + "/metrics").text
    assert "# TYPE vllm:prompt_tokens_total counter" in text


def test_counters_agree(server):
    before = server.metrics()
    answer = server.complete("x y z", max_tokens=5, n=1, ignore_eos=True)
    after = server.metrics()
    labels = f'{{model_name="{NAME}",engine="0"}}'
    assert (after[f"vllm:generation_tokens_total{labels}"]
            - before[f"vllm:generation_tokens_total{labels}"]) == 5
    assert (after[f"vllm:prompt_tokens_total{labels}"]
            - before[f"vllm:prompt_tokens_total{labels}"]) == answer["usage"]["prompt_tokens"]
    assert (after[f"vllm:time_to_first_token_seconds_count{labels}"]
            - before[f"vllm:time_to_first_token_seconds_count{labels}"]) == 1


def test_clients_that_go_are_aborted(make_server):
    server = make_server("--max-model-len", "32768")
    name = f'vllm:request_success_total{{model_name="{NAME}",engine="0",finished_reason="abort"}}'
    tokens = f'vllm:generation_tokens_total{{model_name="{NAME}",engine="0"}}'

    def streams():
        for _ in range(3):
            begin(server).close()

    def whole():  # goes while its answer is made
        for _ in range(3):
            with pytest.raises(requests.exceptions.Timeout):
                requests.post(server.url + "/v1/completions", json=LONG, timeout=0.1)

    for go in (streams, whole):
        before = server.metrics()
        go()
        server.wait_for_metric("vllm:num_requests_running", 0)
        server.wait_for_metric("vllm:num_requests_waiting", 0)
        after = server.metrics()
        assert after[name] - before[name] == 3
        # Aborted at once, not at their ends.
        assert after[tokens] - before[tokens] < 3 * LONG["max_tokens"] / 2


def test_waiting_and_prefilling_clients_that_go(make_server):
    """One runs, one waits, both go; then one goes in the middle of its prompt."""
    server = make_server("--max-num-seqs", "1", "--max-num-batched-tokens", "32", "--max-model-len",
                         "32768")
    running = begin(server)
    waiting = [requests.post(server.url + "/v1/completions", json={**LONG, "stream": True},
                             stream=True, timeout=30) for _ in range(3)]
    server.wait_for_metric("vllm:num_requests_waiting", 3)
    for response in waiting:
        response.close()
    server.wait_for_metric("vllm:num_requests_waiting", 0)
    assert server.metric("vllm:num_requests_running") == 1
    running.close()
    server.wait_for_metric("vllm:num_requests_running", 0)
    generated = server.metric("vllm:generation_tokens_total")
    with requests.post(server.url + "/v1/completions", stream=True, timeout=30,
                       json={**LONG, "prompt": [7] * 8000, "stream": True}):
        server.wait_for_metric("vllm:num_requests_running", 1)
    server.wait_for_metric("vllm:num_requests_running", 0)
    assert server.metric("vllm:generation_tokens_total") == generated
    server.wait_for_metric("vllm:kv_cache_usage_perc", 0)


def test_histograms_and_counters_agree(make_server):
    server = make_server("--max-model-len", "512", "--num-gpu-blocks-override", "9",
                         "--max-num-seqs", "16")

    def run(i):
        fields = {"max_tokens": 40 + 20 * (i % 4), "ignore_eos": True, "n": 1 + i % 2,
                  "temperature": 1.0, "prompt": f"{i} " * (10 + i)}
        if i % 8 == 7:
            fields["temperature"] = -1
        return server.post("/v1/completions", {"model": NAME, **fields})

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(run, range(48)))
    good = [a.json() for a in answers if a.status_code == 200]
    assert len(good) == 42
    samples = sum(len(a["choices"]) for a in good)
    m = server.metric
    assert m("vllm:num_preemptions_total") > 0
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds",
                 "request_prompt_tokens", "request_generation_tokens", "request_num_preemptions",
                 "request_prefill_kv_computed_tokens", "request_queue_time_seconds"):
        assert m(f"vllm:{name}_count") == samples, name
    assert m("vllm:request_success_total") == samples
    assert m("vllm:request_num_preemptions_sum") == m("vllm:num_preemptions_total")
    # Once a request, of its longest sample; here all samples of a request are equally long.
    assert m("vllm:request_max_num_generation_tokens_count") == m("vllm:request_params_n_count") == len(good)
    assert m("vllm:request_max_num_generation_tokens_sum") == sum(
        a["usage"]["completion_tokens"] / len(a["choices"]) for a in good)
    generated = sum(a["usage"]["completion_tokens"] for a in good)
    assert m("vllm:generation_tokens_total") == generated == m("vllm:request_generation_tokens_sum")
    assert (m("vllm:prompt_tokens_total") - m("vllm:prompt_tokens_cached_total")
            == m("vllm:request_prefill_kv_computed_tokens_sum"))
    assert m("vllm:prompt_tokens_total") == m("vllm:prompt_tokens_by_source_total")
    # A step whose rows are discarded may still be about to run.
    assert 0 <= m("vllm:iteration_tokens_total_count") - m("tiercel:model_steps_total") <= 1


def test_metrics_are_well_formed(server):
    """What `promtool check metrics` looks at, and the times of creation."""
    server.complete("x", max_tokens=2)
    text = requests.get(server.url + "/metrics").text
    kinds, seen, created = {}, set(), set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, name
            kinds[name] = kind
        elif line.startswith("# HELP "):
            assert len(line.split(" ", 3)[3]) > 3, line
        else:
            match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_]+="[^"]*",?)*\})? (\S+)', line)
            assert match, line
            assert line.rsplit(" ", 1)[0] not in seen
            seen.add(line.rsplit(" ", 1)[0])
            float(match.group(4))
            family = re.sub("_(bucket|count|sum)$", "", match.group(1))
            assert match.group(1) in kinds or family in kinds, line
            if match.group(1).endswith("_created"):
                created.add(match.group(1))
                assert time.time() - 3600 < float(match.group(4)) <= time.time()
    for name, kind in kinds.items():
        if kind == "counter":
            assert name.endswith("_total"), name
        if kind in ("counter", "histogram") and not name.startswith("process_"):
            stem = name.removesuffix("_total") if kind == "counter" else name
            assert f"{stem}_created" in created, name


def test_process_metrics(make_server):
    """Those of prometheus_client, against what the system says of the process."""
    begun = time.time()
    server = make_server()
    m = server.metrics()
    folder = f"/proc/{server.process.pid}"
    # From its start to its first answer the process is at most as old as this test is long.
    assert begun - 1.5 <= m["process_start_time_seconds"] <= time.time() + 1.5
    with open(f"{folder}/statm") as file:
        virtual, resident = (int(v) * resource.getpagesize() for v in file.read().split()[:2])
    assert m["process_virtual_memory_bytes"] == pytest.approx(virtual, rel=0.1)
    assert m["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.1)
    with open(f"{folder}/limits") as file:
        limit = next(line.split()[3] for line in file if line.startswith("Max open files"))
    assert m["process_max_fds"] == float(limit)
    assert abs(m["process_open_fds"] - len(os.listdir(f"{folder}/fd"))) <= 3  # a connection or two
    with open(f"{folder}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert 0 < m["process_cpu_seconds_total"] <= used + 0.1
    kinds = dict(re.findall(r"# TYPE (process_\w+) (\w+)", requests.get(server.url + "/metrics").text))
    assert kinds == {"process_virtual_memory_bytes": "gauge", "process_resident_memory_bytes": "gauge",
                     "process_start_time_seconds": "gauge", "process_cpu_seconds_total": "counter",
                     "process_open_fds": "gauge", "process_max_fds": "gauge"}


def test_memory_does_not_grow(make_server):
    """Unique prompts: what is cached lies in the pool that was there from the start."""
    server = make_server("--max-model-len", "512", "--num-gpu-blocks-override", "40")
    status = f"/proc/{server.process.pid}/status"

    def resident():
        with open(status) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

    def load(start):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: server.complete(f"{i} " * 100, max_tokens=2, logprobs=3),
                          range(start, start + 300)))

    load(0)
    warm = resident()
    load(1000)
    load(2000)
    assert resident() - warm < 24, (warm, resident())  # MiB


def test_probes_are_answered_under_load(make_server):
    """Probes are answered, again and again, while four times as many streams are open as run at a time."""
    server = make_server("--max-num-seqs", "8", "--max-model-len", "32768")
    body = {**LONG, "stream": True}
    streams = [requests.post(server.url + "/v1/completions", json=body, stream=True, timeout=60) for _ in range(32)]
    assert all(s.status_code == 200 for s in streams)
    for _ in range(20):
        for path in ("/health", "/metrics", "/v1/models"):
            assert requests.get(server.url + path, timeout=60).status_code == 200
    # None has ended, so nothing was answered for want of them.
    open_now = server.metrics()
    labels = f'{{model_name="{NAME}",engine="0"}}'
    assert open_now[f"vllm:num_requests_running{labels}"] + open_now[f"vllm:num_requests_waiting{labels}"] == 32
    for s in streams:
        s.close()
    server.wait_for_metric("vllm:num_requests_running", 0)
    server.wait_for_metric("vllm:num_requests_waiting", 0)


def test_models_version_ping(server):
    models = requests.get(server.url + "/v1/models").json()
    assert models["data"][0]["id"] == NAME and models["data"][0]["max_model_len"] == 2048
    assert requests.get(server.url + "/version").json()["version"]
    assert requests.post(server.url + "/ping").status_code == 200
    assert requests.get(server.url + "/load").json() == {"server_load": 0}
    assert requests.head(server.url + "/health").status_code == 200


def test_tokenize_round_trip(server):
    for text in ("Hello, world!", "é客单价🌶", "<|im_start|>user", " a\n\n b"):
        ids = server.tokens(text)
        back = server.post("/detokenize", {"model": NAME, "tokens": ids}).json()["prompt"]
        assert back == text


def test_request_ids_and_cors(server):
    headers = {"X-Request-Id": "abc", "Origin": "http://a.example"}
    response = server.post("/v1/completions", {**LONG, "max_tokens": 1}, headers=headers)
    assert response.headers["x-request-id"] == "abc" and response.json()["id"] == "cmpl-abc"
    assert response.headers["access-control-allow-origin"] == "*"
    huge = server.post("/v1/completions", {**LONG, "max_tokens": 1},
                       headers={"X-Request-Id": "a" * 10000})
    assert len(huge.headers["x-request-id"]) == 32
    preflight = requests.options(server.url + "/v1/chat/completions", headers={
        "Origin": "http://a.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"})
    assert preflight.status_code == 200
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]


def test_api_keys(make_server):
    server = make_server("--api-key", "secret")
    assert requests.get(server.url + "/v1/models").status_code == 401
    assert requests.get(server.url + "/health").status_code == 200
    assert server.client(api_key="secret").models.list().data[0].id == NAME


def test_busy_port_ends_at_once(server):
    start = time.monotonic()
    second = subprocess.run([BINARY, "serve", str(MODEL), "--host", "127.0.0.1", "--port",
                             str(server.port)], capture_output=True, text=True, timeout=30)
    assert second.returncode != 0 and str(server.port) in second.stderr + second.stdout
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_server(make_server, sig):
    server = make_server()
    answers = [begin(server) for _ in range(4)]
    assert server.metric("vllm:num_requests_running") > 0
    assert server.stop(sig) == 0
    for answer in answers:
        answer.close()
    with socket.socket() as probe:  # the port is free at once
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))


def test_default_sampling_comes_from_the_model(make_server):
    server = make_server("--override-generation-config", '{"max_new_tokens": 3}')
    answer = server.complete("x", max_tokens=10, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 3


def test_prompt_that_can_never_fit_is_refused(make_server):
    server = make_server("--max-model-len", "512", "--num-gpu-blocks-override", "6")
    word = server.tokens("x")[0]
    response = server.post("/v1/completions", {"prompt": [word] * 600, "max_tokens": 1})
    assert response.status_code == 400
    # Of five blocks a longer length than theirs helps nobody: what cannot fit is refused, and nothing waits for it.
    server = make_server("--max-model-len", "2048", "--num-gpu-blocks-override", "6")
    response = server.post("/v1/completions", {"prompt": [word] * 1002, "max_tokens": 1})
    assert response.status_code == 400
    answer = server.complete([word] * 630, max_tokens=1000, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 10 and answer["choices"][0]["finish_reason"] == "length"


def test_few_blocks_and_many_clients(make_server):
    server = make_server("--max-model-len", "512", "--num-gpu-blocks-override", "7",
                         "--max-num-seqs", "16")
    alone = server.complete("tell", max_tokens=200, ignore_eos=True)["choices"][0]["text"]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: server.complete("tell", max_tokens=200, ignore_eos=True),
                                range(64)))
    assert all(a["choices"][0]["text"] == alone for a in answers)
    assert server.metric("vllm:num_preemptions_total") > 0
