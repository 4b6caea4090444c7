#!/usr/bin/env python3
"""Measures a model with AISBench, as vLLM-Ascend's tutorials do: accuracy on GSM8K, MATH-500 and AIME 2024, and the
client's performance mode.

    scripts/aisbench.py MODEL --data FOLDER [--tasks gsm8k,math500,aime2024,perf] [--num-prompts 8] -- [flags of serve]

The first run installs AISBench from PyPI under build/aisbench (6 GB). FOLDER is where the data sets are, in any layout:
gsm8k/test.jsonl and train.jsonl, test_prm800k_500.jsonl, aime.jsonl. They are linked, not copied.
"""
import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What the client needs beyond its own list: without math-verify it scores nothing, and does not say so.
PACKAGES = ["ais-bench-benchmark==3.1.20260630", "math-verify==0.5.2", "transformers==4.57.3", "numpy<2", "pyarrow<20",
            "torch"]
ACCURACY = {"gsm8k": "gsm8k_gen_0_shot_noncot_chat_prompt", "math500": "math500_gen_0_shot_cot_chat_prompt",
            "aime2024": "aime2024_gen_0_shot_chat_prompt"}
PERFORMANCE = "gsm8k_gen_0_shot_cot_str_perf"
# Where the client looks for a data set, below ais_bench/datasets.
GSM8K = ["gsm8k/test.jsonl", "gsm8k/train.jsonl"]
FILES = {"gsm8k": GSM8K, "math500": ["math/test_prm800k_500.jsonl"], "aime2024": ["aime/aime.jsonl"], "perf": GSM8K}


def arguments(words):
    own, flags = (words[:words.index("--")], words[words.index("--") + 1:]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder, a .gguf file, or a model's id on the hub")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="a folder that holds the data sets")
    parser.add_argument("--tasks", default="gsm8k,math500,aime2024,perf", help="default: all of %(default)s")
    parser.add_argument("--num-prompts", type=int, help="of each data set; default: all")
    parser.add_argument("--batch-size", type=int, default=4, help="requests at a time; default: %(default)s")
    parser.add_argument("--max-out-len", type=int, default=512, help="new tokens of an answer; default: %(default)s")
    parser.add_argument("--tokenizer", help="a folder; default: MODEL, where that is one")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/aisbench/out", 
                        help="results go into a folder of the time within; default: %(default)s")
    given = parser.parse_args(own)
    given.tasks, given.flags = given.tasks.split(","), flags
    unknown = [task for task in given.tasks if task not in FILES]
    if unknown:
        parser.error(f"--tasks: found {unknown[0]!r}, expected some of {','.join(FILES)}")
    given.tokenizer = pathlib.Path(given.tokenizer or given.model).resolve()
    if not (given.tokenizer / "tokenizer_config.json").exists():
        parser.error(f"--tokenizer: {given.tokenizer}/tokenizer_config.json is not there: "
                     "the client needs the folder of the model's tokenizer")
    return given


def environment():
    """The folder of a virtual environment with AISBench."""
    folder, wanted = ROOT / "build/aisbench/venv", "\n".join(PACKAGES)
    stamp = folder / "made_of"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Installing AISBench", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        stamp.write_text(wanted)
    return folder


def lay_out(data, tasks, folder):
    """Links in `folder`, as the client wants to find them."""
    for file in dict.fromkeys(file for task in tasks for file in FILES[task]):
        # What is in a folder of that name, where several have the file's name.
        pattern = file if file.startswith("gsm8k/") else pathlib.Path(file).name
        found = next(iter(sorted(data.resolve().rglob(pattern))), None)
        if found is None:
            sys.exit(f"--data: {data}: holds no {pattern}, which {', '.join(t for t in tasks if file in FILES[t])} needs")
        link = folder / "ais_bench/datasets" / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(found)


