"""Starting, stopping and configuring a server."""
import json
import os
import re
import shutil
import signal
import threading
import time

import httpx
import openai
import pytest

from cli_support import TINY, Server, clean_env, dummy_server, run, write_tiny_model

# The Ascend tutorial's variables and flags.
TUTORIAL_ENV = {"ASCEND_RT_VISIBLE_DEVICES": "0,1,2,3", "TASK_QUEUE_ENABLE": "1",
                "HCCL_OP_EXPANSION_MODE": "AIV", "VLLM_ASCEND_ENABLE_FLASHCOMM1": "1",
                "VLLM_USE_MODELSCOPE": "True"}
TUTORIAL_FLAGS = [
    "--served-model-name", "qwen3", "--trust-remote-code", "--async-scheduling",
    "--distributed-executor-backend", "mp", "--max-model-len", "5500",
    "--max-num-batched-tokens", "40960",
    "--compilation-config", '{"cudagraph_mode": "FULL_DECODE_ONLY"}',
    "--additional-config",
    '{"pa_shape_list":[48,64,72,80], "weight_prefetch_config":{"enabled":true}}',
    "--block-size", "128", "--gpu-memory-utilization", "0.9"]


@pytest.mark.parametrize("ranks, flashcomm", [
    ("1", "one rank has nothing to communicate"),
    ("4", "FlashComm: in steps of more than 1000 tokens each of 4 ranks norms its own rows")])
def test_the_tutorials_command_starts(ranks, flashcomm):
    with Server(TINY, *TUTORIAL_FLAGS, "--tensor-parallel-size", ranks, "--load-format", "dummy",
                env=TUTORIAL_ENV) as server:
        server.wait_ready()
        for part in ("non-default args:", "Available routes are:", "Route: /v1/chat/completions",
                     f"Starting vLLM server on http://0.0.0.0:{server.port}", "KV cache size:",
                     flashcomm):
            assert part in server.log, part
        client = openai.OpenAI(base_url=server.url, api_key="none")
        assert [m.id for m in client.models.list()] == ["qwen3"]
        answer = client.completions.create(model="qwen3", prompt="Hello", max_tokens=4)
        assert answer.usage.completion_tokens >= 1
        assert server.stop() == 0


def test_sampling_defaults_are_announced_and_can_be_turned_off():
    with dummy_server() as server:
        server.wait_ready()
        assert "`{'temperature': 0.6, 'top_k': 20, 'top_p': 0.95}`" in server.log
    with dummy_server("--generation-config", "vllm") as server:
        server.wait_ready()
        assert "sampling parameters have been overridden" not in server.log


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_stops_at_once(sig):
    with dummy_server() as server:
        server.wait_ready()
        start = time.monotonic()
        assert server.stop(sig) == 0
        assert time.monotonic() - start < 5


def test_a_server_stops_while_it_uses_idle_time():
    """Half a GiB of the cache is touched ahead, for some tenths of a second after the start."""
    for wait in (0.1, 0.15, 0.2, 0.3):
        with dummy_server("--max-model-len", "2000000", "--kv-cache-memory-bytes", "4G",
                          env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}) as server:
            server.wait_ready()
            time.sleep(wait)
            assert server.stop() == 0


def test_running_requests_get_the_shutdown_timeout():
    with dummy_server("--shutdown-timeout", "30", "--served-model-name", "m") as server:
        server.wait_ready()
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        answers = []
        ask = threading.Thread(target=lambda: answers.append(client.completions.create(
            model="m", prompt="Hello", max_tokens=300, extra_body={"ignore_eos": True})))
        ask.start()
        deadline = time.monotonic() + 20
        metrics = f"http://127.0.0.1:{server.port}/metrics"
        while "vllm:num_requests_running{" not in (text := httpx.get(metrics).text) or not any(
                line.startswith("vllm:num_requests_running{") and line.endswith(" 1")
                for line in text.splitlines()):
            if answers or time.monotonic() > deadline:
                break
        assert server.stop() == 0
        ask.join()
        assert answers[0].usage.completion_tokens == 300


