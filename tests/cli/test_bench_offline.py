"""`bench latency` and `bench throughput` on a tiny model in the process."""
import json
import re
import signal
import subprocess
import xml.etree.ElementTree

import pytest

from cli_support import BINARY, TINY, clean_env, run

ENGINE = ["--model", TINY, "--load-format", "dummy", "--max-model-len", "256",
          "--kv-cache-memory-bytes", "64M"]


def test_latency(tmp_path):
    result = run("bench", "latency", *ENGINE, "--input-len", "10", "--output-len", "4", "--batch-size", "2",
                 "--num-iters", "5", "--num-iters-warmup", "1", "--output-json", tmp_path / "new" / "l.json")
    assert result.returncode == 0, result.stderr
    number = r"([\d.e-]+) seconds"
    pattern = "\n".join(["Warming up...", f"Avg latency: {number}"] +
                        [f"{p}% percentile latency: {number}" for p in (10, 25, 50, 75, 90, 99)])
    shown = [float(x) for x in re.fullmatch(pattern + "\n", result.stdout).groups()]
    saved = json.loads((tmp_path / "new" / "l.json").read_text())
    assert list(saved) == ["model_id", "avg_latency", "latencies", "percentiles"]
    assert saved["model_id"] == str(TINY) and len(saved["latencies"]) == 5
    assert list(saved["percentiles"]) == ["10", "25", "50", "75", "90", "99"]
    assert shown == pytest.approx([saved["avg_latency"], *saved["percentiles"].values()])
    assert saved["avg_latency"] == pytest.approx(sum(saved["latencies"]) / 5)
    assert saved["percentiles"]["50"] == sorted(saved["latencies"])[2]


def test_throughput(tmp_path):
    result = run("bench", "throughput", *ENGINE, "--input-len", "20", "--output-len", "6", "--num-prompts", "7",
                 "--n", "2", "--num-warmups", "2", "--output-json", tmp_path / "t.json")
    assert result.returncode == 0, result.stderr
    rates = re.search(r"^Throughput: ([\d.]+) requests/s, ([\d.]+) total tokens/s, ([\d.]+) output tokens/s\n"
                      r"Total num prompt tokens:  140\nTotal num output tokens:  84\n", result.stdout,
                      re.MULTILINE)
    saved = json.loads((tmp_path / "t.json").read_text())
    assert list(saved) == ["model_id", "elapsed_time", "num_requests", "total_num_tokens",
                           "requests_per_second", "tokens_per_second"]
    assert saved["num_requests"] == 7 and saved["total_num_tokens"] == 224
    assert [float(x) for x in rates.groups()] == pytest.approx(
        [7 / saved["elapsed_time"], 224 / saved["elapsed_time"], 84 / saved["elapsed_time"]], rel=1e-3, abs=0.01)
    assert saved["requests_per_second"] == pytest.approx(7 / saved["elapsed_time"])


def test_plots(tmp_path):
    svg = "{http://www.w3.org/2000/svg}"
    result = run("bench", "latency", *ENGINE, "--input-len", "5", "--output-len", "3", "--batch-size", "2",
                 "--num-iters", "4", "--num-iters-warmup", "0", "--plot", tmp_path / "new" / "l.svg")
    assert result.returncode == 0, result.stderr
    latency = xml.etree.ElementTree.parse(tmp_path / "new" / "l.svg").getroot()
    assert len(latency.findall(f"{svg}circle")) == 4
    assert any("4 batches of 2 prompts, 5 tokens in and 3 out" in text.text for text in latency.findall(f"{svg}text"))
    result = run("bench", "throughput", *ENGINE, "--input-len", "20", "--output-len", "6", "--num-prompts", "7",
                 "--plot", tmp_path / "t.svg")
    assert result.returncode == 0, result.stderr
    throughput = xml.etree.ElementTree.parse(tmp_path / "t.svg").getroot()
    # Waiting, prompt and answer of seven requests, the legends' squares, and the background.
    assert len(throughput.findall(f"{svg}rect")) == 7 * 3 + (3 + 2 + 3) + 1
    assert any("7 requests, all at once" in text.text for text in throughput.findall(f"{svg}text"))


def test_throughput_of_a_file(tmp_path):
    turns = [{"value": "how much is the fish today?"}, {"value": "it is cheaper than yesterday"}]
    path = tmp_path / "s.json"
    path.write_text(json.dumps([{"conversations": turns}] * 3))
    result = run("bench", "throughput", *ENGINE, "--dataset", path, "--num-prompts", "3", "--output-len", "5")
    assert result.returncode == 0, result.stderr
    assert "Total num output tokens:  15\n" in result.stdout
    path.write_text("[{]")
    result = run("bench", "throughput", *ENGINE, "--dataset", path)
    assert result.returncode == 2 and f"{path}: entry 1: " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("words,part", [
    (["latency", "--input-len", "200", "--output-len", "100"], "--max-model-len 256"),
    (["latency", "--batch-size", "0"], "--batch-size"), (["latency", "--num-iters", "0"], "--num-iters"),
    (["latency", "--use-beam-search"], "--use-beam-search"), (["latency", "--profile"], "--profile"),
    (["latency", "--n", "0"], "--n"), (["throughput", "--backend", "hf"], "invalid choice"),
    (["throughput", "--lora-path", "x"], "--lora-path"), (["throughput", "--num-prompts", "0"], "--num-prompts"),
    (["throughput", "--output-json", "/proc/nowhere/x"], "/proc/nowhere"),
    (["latency", "--plot", "/proc/nowhere/x"], "/proc/nowhere"),
    (["throughput"], "--max-model-len 256"),
])
def test_what_cannot_be_done_is_said(words, part):
    result = run("bench", *words, *ENGINE)
    assert result.returncode == 2
    assert part in result.stderr.splitlines()[-1]


def test_interrupt():
    process = subprocess.Popen([BINARY, "bench", "latency", *map(str, ENGINE), "--num-iters", "1000000"],
                               env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "Warming up...\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err == "tiercel bench latency: stopped\n"
