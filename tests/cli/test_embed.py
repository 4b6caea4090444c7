"""libtiercel as it is installed: the example finds it and has a server's tokens."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import requests

from cli_support import BINARY, ROOT, TINY, Server, clean_env

BUILD = pathlib.Path(BINARY).parent
FLAGS = ["--load-format", "dummy", "--max-model-len", "512", "--generation-config", "vllm"]
PROMPT = "Hello, my name is"

pytestmark = pytest.mark.skipif(not (BUILD / "libtiercel.so").exists(),
                                reason="the library is not built (make library)")


def command(*words, **options):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    for component in ("tiercel", "library"):
        command("cmake", "--install", BUILD, "--prefix", folder, "--component", component, "--strip")
    # Not where it was configured to be: what is installed may be moved.
    return folder.rename(folder.with_name("moved"))


@pytest.fixture(scope="module")
def embed(prefix, tmp_path_factory):
    build = tmp_path_factory.mktemp("embed")
    command("cmake", "-S", ROOT / "examples/embed", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    command("cmake", "--build", build)
    return build / "embed"


@pytest.fixture(scope="module")
def theirs():
    """A server's tokens of the prompt, and its text of the chat."""
    with Server(TINY, *FLAGS) as server:
        server.wait_ready()
        model = {"model": str(TINY), "temperature": 0, "max_tokens": 16}
        completion = requests.post(server.url + "/completions", json={**model, "prompt": PROMPT, "return_token_ids": True},
                                   timeout=60).json()["choices"][0]
        chat = requests.post(server.url + "/chat/completions", json={**model, "messages": [
            {"role": "user", "content": "What is the capital of France?"}]}, timeout=60).json()["choices"][0]
    return completion, chat["message"]["content"]


def lines_of(program, env=None):
    # Bytes: a random model's text may have any line break in it.
    done = subprocess.run([program, TINY, PROMPT, *FLAGS, "--log-level", "error"], capture_output=True, timeout=120,
                          env=clean_env(env))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_example_has_a_servers_tokens(embed, theirs):
    completion, chat = theirs
    ids = completion["token_ids"]
    assert lines_of(embed) == (f"{completion['text']}\n[{len(ids)} tokens, {completion['finish_reason']}]\n"
                               f"{' '.join(map(str, ids))}\n{chat}\n")


def test_by_pkg_config(prefix, tmp_path, theirs):
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config")
    (file,) = prefix.rglob("tiercel.pc")
    flags = command("pkg-config", "--cflags", "--libs", "tiercel",
                    env={**os.environ, "PKG_CONFIG_PATH": str(file.parent)}).split()
    folder = next(word[2:] for word in flags if word.startswith("-L"))
    command("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", ROOT / "examples/embed/embed.c", *flags,
            f"-Wl,-rpath,{folder}", "-o", tmp_path / "embed")
    assert " ".join(map(str, theirs[0]["token_ids"])) in lines_of(tmp_path / "embed")


def test_nothing_else_is_to_be_seen():
    declared = set(re.findall(r"\b(tiercel_\w+)\(", re.sub(r"(?s)/\*.*?\*/", "", (ROOT / "include/tiercel.h").read_text())))
    symbols = command("nm", "-D", "--defined-only", BUILD / "libtiercel.so").split("\n")
    assert {line.split()[-1] for line in symbols if line} == declared


def test_the_header_stands_alone(tmp_path):
    for name, compiler, standard in (("a.c", "cc", "c99"), ("a.cc", "c++", "c++98")):
        (tmp_path / name).write_text("#include <tiercel.h>\n")
        command(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT}/include",
                tmp_path / name)