def test_a_second_server_may_take_the_port_at_once_after_a_kill():
    with dummy_server() as server:
        server.wait_ready()
        httpx.get(f"http://127.0.0.1:{server.port}/health").raise_for_status()
        server.process.kill()
        server.process.wait()
        with dummy_server(port=server.port) as second:
            second.wait_ready()


def test_config_file(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"model: {TINY}\nload_format: dummy\nmax-model-len: 256\n"
                      "served-model-name: [one, two]\n")
    with Server("--config", config, "--max-model-len", "128") as server:
        server.wait_ready()
        models = httpx.get(f"{server.url}/models").json()["data"]
        assert [m["id"] for m in models] == ["one", "two"]
        assert models[0]["max_model_len"] == 128


def test_chat_and_complete_talk_to_the_server(server):
    quick = run("chat", "--url", server.url, "-q", "Hello", "--system-prompt", "Be brief.")
    assert quick.returncode == 0, quick.stderr
    assert quick.stdout.strip() != ""
    two = run("chat", "--url", server.url, input="Hello\n/clear\nHello again\n")
    assert two.returncode == 0, two.stderr
    assert two.stdout.startswith("Using model: tiny\n")
    text = run("complete", "--url", server.url, "-q", "Once upon", "--max-tokens", "5")
    assert text.returncode == 0, text.stderr
    wrong = run("chat", "--url", server.url, "--model-name", "other", "-q", "Hello")
    assert wrong.returncode == 1 and "other" in wrong.stderr


def test_logging_level(server):
    with dummy_server("--log-level", "error") as quiet:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{quiet.port}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        assert quiet.stop() == 0
        assert quiet.log == ""
    assert "VLLM_LOGGING_LEVEL" not in clean_env()


def test_max_model_len_follows_the_memory():
    # Two layers of two KV heads of 128 BF16 numbers for K and V: 2 KiB a token.
    with dummy_server("--max-model-len", "auto", "--kv-cache-memory-bytes", "1M") as server:
        server.wait_ready()
        assert "Auto-fit max_model_len: reduced from 40960 to 384 to fit in available memory" in server.log
        assert httpx.get(f"{server.url}/models").json()["data"][0]["max_model_len"] == 384
    with dummy_server("--max-model-len=-1", "--kv-cache-memory-bytes", "128M") as server:
        server.wait_ready()
        assert "Auto-fit max_model_len: full model context length 40960 fits" in server.log


@pytest.mark.parametrize("limit", [("--kv-cache-memory-bytes", "4M"), ("VLLM_CPU_KVCACHE_SPACE", "0.00390625"),
                                   ("--num-gpu-blocks-override", "16")])
def test_every_limit_of_the_kv_cache_limits(limit):
    name, value = limit
    env = {name: value} if name.isupper() else {}
    flags = [] if env else limit
    with dummy_server(*flags, env=env) as server:
        server.wait_ready()
        assert "CPU KV cache size: 1,920 tokens" in server.log  # 15 blocks of 128
        metrics = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
        assert 'num_gpu_blocks="16"' in metrics


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_cache_asked_for_counts_as_far_as_it_can_be_used(how, tmp_path):
    gib = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    flags = ["--kv-cache-memory-bytes", f"{gib}G"] if how == "flag" else []
    env = {"VLLM_CPU_KVCACHE_SPACE": str(gib)} if how == "variable" else {}
    model = write_tiny_model(tmp_path / "model")
    with Server(model, "--max-model-len", "512", "--max-num-seqs", "8", *flags, env=env) as server:
        server.wait_ready()
        assert "do not fit into memory" not in server.log and "KV cache size: 4,096 tokens" in server.log
    # 2 KiB a token: five times what is there.
    seqs = 5 * (gib << 30) // 2 // (2048 * 40960) + 1
    result = run("serve", model, "--port", "0", "--max-num-seqs", min(seqs, 65536), "--max-num-batched-tokens", 65536, *flags, env=env)
    assert result.returncode == 1 and "Loaded" not in result.stderr
    assert "asks for a KV cache of" in result.stderr.splitlines()[-1]


