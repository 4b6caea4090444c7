"""Starting, stopping and configuring a server."""
import signal
import threading
import time

import httpx
import openai
import pytest

from cli_support import TINY, Server, clean_env, dummy_server, run

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


def test_the_tutorials_command_starts():
    with Server(TINY, *TUTORIAL_FLAGS, "--load-format", "dummy", env=TUTORIAL_ENV) as server:
        server.wait_ready()
        for part in ("non-default args:", "Available routes are:", "Route: /v1/chat/completions",
                     f"Starting vLLM server on http://0.0.0.0:{server.port}", "KV cache size:",
                     "FLASHCOMM1=1 has no effect here", "pa_shape_list has no effect yet"):
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
