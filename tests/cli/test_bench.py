"""`bench serve` against the real server, as the tutorial runs it and where something is wrong."""
import json
import re
import signal
import subprocess
import time
import xml.etree.ElementTree

import pytest

from cli_support import BINARY, TINY, clean_env, free_port, run
from standin_hub import HttpThread, reply

SHORT = ["--random-input-len", "40", "--random-output-len", "8", "--num-prompts", "6"]


def bench(server, *words, **kwargs):
    return run("bench", "serve", "--model", TINY, "--served-model-name", "tiny", "--port",
               server.port, *words, **kwargs)


def row(text, name):
    return float(re.search(rf"^{re.escape(name)} +([\d.]+) *$", text, re.MULTILINE)[1])


def test_the_tutorials_line(server, tmp_path):
    """Its words as they stand, but for smaller numbers."""
    result = run("bench", "serve", "--model", TINY, "--served-model-name", "tiny", "--port", server.port,
                 "--dataset-name", "random", "--random-input", "200", "--num-prompts", "5",
                 "--request-rate", "20", "--save-result", "--result-dir", "./", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "============ Serving Benchmark Result ============" in lines
    for line in ("Starting initial single prompt test run...", "Skipping endpoint ready check.",
                 "Starting main benchmark run...", "Traffic request rate: 20.0",
                 "Burstiness factor: 1.0 (Poisson process)", "Maximum request concurrency: None"):
        assert line in lines
    assert row(result.stdout, "Successful requests:") == 5
    assert row(result.stdout, "Failed requests:") == 0
    assert row(result.stdout, "Total input tokens:") == 5 * 200
    assert row(result.stdout, "Total generated tokens:") == 5 * 128
    (file,) = tmp_path.iterdir()
    assert re.fullmatch(r"openai-20\.0qps-tiny-qwen3-\d{8}-\d{6}\.json", file.name)
    saved = json.loads(file.read_text())
    assert saved["completed"] == 5 and saved["total_output_tokens"] == 640
    assert saved["request_rate"] == 20.0 and saved["max_concurrency"] is None
    assert saved["mean_ttft_ms"] == pytest.approx(row(result.stdout, "Mean TTFT (ms):"), abs=0.01)
    assert "ttfts" not in saved


def test_chats_with_everything_else(server, tmp_path):
    result = bench(server, "--backend", "openai-chat", *SHORT, "--max-concurrency", "2", "--num-warmups", "2",
                   "--ready-check-timeout-sec", "5", "--save-detailed", "--append-result",
                   "--result-filename", tmp_path / "new" / "r.json", "--metadata", "tp=1", "note=a=b",
                   "--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,99.9",
                   "--goodput", "e2el:100000", "--temperature", "0", "--header", "x-a=b",
                   "--extra-body", '{"chat_template_kwargs": {"enable_thinking": false}}')
    assert result.returncode == 0, result.stderr
    assert row(result.stdout, "Maximum request concurrency:") == 2
    assert row(result.stdout, "Peak concurrent requests:") <= 2
    assert "Initial test run completed." in result.stdout and "Warmup run completed." in result.stdout
    assert "x-a" not in result.stdout  # headers may be keys
    again = bench(server, *SHORT, "--append-result", "--result-filename", tmp_path / "new" / "r.json")
    assert again.returncode == 0, again.stderr
    first, second = map(json.loads, (tmp_path / "new" / "r.json").read_text().splitlines())
    assert first["note"] == "a=b" and first["tp"] == "1" and first["backend"] == "openai-chat"
    assert {"p50_ttft_ms", "p99.9_e2el_ms"} <= first.keys() and "mean_itl_ms" not in first
    assert first["request_goodput"] == pytest.approx(first["request_throughput"])
    assert first["output_lens"] == [8] * 6 and len(first["itls"]) == 6 and first["errors"] == [""] * 6
    assert second["backend"] == "openai" and second["completed"] == 6


def test_the_servers_model_is_found(server):
    result = run("bench", "serve", "--port", server.port, *SHORT)
    assert result.returncode == 0, result.stderr
    assert f"First model name: tiny, first model id: {TINY}" in result.stdout


def test_files_of_prompts(server, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    result = bench(server, "--dataset-name", "custom", "--dataset-path", path, "--output-len", "3",
                   "--num-prompts", "3")
    assert result.returncode == 0, result.stderr
    assert "found 2 prompts, 3 were asked for" in result.stderr
    assert 3 <= row(result.stdout, "Total generated tokens:") <= 9
    path.write_text('{"prompt": "one"}\n{"promt": "two"}\n')
    result = bench(server, "--dataset-name", "custom", "--dataset-path", path)
    assert result.returncode == 2 and result.stderr.splitlines()[-1].endswith(
        f"{path}: line 2: prompt: expected a string")


def test_refusals_are_counted_and_shown(server):
    """Some: they are told. All: the exit code says it."""
    result = run("bench", "serve", "--model", TINY, "--served-model-name", "other", "--port", server.port, *SHORT)
    assert result.returncode == 1
    assert row(result.stdout, "Failed requests:") == 6
    assert re.search(r"^Error 0: HTTP 404: .*other.*does not exist", result.stdout, re.MULTILINE)

    asked = []

    def every_second(request):
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        asked.append((body, request.headers))
        if len(asked) % 2:
            return reply(request, 429, b'{"error": {"message": "slow down"}}')
        return reply(request, 200, b'data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[],"usage":'
                                   b'{"prompt_tokens":5,"completion_tokens":1}}\n\ndata: [DONE]\n\n')

    thread = HttpThread(every_second)
    try:
        result = run("bench", "serve", "--model", TINY, "--served-model-name", "m", "--base-url", thread.url,
                     *SHORT, "--request-id-prefix", "p-", "--top-k", "5", env={"OPENAI_API_KEY": "secret"})
    finally:
        thread.close()
    assert result.returncode == 0, result.stderr
    assert row(result.stdout, "Failed requests:") == 3 and row(result.stdout, "Successful requests:") == 3
    assert "Error 0: HTTP 429: slow down" in result.stdout
    assert row(result.stdout, "Total input tokens:") == 15  # the server's count
    body, headers = asked[0]
    assert headers["Authorization"] == "Bearer secret" and headers["x-request-id"].startswith("p-")
    assert body["ignore_eos"] is True and body["max_tokens"] == 8 and body["top_k"] == 5
    assert body["stream_options"] == {"include_usage": True} and "temperature" not in body


def test_no_server():
    result = run("bench", "serve", "--model", TINY, "--port", free_port(), *SHORT)
    assert result.returncode == 1
    assert row(result.stdout, "Failed requests:") == 6 and "Error 0: http://127.0.0.1" in result.stdout
    result = run("bench", "serve", "--model", TINY, "--port", free_port(), *SHORT,
                 "--ready-check-timeout-sec", "1")
    assert result.returncode == 1 and "the first request has failed for 1 s" in result.stderr
    result = run("bench", "serve", "--port", free_port())
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 2


def test_interrupted_it_shows_what_there_is(server, tmp_path):
    process = subprocess.Popen(
        [BINARY, "bench", "serve", "--model", str(TINY), "--served-model-name", "tiny", "--port",
         str(server.port), *SHORT[:4], "--num-prompts", "1000", "--request-rate", "10", "--save-result", "--result-filename", str(tmp_path / "r.json")],
        env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    while not process.stdout.readline().startswith("Maximum request concurrency"):
        assert process.poll() is None
    time.sleep(1)  # some ten requests
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    done = row(out, "Successful requests:")
    assert 0 < done < 1000 and row(out, "Failed requests:") == 0
    assert f"Interrupted: {1000 - done:.0f} requests have not ended" in out
    assert json.loads((tmp_path / "r.json").read_text())["completed"] == done


@pytest.mark.parametrize("words,part", [
    (["--profile"], "--profile: not supported"), (["--plot-timeline"], "--plot-timeline"),
    (["--request-rate", "-1"], "--request-rate"), (["--request-rate", "x"], "--request-rate"),
    (["--burstiness", "0"], "--burstiness"), (["--max-concurrency", "0"], "--max-concurrency"),
    (["--percentile-metrics", "ttft,x"], "'x'"), (["--metric-percentiles", "101"], "'101'"),
    (["--goodput", "itl:5"], "'itl:5'"), (["--goodput", "ttft"], "'ttft'"), (["--header", "a"], "KEY=VALUE"),
    (["--ramp-up-strategy", "linear"], "--ramp-up-start-rps"), (["--dataset-name", "hf"], "invalid choice"),
    (["--backend", "tgi"], "invalid choice"), (["--endpoint", "/v1/chat/completions"], "--endpoint"),
    (["--ramp-up-strategy", "linear", "--ramp-up-start-rps", "2", "--ramp-up-end-rps", "1"],
     "--ramp-up-end-rps"), (["--num-prompts", "0"], "--num-prompts"),
    (["--random-range-ratio", "[1]"], "--random-range-ratio"), (["--extra-body", "{"], "--extra-body"),
    (["--dataset-path", "x"], "--dataset-path"),
    (["--save-result", "--result-dir", "/proc/nowhere"], "/proc/nowhere"),
])
def test_what_cannot_be_done_is_said_at_once(words, part):
    result = run("bench", "serve", "--model", TINY, "--port", free_port(), *words)
    assert result.returncode == 2
    assert part in result.stderr.splitlines()[-1] and "Benchmark Result" not in result.stdout


def test_help_names_the_benchmarks():
    assert "serve" in run("bench", "--help").stdout
    assert "--burstiness" in run("bench", "serve", "--help=all").stdout
    assert run("bench").returncode == 2 and run("bench", "x").returncode == 2


def test_a_plot_is_a_picture_of_the_run(server, tmp_path):
    result = bench(server, *SHORT, "--max-concurrency", "2", "--plot", tmp_path / "new" / "run.svg")
    assert result.returncode == 0, result.stderr
    root = xml.etree.ElementTree.parse(tmp_path / "new" / "run.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("6 requests, 0 failed") and "at most 2 at a time" in text for text in texts)
    assert {"How long requests took", "Throughput and load over time", "Throughput over concurrency",
            "When each request ran"} <= set(texts)
    # Waiting, prompt and answer of six requests, eight squares of legends, the background.
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 6 * 3 + 8 + 1


def test_a_plot_that_cannot_be_written_is_found_before_the_run(server, tmp_path):
    result = bench(server, *SHORT, "--plot", tmp_path)
    assert result.returncode == 2 and "is a folder" in result.stderr.splitlines()[-1]
    assert "Starting main benchmark run" not in result.stdout