def test_the_cache_takes_memory_as_it_is_used():
    with Server(TINY, "--load-format", "dummy", "--kv-cache-memory-bytes", "1G") as server:
        server.wait_ready()
        with open(f"/proc/{server.process.pid}/status") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
        assert resident < 256 << 10  # KiB


@pytest.mark.parametrize("size,message", [
    ("3", "Total number of attention heads (4) must be divisible by tensor parallel size (3). This "
          "model can use: 1, 2, 4."),
    ("16", "Total number of attention heads (4) must be divisible by tensor parallel size (16).")])
def test_heads_that_cannot_be_shared_out(size, message):
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", "-tp", size)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("flags, name", [
    (("--max-num-batched-tokens", "200M"), "max_num_batched_tokens"),
    (("--max-num-batched-tokens", "1000000000000"), "max_num_batched_tokens")])
def test_steps_that_no_memory_holds_are_refused_before_loading(flags, name):
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", *flags)
    assert result.returncode == 2, result.stderr
    assert name in result.stderr.splitlines()[-1] and "Loaded" not in result.stderr and "terminate" not in result.stderr


def test_ranks_are_announced():
    with dummy_server("-tp", "2") as server:
        server.wait_ready()
        assert "rank 0: CPUs" in server.log and "rank 1: CPUs" in server.log
        assert "tensor-parallel-size has no effect" not in server.log
    with dummy_server("-tp", "2", "--distributed-executor-backend", "uni") as server:
        server.wait_ready()
        assert "rank 0" not in server.log
        assert server.log.count("uni: one team serves the whole model") == 1


@pytest.mark.parametrize("quantization", [(), ("--quantization", "int8")])
@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_kernels_can_be_chosen_and_are_named(isa, quantization):
    listed = run("collect-env").stdout
    if isa not in listed.split("Kernels", 1)[-1]:
        pytest.skip(f"this machine has no {isa}")
    with dummy_server("--served-model-name", "m", *quantization, env={"TIERCEL_CPU_ISA": isa}) as server:
        server.wait_ready()
        assert f"CPU kernels: {isa}" in server.log
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        answer = client.completions.create(model="m", prompt="Hello", max_tokens=4,
                                           extra_body={"ignore_eos": True})
        assert answer.usage.completion_tokens == 4


def test_unknown_kernels_are_refused():
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0",
                 env={"TIERCEL_CPU_ISA": "mmx"})
    assert result.returncode != 0
    assert "TIERCEL_CPU_ISA" in result.stderr.splitlines()[-1]


# However work is divided, answers are the same to the last bit of a logarithm.
def test_work_can_be_divided_by_hand():
    workers = run("collect-env", env={"OMP_NUM_THREADS": "2"}).stdout.split("Worker threads on", 1)[1].splitlines()[0].split(",")
    if len(workers) < 2:
        pytest.skip("one CPU has nobody to divide work with")
    listed = run("collect-env", env={"OMP_NUM_THREADS": "2", "TIERCEL_CPU_SHARES": "2,1"}).stdout
    assert listed.split("Workers × share", 1)[1].splitlines()[0].strip() == "1 × 2, 1 × 1"
    answers = []
    for shares in ("1,1", "2,1"):
        with dummy_server("--served-model-name", "m", env={"OMP_NUM_THREADS": "2", "TIERCEL_CPU_SHARES": shares}) as server:
            server.wait_ready()
            assert ("work is divided by TIERCEL_CPU_SHARES, workers × share: 1 × 2, 1 × 1" in server.log) == (shares == "2,1")
            client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
            answer = client.completions.create(model="m", prompt="Hello " * 40, max_tokens=8, temperature=0, logprobs=2,
                                               extra_body={"ignore_eos": True})
            answers.append((answer.choices[0].text, answer.choices[0].logprobs))
    assert answers[0] == answers[1]


