"""`bench sweep serve` with the real server and benchmark: folders, files and names are vLLM's."""
import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cli_support import BINARY, TINY, clean_env, free_port, run


@pytest.fixture
def commands():
    port = free_port()
    serve = (f"{BINARY} serve {TINY} --load-format dummy --max-model-len 512 --kv-cache-memory-bytes 16M "
             f"--port {port} --max-num-seqs 4")
    bench = (f"{BINARY} bench serve --model {TINY} --port {port} --random-input-len 20 --random-output-len 4 "
             "--num-prompts 3")
    return ["--serve-cmd", serve, "--bench-cmd", bench]


def sweep(*words, **kwargs):
    return run("bench", "sweep", "serve", *words, timeout=180, **kwargs)


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def test_every_combination_has_its_folder(tmp_path, commands):
    serve = write(tmp_path / "serve.json", [{"max_num_seqs": 2}, {"max_num_seqs": 8, "enforce_eager": True}])
    bench = write(tmp_path / "bench.json", {"short": {"random_output_len": 2}, "long": {"random-output-len": 5}})
    words = [*commands, "--serve-params", serve, "--bench-params", bench, "-o", tmp_path / "out", "-e", "x",
             "--num-runs", "2"]
    result = sweep(*words)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "out" / "x"
    names = [f"SERVE--{s}-BENCH--{b}" for s in ("max_num_seqs=2", "max_num_seqs=8-enforce_eager=True")
             for b in ("short", "long")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "summary.csv"])
    for name in names:
        assert sorted(path.name for path in (folder / name).iterdir()) == ["run=0.json", "run=1.json", "summary.json"]
        runs = json.loads((folder / name / "summary.json").read_text())
        assert runs == [json.loads((folder / name / f"run={i}.json").read_text()) for i in range(2)]
        for number, one in enumerate(runs):
            assert one["run_number"] == number and one["completed"] == 3
            assert one["_benchmark_name"] == name.split("BENCH--")[1]
            assert one["total_output_tokens"] == 3 * (2 if "short" in name else 5)
            assert "mean_e2el_ms" in one
            assert one.get("enforce_eager", False) is ("enforce_eager" in name)
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    assert len(rows) == 8 and [row[""] for row in rows] == [str(i) for i in range(8)]
    assert [row["max_num_seqs"] for row in rows] == ["2"] * 4 + ["8"] * 4
    assert result.stdout.count("[BEGIN SERVER]") == result.stdout.count("[END SERVER]") == 2
    assert result.stdout.count("[BEGIN BENCHMARK]") == 8
    assert f"Experiment has been saved at: {folder}" in result.stdout

    # What is there is not run again.
    assert sweep(*words).returncode == 2
    again = sweep(*words, "--resume")
    assert again.returncode == 0, again.stderr
    assert "[BEGIN SERVER]" not in again.stdout and again.stdout.count("[SKIPPED BENCHMARK]") == 8
    (folder / names[0] / "summary.json").unlink()
    (folder / names[0] / "run=1.json").unlink()
    again = sweep(*words, "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("[BEGIN SERVER]") == 1 and again.stdout.count("[SKIPPED BENCHMARK]") == 7
    assert (folder / names[0] / "run=1.json").exists()


def test_a_dry_run_shows_the_commands(tmp_path, commands):
    serve = write(tmp_path / "serve.json", [{"max_num_seqs": 2}])
    result = sweep(*commands, "--serve-params", serve, "-o", tmp_path / "out", "--num-runs", "1", "--dry-run",
                   "--link-vars", "")
    assert result.returncode == 0, result.stderr
    assert "'--max-num-seqs', '2']" in result.stdout and "Server overrides: {'max_num_seqs': 2}" in result.stdout
    assert "'--percentile-metrics', 'ttft,tpot,itl,e2el', '--save-result', '--result-dir'" in result.stdout
    assert not (tmp_path / "out").exists()


def test_links_and_warmups(tmp_path, commands):
    serve = write(tmp_path / "serve.json", [{"max_num_seqs": 2}, {"max_num_seqs": 3}])
    bench = write(tmp_path / "bench.json", [{"max_concurrency": 2}, {"max_concurrency": 3}])
    result = sweep(*commands, "--serve-params", serve, "--bench-params", bench, "-o", tmp_path, "-e", "x", "--num-runs",
                   "1", "--link-vars", "max_num_seqs=max_concurrency", "--warmup-num-prompts", "2",
                   "--after-bench-cmd", f"{sys.executable} -c pass")
    assert result.returncode == 0, result.stderr
    folders = [path for path in (tmp_path / "x").iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders) == [f"SERVE--max_num_seqs={n}-BENCH--max_concurrency={n}" for n in (2, 3)]
    for folder in folders:
        assert json.loads((folder / "warmup.json").read_text())["completed"] == 2
        assert len(json.loads((folder / "summary.json").read_text())) == 1


def test_what_fails_ends_it_or_is_written_down(tmp_path, commands):
    serve = write(tmp_path / "serve.json", [{"no_such_flag": 1}, {}])
    words = [*commands, "--serve-params", serve, "-o", tmp_path, "--num-runs", "1"]
    result = sweep(*words, "-e", "a")
    assert result.returncode == 1
    assert "the server ended with exit code 2 before it was ready" in result.stderr.splitlines()[-1]
    result = sweep(*words, "-e", "b", "--continue-on-error")
    assert result.returncode == 0, result.stderr
    failure = json.loads((tmp_path / "b" / "SERVE--no_such_flag=1-failure.json").read_text())
    assert failure["serve_overrides"] == {"no_such_flag": 1} and "exit code 2" in failure["error"]
    # Without parameters the folder is the experiment's own.
    assert (tmp_path / "b" / "run=0.json").exists() and (tmp_path / "b" / "summary.csv").exists()


@pytest.mark.parametrize("words,part", [
    ([], "--serve-cmd"), (["--serve-cmd", "tiercel serve x"], "--bench-cmd"),
    (["--serve-cmd", "python x", "--bench-cmd", "y"], "--after-bench-cmd"),
    (["--serve-cmd", "vllm 'x", "--bench-cmd", "y"], "--serve-cmd"),
    (["--serve-cmd", "vllm", "--bench-cmd", "y", "--serve-params", "/nowhere/p.json"], "/nowhere/p.json"),
    (["--serve-cmd", "vllm", "--bench-cmd", "y", "--num-runs", "0"], "--num-runs"),
    (["--serve-cmd", "vllm", "--bench-cmd", "y", "--resume", "-e", "none", "-o", "/nowhere"], "--resume"),
    (["--serve-cmd", "vllm", "--bench-cmd", "y", "--link-vars", "x"], "--link-vars"),
])
def test_what_cannot_be_done_is_said(words, part):
    result = sweep(*words)
    assert result.returncode == 2
    assert part in result.stderr.splitlines()[-1]


def test_ctrl_c_ends_the_server(tmp_path, commands):
    process = subprocess.Popen([BINARY, "bench", "sweep", "serve", *commands, "-o", str(tmp_path), "-e", "x",
                                "--after-bench-cmd", "sleep 60"],
                               env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "x" / "run=0.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    (server,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_child_server(pid, process.pid)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped" in err
    assert not os.path.exists(f"/proc/{server}")


def is_child_server(pid, parent):
    try:
        with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as words:
            return stat.read().rsplit(")", 1)[1].split()[1] == str(parent) and words.read().split("\0")[1] == "serve"
    except (OSError, IndexError):
        return False