def configure(python_folder, given, port, folder):
    """The client's configurations with this server and these bounds."""
    (packaged,) = python_folder.glob("lib/python3*/site-packages/ais_bench/benchmark/configs")
    shutil.copytree(packaged, folder)
    values = {"path": str(given.tokenizer), "host_ip": "127.0.0.1", "host_port": port,
              "max_out_len": given.max_out_len, "batch_size": given.batch_size}
    for name in ("vllm_api_general_chat", "vllm_api_stream_chat"):
        file = folder / "models/vllm_api" / f"{name}.py"
        text = file.read_text()
        for key, value in values.items():
            text, count = re.subn(rf"\b{key}=[^,\n]*,", lambda _: f"{key}={value!r},", text)
            if count != 1:
                sys.exit(f"{file}: {key}: found {count} times, expected once: another version of AISBench?")
        file.write_text(text)


@contextlib.contextmanager
def serving(given, port, log):
    binary = os.environ.get("TIERCEL_BINARY", ROOT / "build/release/tiercel")
    with open(log, "w") as file:
        process = subprocess.Popen([binary, "serve", given.model, "--host", "127.0.0.1", "--port", str(port), *given.flags],
                                   stdout=file, stderr=file)
        try:
            while True:
                if process.poll() is not None:
                    sys.exit(f"the server has ended: {log.read_text().strip().splitlines()[-1]}")
                with contextlib.suppress(urllib.error.URLError, OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait()


def run_client(python_folder, given, name, words, work):
    """Runs the client in `work`/name; its output goes to a file there."""
    work = work / name
    work.mkdir(parents=True)
    if given.num_prompts:
        words = [*words, "--num-prompts", str(given.num_prompts)]
    with open(work / "client.log", "w") as log:
        print(f"{name} …", file=sys.stderr)
        done = subprocess.run(
            [python_folder / "bin/ais_bench", "--config-dir", work.parent / "configs", *words, "-w", work], cwd=work,
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env={**os.environ, "AIS_BENCH_DATASETS_CACHE": str(work.parent / "data"), "HF_HUB_OFFLINE": "1"})
    if done.returncode != 0:
        sys.exit(f"{name}: the client ended with {done.returncode}: {work}/client.log")
    return work


def one(work, pattern):
    files = sorted(work.rglob(pattern))
    if len(files) != 1:
        sys.exit(f"{work}: found {len(files)} files {pattern}, expected one: {work}/client.log says why")
    return files[0]


def accuracy(python_folder, given, work):
    """A Markdown table, as in the tutorial."""
    lines = []
    for task in given.tasks:
        if task in ACCURACY:
            folder = run_client(python_folder, given, task, [
                "--models", "vllm_api_general_chat", "--datasets", ACCURACY[task], "--mode", "all",
                "--dump-eval-details", "--merge-ds"], work)
            head, rule, *rows = one(folder, "summary_*.md").read_text().strip().splitlines()
            lines += rows if lines else [head, rule, *rows]
    return ["\n".join(lines)] if lines else []


def performance(python_folder, given, work):
    folder = run_client(python_folder, given, "perf", [
        "--models", "vllm_api_stream_chat", "--datasets", PERFORMANCE, "--mode", "perf",
        "--summarizer", "default_perf"], work)
    log = re.sub(r"\x1b\[[0-9;]*m", "", (folder / "client.log").read_text())
    tables = re.findall(r"^╒[^╛]*╛$", log, re.MULTILINE)
    if len(tables) != 2:
        sys.exit(f"perf: found {len(tables)} tables, expected two: {folder}/client.log says why")
    return tables


def main():
    given = arguments(sys.argv[1:])
    python_folder = environment()
    given.out.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d_%H%M%S_"), dir=given.out.resolve()))
    lay_out(given.data, given.tasks, work / "data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configure(python_folder, given, port, work / "configs")
    with serving(given, port, work / "server.log"):
        tables = accuracy(python_folder, given, work)
        if "perf" in given.tasks:
            tables += performance(python_folder, given, work)
    print("\n\n".join(tables))
    if "| - |\n" in tables[0] + "\n":
        sys.exit(f"not every task has a score: {work}/*/client.log say why")


if __name__ == "__main__":
    main()
