"""scripts/aisbench.py with a client of the same name that is no benchmark: what it finds, asks and leaves is AISBench's."""
import contextlib
import io
import sys

import pytest

from cli_support import BINARY, ROOT, write_tiny_model

sys.path.insert(0, str(ROOT / "scripts"))
import aisbench  # noqa: E402  (of scripts/)

CONFIG = """models = [
    dict(
        abbr="{abbr}",
        path="",
        host_ip="localhost",
        host_port=8080,
        max_out_len=512,
        batch_size=1,
    )
]
"""
CLIENT = r"""#!{python}
import json, os, pathlib, sys, urllib.request
words = sys.argv[1:]
given = dict(zip(words[::2], words[1::2])) if "--merge-ds" not in words else dict(
    pair for pair in zip(words, words[1:]) if pair[0].startswith("-") and not pair[1].startswith("-"))
settings = {{}}
exec(pathlib.Path(given["--config-dir"], "models/vllm_api", given["--models"] + ".py").read_text(), settings)
(model,) = settings["models"]
url = f"http://{{model['host_ip']}}:{{model['host_port']}}/v1/models"
name = json.load(urllib.request.urlopen(url))["data"][0]["id"]
assert pathlib.Path(model["path"], "tokenizer.json").exists() and model["max_out_len"] == 64 and model["batch_size"] == 2
data = pathlib.Path(os.environ["AIS_BENCH_DATASETS_CACHE"], "ais_bench/datasets")
sizes = {{str(p.relative_to(data)): len(p.read_text()) for p in data.rglob("*.jsonl")}}
if given["--mode"] == "perf":
    print("\x1b[1mlog\x1b[0m\n╒══╕\n│ A │\n╘══╛\nnothing\n╒══╕\n│ B │\n╘══╛")
else:
    out = pathlib.Path(given["-w"], "now/summary")
    out.mkdir(parents=True)
    score = os.environ.get("SCORE", "50.00")
    (out / "summary_now.md").write_text(f"| dataset | {{model['abbr']}} |\n|---|---|\n| {{given['--datasets']}} | {{score}} |\n")
print(name, sizes)
"""


@pytest.fixture
def data(tmp_path):
    for file in ("elsewhere/gsm8k/test.jsonl", "elsewhere/gsm8k/train.jsonl", "test_prm800k_500.jsonl", "deep/er/aime.jsonl"):
        (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / file).write_text(file)
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path, data, monkeypatch):
    folder = tmp_path / "venv"
    models = folder / "lib/python3.0/site-packages/ais_bench/benchmark/configs/models/vllm_api"
    models.mkdir(parents=True)
    for abbr in ("vllm-api-general-chat", "vllm-api-stream-chat"):
        (models / f"{abbr.replace('-', '_')}.py").write_text(CONFIG.format(abbr=abbr))
    (folder / "bin").mkdir()
    (folder / "bin/ais_bench").write_text(CLIENT.format(python=sys.executable))
    (folder / "bin/ais_bench").chmod(0o755)
    monkeypatch.setattr(aisbench, "environment", lambda: folder)
    monkeypatch.setenv("TIERCEL_BINARY", BINARY)
    model = write_tiny_model(tmp_path / "model")

    def call(*words):
        monkeypatch.setattr(sys, "argv", [
            "aisbench.py", str(model), "--data", str(data), "--max-out-len", "64", "--batch-size", "2",
            "--out", str(tmp_path / "out"), *words, "--", "--max-model-len", "512", "--kv-cache-memory-bytes", "64M"])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            aisbench.main()
        return printed.getvalue()
    return call


def test_one_table_of_all_tasks_and_those_of_performance(run):
    assert run() == """| dataset | vllm-api-general-chat |
|---|---|
| gsm8k_gen_0_shot_noncot_chat_prompt | 50.00 |
| math500_gen_0_shot_cot_chat_prompt | 50.00 |
| aime2024_gen_0_shot_chat_prompt | 50.00 |

╒══╕
│ A │
╘══╛

╒══╕
│ B │
╘══╛
"""


def test_a_task_alone(run):
    assert run("--tasks", "aime2024", "--num-prompts", "3").count("\n") == 3


def test_what_is_missing_is_named(run, data, monkeypatch, capsys):
    monkeypatch.setenv("SCORE", "-")
    with pytest.raises(SystemExit, match="not every task has a score"):
        run("--tasks", "gsm8k")
    (data / "deep/er/aime.jsonl").unlink()
    with pytest.raises(SystemExit, match="holds no aime.jsonl, which aime2024 needs"):
        run("--tasks", "gsm8k,aime2024")
    with pytest.raises(SystemExit):
        run("--tasks", "gsm9k")
    assert "--tasks: found 'gsm9k'" in capsys.readouterr().err
    (data / "elsewhere/gsm8k/test.jsonl").unlink()
    with pytest.raises(SystemExit, match="holds no gsm8k/test.jsonl, which perf needs"):
        run("--tasks", "perf")
