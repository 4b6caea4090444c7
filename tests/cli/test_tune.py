"""`tiercel tune` on a tiny model: what it measures, says and writes. How it searches is tested on made-up machines
(src/bench/tuner_test.cc)."""
import json
import shlex
import signal
import subprocess
import time
import xml.etree.ElementTree

import pytest

from cli_support import BINARY, TINY, Server, clean_env, run

ENGINE = ["--load-format", "dummy", "--max-model-len", "256", "--kv-cache-memory-bytes", "64M"]
LOAD = ["--load", "random:20/8@4"]


def tune(*words, **kwargs):
    return run("tune", TINY, *ENGINE, *words, timeout=240, **kwargs)


def test_what_is_recommended_was_measured(tmp_path):
    result = tune(*LOAD, "--knobs", "max-num-batched-tokens", "max-num-seqs", "prefetch", "--max-seconds", "60",
                  "--output-json", tmp_path / "t.json", "--plot", tmp_path / "new" / "t.svg")
    assert result.returncode == 0, result.stderr
    saved = json.loads((tmp_path / "t.json").read_text())
    assert saved["unit"] == "output tokens/s" and saved["load"] == "random:20/8@4" and saved["goal"] == "throughput"
    settings = [setting for race in saved["races"] for setting in race["settings"]]
    ran = [setting["words"] for setting in settings if setting["figures"]]
    assert saved["best"] in ran and [] in ran
    assert sum(len(setting["figures"]) for setting in settings) == saved["runs"]
    assert all(figure > 0 for setting in settings for figure in setting["figures"])
    # The line to use is what was given and what was found, and it serves.
    line = result.stdout.splitlines()[-1].strip()
    words = shlex.split(line)
    assert words == saved["command"] and words[:3] == ["tiercel", "serve", str(TINY)]
    assert words[len(words) - len(saved["best"]):] == saved["best"]
    assert "--load-format=dummy" in words and "--max-model-len=256" in words
    with Server(*words[2:]) as server:
        server.wait_ready()
    tree = xml.etree.ElementTree.parse(tmp_path / "new" / "t.svg")
    circles = tree.getroot().findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == saved["runs"]


def test_the_grid_measures_every_combination(tmp_path):
    result = tune(*LOAD, "--knobs", "quantization", "kv-cache-dtype", "async-scheduling", "--grid", "2", "--goal",
                  "goodput:e2el:60000", "--output-json", tmp_path / "t.json")
    assert result.returncode == 0, result.stderr
    saved = json.loads((tmp_path / "t.json").read_text())
    (race,) = saved["races"]
    assert len(race["settings"]) == 5 * 3 * 2 and saved["runs"] == 2 * 30
    assert len({tuple(setting["words"]) for setting in race["settings"]}) == 30
    best = max(race["settings"], key=lambda setting: sum(setting["figures"]))
    assert best["words"] == saved["best"]
    assert saved["unit"] == "good requests/s"


def test_what_is_given_is_not_varied(tmp_path):
    result = tune(*LOAD, "--exact", "--max-num-seqs", "2", "--no-async-scheduling", "--enforce-eager", "--knobs",
                  "max-num-seqs", "async-scheduling", "quantization", "--output-json", tmp_path / "t.json")
    assert result.returncode == 0, result.stderr
    assert "No setting is better than the noise." in result.stdout  # there is none
    saved = json.loads((tmp_path / "t.json").read_text())
    assert saved["races"] == [] and saved["best"] == []
    assert {"--max-num-seqs=2", "--no-async-scheduling", "--enforce-eager"} <= set(saved["command"])


def test_a_load_of_a_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"how much is fish number {i}?", "output_tokens": 3 + i}) + "\n"
                            for i in range(5)))
    result = tune("--load", f"{path}@2", "--knobs", "async-scheduling", "--goal", "ttft", "--max-seconds", "30")
    assert result.returncode == 0, result.stderr
    assert "mean TTFT, ms" in result.stdout and f"Load {path}@2, goal ttft" in result.stdout


@pytest.mark.parametrize("words,part", [
    ([], "--load"), (["--load", "random:5"], "random:200/128@8"), ([*LOAD, "--goal", "speed"], "--goal"),
    ([*LOAD, "--knobs", "speed"], "--knobs: found 'speed'"), ([*LOAD, "--max-seconds", "0"], "--max-seconds"),
    ([*LOAD, "--grid", "-1"], "--grid"), ([*LOAD, "--plot", "/proc/nowhere/x"], "/proc/nowhere"),
    (["--load", "/nowhere/x.jsonl"], "/nowhere/x.jsonl"), (["--load", "random:200/128@2"], "--max-model-len 256"),
    ([*LOAD, "--max-num-batched-tokens", "2", "--max-num-seqs", "8"], "max_num_batched_tokens (2)"),
])
def test_what_cannot_be_done_is_said(words, part):
    result = tune(*words)
    assert result.returncode in (1, 2)
    assert part in result.stderr.splitlines()[-1]


def test_interrupt():
    process = subprocess.Popen([BINARY, "tune", str(TINY), *ENGINE, "--load", "random:20/200@4"], env=clean_env(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err in ("", "tiercel tune: stopped\n", "tiercel tune: loading was cancelled\n")
