"""The benchmark's scripts: what they measure on a real server, and what they make of the figures."""

import json
import subprocess
import sys
import types

import pytest

from tiny_model import BINARY, MODEL, NAME, ROOT

sys.path.insert(0, str(ROOT / "bench"))
import report
import serve_load
from peers import rows


def test_load_counts_every_token(server):
    before = server.metric("vllm:generation_tokens_total")
    figures = serve_load.measure(server.port, NAME, prompts=12, concurrency=4, input_len=30, output_len=20,
                                 token_ids=(10, 1000))
    assert server.metric("vllm:generation_tokens_total") - before == 12 * 20
    assert figures["output_tok_s"] * figures["seconds"] == pytest.approx(12 * 20)
    assert 0 < figures["mean_ttft_ms"] <= figures["p99_ttft_ms"] < figures["seconds"] * 1e3
    # A client sends one prompt after the other, three on average.
    parts = 3 * (figures["mean_ttft_ms"] + 19 * figures["mean_tpot_ms"]) / 1e3
    assert parts <= figures["seconds"] * 1.01


def test_speculative_says_that_answers_are_the_same():
    program = subprocess.run([sys.executable, ROOT / "bench/speculative.py", MODEL, "--tiercel", BINARY, "--rounds", "1",
                              "--load-format", "dummy"],
                             capture_output=True, text=True, timeout=120)
    lines = program.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["edit", "summary", "write"], program
    assert all(line.endswith("the same answer") for line in lines)


def test_load_reports_a_refusal(server):
    with pytest.raises(serve_load.LoadError, match="(?s)404.*does not exist"):
        serve_load.measure(server.port, "another", prompts=1, token_ids=(10, 1000))
    with pytest.raises(serve_load.LoadError, match="400"):
        serve_load.measure(server.port, NAME, prompts=1, input_len=5000, token_ids=(10, 1000))


def compare(tmp_path, *flags):
    return subprocess.run([sys.executable, ROOT / "bench/compare.py", "--model", MODEL, "--out", tmp_path / "out",
                           "--build", tmp_path / "build", "--peers", tmp_path / "peers", "--no-server",
                           "--no-neighbor", *flags], capture_output=True, text=True)


def test_missing_peers_are_skipped_by_name(tmp_path):
    benchmark = tmp_path / "build/bench/step_benchmark"
    benchmark.parent.mkdir(parents=True)
    (tmp_path / "build/tiercel").touch()
    benchmark.write_text("""#!/bin/sh
case "$*" in
  *limits) echo '{"row": "limits", "read_gb_s": 30, "gflop_s": 1000, "int8_gop_s": 2000}' ;;
  *"--repeat 1 p512 d1x512") echo noise
    echo '{"row": "p512", "tok_s": 1, "bytes": 1e9, "flop": 3e11, "int8_op": 4e11}'
    echo '{"row": "d1x512", "tok_s": 1, "bytes": 1e9, "flop": 1e9, "int8_op": 0}' ;;
  *) exit 3 ;;
esac
""")
    benchmark.chmod(0o755)
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("""#!/bin/sh
case "$*" in
  *"tiercel_bench.py --model "*" --repeat 3 p512 d1x512")
    echo '{"row": "p512", "tok_s": [512, 500, 600]}'
    echo '{"row": "d1x512", "tok_s": [15]}' ;;
  *) exit 3 ;;
esac
""")
    python.chmod(0o755)
    run = compare(tmp_path, "--rounds", "2", "--rows", "p512,d1x512")
    assert run.returncode == 0, run.stderr
    for name in ("llama.cpp", "openvino", "vllm"):
        assert f"{name}: skipped, not found: {tmp_path}/peers" in run.stdout
    summary = json.loads((tmp_path / "out.json").read_text())
    assert {row["row"]: row["share"] for row in summary["rows"]} == {"p512": 0.5, "d1x512": 0.5}
    assert summary["run"]["values"]["tiercel"]["d1x512"] == [15, 15]
    assert summary["run"]["limits"] == [[30, 1000, 2000]] * 4  # before each turn and after each round


def test_comparison_needs_tiercel(tmp_path):
    run = compare(tmp_path, "--only", "openvino")
    assert run.returncode == 1
    assert run.stderr.startswith(f"tiercel: not found: {tmp_path}/build/tiercel, ")
    assert "Traceback" not in run.stderr


def test_table_of_three_turns(tmp_path):
    run = types.SimpleNamespace(
        # medians 30 GB/s, 1000 GFLOP/s, 4000 GOP/s
        limits=[(30.0, 1000.0, 4000.0), (20.0, 900.0, 5000.0), (40.0, 2000.0, 3000.0)],
        # 0.3 and 0.2 s of arithmetic; 50 ms by bytes
        work={"p512": (1e9, 300e9, 800e9), "d8x256": (1.5e9, 10e9, 0)},
        values={"tiercel": {"p512": [512.0, 500.0, 900.0], "d8x256": [120.0], "start_s": [0.5],
                            "server_output_tok_s": [40.0]},
                "peer": {"p512": [256.0], "start_s": [2.0]},
                "other": {"p512": [64.0], "start_s": [1.0]}})
    report.write(str(tmp_path / "out"), "models/some", ["tiercel", "peer", "other"], run)
    summary = json.loads((tmp_path / "out.json").read_text())
    by_row = {row["row"]: row for row in summary["rows"]}
    assert by_row["p512"]["limit"] == 1024 and by_row["p512"]["share"] == 0.5
    assert by_row["p512"]["turns"] == 3 and by_row["p512"]["ahead"] == 2
    assert by_row["d8x256"]["limit"] == pytest.approx(160) and by_row["d8x256"]["share"] == pytest.approx(0.75)
    assert "ahead" not in by_row["d8x256"]
    assert by_row["start_s"]["ahead"] == 2 and by_row["start_s"]["limit"] is None
    # 8 prompts of 200 take 3.125 x 0.5 s, their 128 steps 6.4 s: 1024 tokens in 7.9625 s.
    assert by_row["server_output_tok_s"]["limit"] == pytest.approx(1024 / 7.9625)
    table = (tmp_path / "out.md").read_text()
    assert "| prefill 512, tok/s | 1024 | 512 | 256 | 64 | 0.50 | 2.00 × |" in table
    assert "| decode, 8 streams at 256, tok/s | 160 | 120 |  |  | 0.75 |  |" in table
    # The file has all that --append goes on with.
    report.write(str(tmp_path / "out"), "models/some", ["tiercel", "peer", "other"],
                 types.SimpleNamespace(**summary["run"]))
    assert json.loads((tmp_path / "out.json").read_text()) == summary


def test_a_peers_rows(monkeypatch):
    assert rows.parse("p512") == (1, 512, 1) and rows.parse("c16384") == (1, 16384, 1)
    assert rows.parse("d1x512") == (1, 448, 129) and rows.parse("d8x256") == (8, 192, 65)
    # Counted from the step in which both have a token, [3, 1], to that in which one has all, [65, 63]: 124 tokens
    # in 62 s.
    clock = iter(range(1000))
    monkeypatch.setattr(rows.time, "perf_counter", lambda: next(clock))
    steps = [[], [1], [2], [3, 1]] + [[3 + i, 1 + i] for i in range(1, 70)]
    assert rows.decode_rate(iter(steps), 2, 65) == pytest.approx(2)