def test_shares_for_other_workers_are_refused():
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", env={"TIERCEL_CPU_SHARES": "2,1,x"})
    assert result.returncode != 0
    assert 'TIERCEL_CPU_SHARES: found "2,1,x", expected a number from 1 to 1000 for each of' in result.stderr.splitlines()[-1]


# One of the first of x86-64, and the first with AVX2: any later instruction would end the program.
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no qemu-x86_64 (Debian: qemu-user)")
@pytest.mark.timeout(500)
@pytest.mark.parametrize("quantization", [(), ("--quantization", "int8")])
@pytest.mark.parametrize("processor, kernels", [("Opteron_G1", "scalar reference"), ("Haswell", "avx2")])
def test_old_processors(processor, kernels, quantization):
    with dummy_server("--served-model-name", "m", "--max-num-seqs", "2", *quantization,
                      under=("qemu-x86_64", "-cpu", processor)) as server:
        server.read_until("Application startup complete", timeout=200)
        assert f"CPU kernels: {kernels}" in server.log
        answer = httpx.post(f"{server.url}/completions", timeout=200, json={
            "model": "m", "prompt": "Hello", "max_tokens": 3, "ignore_eos": True, "structured_outputs": {"regex": "[ab]+"}})
        assert re.fullmatch("[ab]+", answer.json()["choices"][0]["text"]), answer.text
        assert server.stop(timeout=100) == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
def test_servers_side_by_side_stay_on_their_own_cpus():
    first, second = sorted(os.sched_getaffinity(0))[:2]
    free = {"OMP_NUM_THREADS": ""}  # nothing else limits them
    with dummy_server(under=("taskset", "-c", str(first)), env=free) as one, \
            dummy_server(under=("taskset", "-c", str(second)), env=free) as other:
        for server, cpu in ((one, first), (other, second)):
            server.wait_ready()
            assert "; 1 workers on CPUs " in server.log
            for task in os.listdir(f"/proc/{server.process.pid}/task"):
                assert os.sched_getaffinity(int(task)) == {cpu}


def test_fewer_workers_where_that_is_asked_for():
    def workers(asked):
        with dummy_server(env={"OMP_NUM_THREADS": asked}) as server:
            server.wait_ready()
            return int(re.search(r"; (\d+) workers on CPUs ", server.log)[1])

    most = workers("")
    assert [workers("1"), workers(str(most)), workers("500")] == [1, most, most]


