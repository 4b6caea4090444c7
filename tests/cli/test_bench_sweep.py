"""`bench sweep` with the real server and benchmark: folders, files and names are vLLM's."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

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


def sweep(*words, command="serve", **kwargs):
    return run("bench", "sweep", command, *words, timeout=180, **kwargs)


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


def test_workloads_between_one_and_all_requests_at_a_time(tmp_path, commands):
    bench = write(tmp_path / "bench.json", {"short": {"random_output_len": 2}})
    words = [*commands, "--bench-params", bench, "-o", tmp_path, "-e", "x", "--num-runs", "1", "--workload-var",
             "max_concurrency", "--workload-iters", "4"]
    result = sweep(*words, command="serve_workload")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "x"
    levels = {}
    for path in folder.iterdir():
        if path.is_dir():
            assert path.name.startswith("BENCH--short-WL--max_concurrency=")
            (one,) = json.loads((path / "summary.json").read_text())
            assert one["completed"] == 3
            levels[int(path.name.split("=")[-1])] = one
    assert all(one["max_concurrency"] == level for level, one in levels.items())
    assert {1, 3} <= set(levels) <= {1, 2, 3}
    rows = list(csv.DictReader((folder / "summary.csv").open()))
    # What was explored stands between the ends, which are measured first.
    assert (rows[0]["max_concurrency"], rows[-1]["max_concurrency"]) == ("1", "3")
    assert len(rows) == 2 + result.stdout.count("Exploring: max_concurrency=")
    assert result.stdout.count("[WL START]") == result.stdout.count("[WL END]") == 1
    assert "Dataset size: 3" in result.stdout and "Serial inference: max_concurrency=" in result.stdout

    again = sweep(*words, "--resume", command="serve_workload")
    assert again.returncode == 0, again.stderr
    assert "[SKIPPED BENCHMARK]" in again.stdout and "[END BENCHMARK]" not in again.stdout


def test_a_dry_run_of_workloads_shows_both_ends(tmp_path, commands):
    result = sweep(*commands, "-o", tmp_path / "out", "--dry-run", "--num-runs", "1", command="serve_workload")
    assert result.returncode == 0, result.stderr
    assert "'--max-concurrency', '1', '--request-rate', '1'" in result.stdout
    assert "'--max-concurrency', '3', '--request-rate', '3'" in result.stdout
    assert "Omitting intermediate Workload iterations." in result.stdout and not (tmp_path / "out").exists()


def test_what_is_explored_cannot_be_given(tmp_path, commands):
    bench = write(tmp_path / "bench.json", [{"request-rate": 3}])
    result = sweep(*commands, "--bench-params", bench, command="serve_workload")
    assert result.returncode == 2 and "--bench-params: found request_rate" in result.stderr
    result = sweep(*commands, "--workload-iters", "1", command="serve_workload")
    assert result.returncode == 2 and "--workload-iters" in result.stderr


# ---- Pictures

@pytest.fixture
def results(tmp_path):
    """What two sweeps left, as `sweep serve` writes it."""
    for tp in (1, 2):
        for users in (1, 4, 16):
            folder = tmp_path / f"sweep{tp}" / f"SERVE--tensor_parallel_size={tp}-BENCH--max_concurrency={users}"
            folder.mkdir(parents=True)
            runs = [{"model_id": "a/b", "request_rate": "inf", "max_concurrency": users, "tensor_parallel_size": tp,
                     "request_throughput": 0.5 * users ** 0.5 * tp, "output_throughput": 64 * users ** 0.5 * tp,
                     "p99_e2el_ms": 100.0 * users / tp + run, "run_number": run} for run in range(2)]
            (folder / "summary.json").write_text(json.dumps(runs))
    return tmp_path


def elements(path, name):
    return list(xml.etree.ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}" + name))


def texts(path):
    return [element.text for element in elements(path, "text")]


def test_plot_draws_a_curve_for_each_setting(results):
    result = sweep(results, "--curve-by", "tensor_parallel_size", command="plot")
    assert result.returncode == 0, result.stderr
    picture = results / "FIGURE.svg"
    assert f"Group: {{}}\nGrid: 1 rows x 1 cols\nOutput file: {picture}\n[END FIGURE]" in result.stdout
    assert len(elements(picture, "circle")) == 12
    assert len([path for path in elements(picture, "path") if path.get("class") == "line"]) == 2
    assert {"tensor_parallel_size=1", "tensor_parallel_size=2", "p99_e2el_ms over request_throughput"} <= set(texts(picture))


def test_plot_draws_figures_rows_and_columns(results):
    words = [results, "--fig-dir", "figures", "--fig-name", "f", "--fig-by", "model_id,run_number", "--row-by",
             "tensor_parallel_size", "--col-by", "max_concurrency", "--filter-by", "max_concurrency<=4", "--var-x",
             "max_concurrency", "--var-y", "output_throughput", "--scale-x", "log", "--bin-by", "output_throughput%10"]
    dry = sweep(*words, "--dry-run", command="plot")
    assert dry.returncode == 0 and not (results / "figures").exists()
    result = sweep(*words, command="plot")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (results / "figures").iterdir()) == [
        "f-model_id=a_b-run_number=0.svg", "f-model_id=a_b-run_number=1.svg"]
    picture = results / "figures" / "f-model_id=a_b-run_number=0.svg"
    assert len(elements(picture, "circle")) == 4  # of six runs, two have 16 users
    assert {f"tensor_parallel_size={tp}; max_concurrency={users}" for tp in (1, 2) for users in (1, 4)} <= set(texts(picture))
    assert "model_id=a/b, run_number=0; 4 runs" in texts(picture)


def test_plot_pareto_finds_the_frontier(results):
    result = sweep(results, command="plot_pareto")
    assert result.returncode == 0, result.stderr
    # A device gives 64 √users, whatever the size; a user gets 64 / √users from one device, twice as much from two. So of
    # one device only 16 users are not beaten in both.
    assert "Plotted 12 points; Pareto frontier size: 8." in result.stdout
    picture = results / "pareto" / "PARETO.svg"
    assert len(elements(picture, "circle")) == 12
    assert texts(picture).count("max_concurrency=16, gpu_count=2") == 2
    assert "max_concurrency=4, gpu_count=1" not in texts(picture)


@pytest.mark.parametrize("command", ["plot", "plot_pareto"])
def test_pictures_need_results(tmp_path, command):
    for words, part in [([], "OUTPUT_DIR"), ([tmp_path / "none"], "none: "), ([tmp_path], "found no runs")]:
        result = sweep(*words, command=command)
        assert result.returncode == 2 and part in result.stderr.splitlines()[-1]
    (tmp_path / "summary.json").write_text("{}")
    result = sweep(tmp_path, command=command)
    assert result.returncode == 2 and "summary.json" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("words,part", [
    (["--var-y", "latency"], "--var-y: found 'latency', expected a key of the results: model_id"),
    (["--fig-by", "x"], "--fig-by"), (["--curve-by", "x"], "--curve-by"), (["--scale-x", "cubic"], "--scale-x"),
    (["--filter-by", "model_id"], "--filter-by"), (["--filter-by", "max_concurrency>99"], "found 0 of 12 runs"),
    (["--bin-by", "p99_e2el_ms"], "--bin-by"), (["--var-x", "model_id"], 'found "a/b", expected numbers'),
])
def test_what_cannot_be_drawn_is_said(results, words, part):
    result = sweep(results, *words, command="plot")
    assert result.returncode == 2
    assert part in result.stderr.splitlines()[-1]
