#!/usr/bin/env python3
"""Runs real clients against the program and prints a table: client, version, what was run, result.

    run.py [--build FOLDER] [NAME…]     NAME: a file here without its ending; otherwise all but the large ones

Environments of Python, one for each client, and of npm are made under FOLDER the first time.
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

import random_model
import scenes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = sorted(p.stem for p in (HERE / "requirements").glob("*.txt"))
NODE = ["node_clients", "agents"]
LARGE = ["guidellm_client", "lm_eval_offline"]  # gigabytes of packages
SECONDS = 600  # for one client


def prepared(folder, source, make):
    """Makes `folder` anew where `source` is not what it was made of."""
    stamp = folder / "made_of"
    if not stamp.exists() or stamp.read_text() != source.read_text():
        make()
        stamp.write_text(source.read_text())
    return folder


def python_of(name, build):
    folder, source = build / name, HERE / "requirements" / f"{name}.txt"

    def make():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", "-r", source], check=True)
    return prepared(folder, source, make) / "bin/python"


def node_modules(build):
    folder, source = build / "node", HERE / "package.json"

    def make():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(source.read_text())
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True,
                       stdout=sys.stderr)
    return prepared(folder, source, make) / "node_modules"


def command_of(name, build):
    """(the command, its folder)"""
    if name in PYTHON:
        return [python_of(name, build), HERE / f"{name}.py"], HERE
    modules = node_modules(build)
    if name == "agents":
        return [sys.executable, HERE / "agents.py"], HERE
    script = modules.parent / "node_clients.mjs"  # beside its packages, where node looks for them
    script.write_text((HERE / "node_clients.mjs").read_text())
    return ["node", script], modules.parent


@contextlib.contextmanager
def serving(binary, folder, *flags):
    """The address of a server of the model in `folder`, by the folder's name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [binary, "serve", folder, "--served-model-name", folder.name, "--host", "127.0.0.1", "--port", str(port),
         "--kv-cache-memory-bytes", "1G", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(url + "/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None:
                    sys.exit(f"{binary}: the server did not come up")
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def run_client(name, build, environment):
    """(its rows, whether all is well)"""
    command, where = command_of(name, build)
    try:
        ran = subprocess.run(command, cwd=where, env=environment, stdout=subprocess.PIPE, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{name}: no end within {SECONDS} s", file=sys.stderr)
        return [], False
    rows = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"client"')]
    return rows, bool(rows) and ran.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "clients")
    parser.add_argument("names", nargs="*", choices=[[], *PYTHON, *NODE], metavar="NAME")
    given = parser.parse_args()
    build = given.build.resolve()
    binary = os.environ.get("TIERCEL_BINARY") or ROOT / "build/release/tiercel"
    rows, good = [], True
    with contextlib.ExitStack() as stack:
        scripted, random_ = (pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / name
                             for name in ("scripted", "random"))
        template = scenes.write_model(scripted)
        random_model.write_random_model(random_)
        environment = {
            **os.environ, "NODE_MODULES": str(build / "node/node_modules"), "RANDOM_FOLDER": str(random_),
            "SERVER_URL": stack.enter_context(serving(
                binary, scripted, "--chat-template", template, "--reasoning-parser", "qwen3",
                "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-request-id-headers",
                "--override-generation-config", '{"max_new_tokens": 1000}')),
            "RANDOM_URL": stack.enter_context(serving(binary, random_, "--enable-tokenizer-info-endpoint"))}
        for name in given.names or [name for name in PYTHON + NODE if name not in LARGE]:
            found, well = run_client(name, build, environment)
            rows += found
            good = good and well
    print("| client | version | what was run | result |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['client']} | {row['version']} | {row['what']} | {row['error'] or 'works'} |")
    sys.exit(not good)


if __name__ == "__main__":
    main()