@pytest.mark.parametrize("sizes, part", [([0], "found 0"), ([-1], "found -1"), ([], "at least one"), ([10**6], "at least one")])
def test_capture_sizes_that_cannot_be(sizes, part):
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", "--compilation-config",
                 json.dumps({"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sizes}))
    assert result.returncode in (1, 2)
    last = result.stderr.splitlines()[-1]
    assert "cudagraph_capture_sizes" in last and part in last, last


def test_polls_while_loading_leave_the_log_alone():
    """Probes begin long before a large model is there."""
    with dummy_server() as server:
        status = None
        while status != 200:
            assert server.process.poll() is None
            try:
                status = httpx.get(f"http://127.0.0.1:{server.port}/health").status_code
            except httpx.TransportError:
                continue
        assert server.stop() == 0
        assert "Service Unavailable" not in server.log
        assert '"GET /health HTTP/1.1" 200 OK' in server.log


def test_requests_in_the_log():
    env = {"VLLM_LOGGING_LEVEL": "DEBUG"}
    with dummy_server("--served-model-name", "m", "--enable-log-requests", "--max-log-len", "3",
                      env=env) as server:
        server.wait_ready()
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        client.completions.create(model="m", prompt="abcdefghij", max_tokens=1)
        client.completions.create(model="m", prompt="éèê\n\x1b[31mred", max_tokens=1)
        assert server.stop() == 0
        details = [line for line in server.log.splitlines() if " details: prompt: " in line]
        assert len(details) == 2
        assert 'prompt: "abc", prompt_token_ids: [' in details[0]
        assert 'prompt: "éèê", prompt_token_ids: [' in details[1]
        for line in details:
            ids = re.search(r"prompt_token_ids: \[(.*)\]", line).group(1)
            assert 1 <= len(ids.split(", ")) <= 3
        assert "\x1b[31mred" not in server.log


def test_metrics_before_the_model_is_there():
    with dummy_server() as server:
        seen = ""
        while "vllm:num_requests_running" not in seen:
            assert server.process.poll() is None
            try:
                seen = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
            except httpx.TransportError:
                time.sleep(0.01)
        server.wait_ready()
        later = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text

    def names(text):
        return {line.rsplit(" ", 1)[0] for line in text.splitlines()
                if line.startswith("vllm:") and "cache_config_info" not in line}

    assert names(seen) == names(later)
    for bucket in ('vllm:time_to_first_token_seconds_bucket{model_name="%s",engine="0",le="0.001"}',
                   'vllm:request_prompt_tokens_bucket{model_name="%s",engine="0",le="500.0"}'):
        assert bucket % TINY in names(seen)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_loading_ends_the_server(sig):
    with dummy_server() as server:
        server.read_until("non-default args")
        assert server.stop(sig) in ((0,) if sig == signal.SIGTERM else (0, 130))


def change_config(model, **fields):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | fields))


def test_tied_and_untied_heads(tmp_path):
    """tie_word_embeddings and lm_head.weight in every combination but the plain ones."""
    tied = write_tiny_model(tmp_path / "tied")
    with Server(tied, "--max-model-len", "256") as server:
        server.wait_ready()
    untied = write_tiny_model(tmp_path / "untied")
    change_config(untied, tie_word_embeddings=False)
    result = run("serve", untied, "--port", "0")
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert "lm_head.weight" in last and "tie_word_embeddings is false" in last


@pytest.mark.parametrize("damage,part", [
    (lambda file: os.truncate(file, file.stat().st_size - 1000), "truncated"),
    (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "LFS"),
    (lambda file: file.write_text("<!DOCTYPE html><html></html>"), "HTML"),
    (lambda file: file.write_bytes(b""), "empty"), (lambda file: file.unlink(), "no ")])
def test_broken_weights_are_one_line(tmp_path, damage, part):
    model = write_tiny_model(tmp_path / "model")
    damage(model / "model.safetensors")
    result = run("serve", model, "--port", "0")
    assert result.returncode in (1, 2)
    last = result.stderr.strip().splitlines()[-1]
    assert str(model) in last and part in last, last
    assert "startup complete" not in result.stderr


@pytest.mark.parametrize("value", [None, "", " info", "DEBUG", "critical", "ERROR"])
def test_a_start_that_fails_says_why_at_every_level(value):
    env = {} if value is None else {"VLLM_LOGGING_LEVEL": value}
    result = run("serve", "/nowhere/model", "--port", "0", env=env)
    assert result.returncode == 2
    assert "/nowhere/model: no such file or folder" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name,value", [
    ("VLLM_LOGGING_LEVEL", "foo"), ("VLLM_LOGGING_LEVEL", "10"), ("VLLM_LOGGING_LEVEL", "off"),
    ("VLLM_SERVER_DEV_MODE", "maybe"), ("VLLM_USE_MODELSCOPE", "ja"),
    ("VLLM_CPU_KVCACHE_SPACE", "much")])
def test_a_variable_that_cannot_be_read_is_named(name, value):
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", env={name: value})
    assert result.returncode == 2
    assert f"{name}: found '{value}', expected " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("flags", [
    ("--reasoning-parser-plugin", "x.py"), ("--enable-lora",)])
def test_a_flag_that_asks_for_what_is_missing_is_refused(flags):
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", *flags)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert flags[0] in last and "not supported" in last
