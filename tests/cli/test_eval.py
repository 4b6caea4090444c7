"""tiercel eval on tiny models: figures that can be checked by other means, and errors of one line."""
import json
import math
import os
import pty
import shutil
import subprocess

import pytest

from cli_support import BINARY, TINY, clean_env, run, write_tiny_model

TEXT = "The quick brown fox jumps over the lazy dog. " * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("eval")
    write_tiny_model(base / "model")
    # The same tokenizer and shape, other weights: every value of the embedding with its sign changed.
    shutil.copytree(base / "model", base / "other")
    data = bytearray((base / "model" / "model.safetensors").read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for i in range(start + 1, start + 1 + 2 * 20000, 2):
        data[i] ^= 0x80
    (base / "other" / "model.safetensors").write_bytes(data)
    (base / "text.txt").write_text(TEXT)
    return base


def evaluate(*words, timeout=120):
    result = run("eval", *words, "--json", timeout=timeout)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_perplexity(folder):
    found = evaluate("perplexity", folder / "model", "--text", folder / "text.txt",
                     "--window", 100, "--tokens", 450)
    assert found["tokens"] == 450
    assert found["scored"] == 450 - 5, "the first token of each window is not scored"
    vocab = json.loads((TINY / "config.json").read_text())["vocab_size"]
    # Small random weights predict nearly nothing.
    assert found["perplexity"] == pytest.approx(vocab, rel=0.1)
    assert 0 < found["perplexity_standard_error"] < found["perplexity"] / 10


def test_stride_scores_every_token_but_the_first(folder):
    found = evaluate("perplexity", folder / "model", "--text", folder / "text.txt",
                     "--window", 100, "--stride", 50, "--tokens", 0)
    assert found["scored"] == found["tokens"] - 1
    assert found["stride"] == 50


def test_table(folder):
    result = run("eval", "perplexity", folder / "model", "--text", folder / "text.txt",
                 "--tokens", "200")
    assert result.returncode == 0
    assert "perplexity" in result.stdout and "±" in result.stdout


def test_kl(folder):
    same = evaluate("kl", folder / "model", "--reference", folder / "model", "--text",
                    folder / "text.txt", "--tokens", 300)
    assert same["kl_max"] < 1e-6 and same["same_top_token"] == 1
    assert same["perplexity"] == same["reference_perplexity"]
    other = evaluate("kl", folder / "other", "--reference", folder / "model", "--text",
                     folder / "text.txt", "--tokens", 300)
    assert 0 < other["kl_median"] <= other["kl_p99"] <= other["kl_max"]
    assert other["kl_mean"] > 0 and math.isfinite(other["kl_mean"])
    assert other["same_top_token"] < 1
    assert other["reference_perplexity"] == same["perplexity"]


def test_quantized_at_load_against_itself(folder):
    found = evaluate("kl", folder / "model", "--quantization", "int8", "--reference",
                     folder / "model", "--text", folder / "text.txt", "--tokens", 300)
    assert 0 < found["kl_mean"] < 0.01
    assert found["perplexity"] == pytest.approx(found["reference_perplexity"], rel=0.01)


def test_progress_bar_on_a_terminal(folder):
    terminal, child = pty.openpty()
    process = subprocess.Popen(
        [BINARY, "eval", "perplexity", folder / "model", "--text", folder / "text.txt"],
        env=clean_env(), stdout=subprocess.PIPE, stderr=child, text=True)
    os.close(child)
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # the other end was closed
        pass
    assert "perplexity" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert b"Evaluating: 100%" in shown and b"tokens/s" in shown


@pytest.mark.parametrize("words,part", [
    ((), "perplexity or kl"),
    (("accuracy",), "'accuracy'"),
    (("perplexity",), "MODEL"),
    (("perplexity", "MODEL"), "--text"),
    (("kl", "MODEL", "--text", "TEXT"), "--reference"),
    (("perplexity", "MODEL", "--text", "TEXT", "--reference", "MODEL"), "--reference"),
    (("perplexity", "MODEL", "--text", "TEXT", "--window", "1"), "--window"),
    (("perplexity", "MODEL", "--text", "TEXT", "--window", "100k"), "--window"),
    (("perplexity", "MODEL", "--text", "TEXT", "--window", "64", "--stride", "65"), "--stride"),
    (("perplexity", "MODEL", "--text", "TEXT", "--tokens", "1"), "at least 2"),
    (("perplexity", "MODEL", "--text", "TEXT", "--data-parallel-size", "2"), "--data-parallel-size: found 2, expected 1"),
    (("perplexity", "MODEL", "--text", "/nowhere/text"), "/nowhere/text"),
    (("perplexity", "/nowhere/model", "--text", "TEXT"), "/nowhere/model"),
])
def test_errors_name_what_is_wrong(folder, words, part):
    names = {"MODEL": folder / "model", "TEXT": folder / "text.txt"}
    result = run("eval", *[names.get(word, word) for word in words])
    assert result.returncode in (1, 2)
    assert part in result.stderr.splitlines()[-1]
    assert "tiercel eval: " in result.stderr and result.stdout == ""


def test_models_of_other_vocabularies_are_not_compared(folder):
    config = json.loads((folder / "model" / "config.json").read_text())
    config["vocab_size"] += 64
    other = folder / "wider"
    shutil.copytree(folder / "model", other)
    (other / "config.json").write_text(json.dumps(config))
    result = run("eval", "kl", other, "--load-format", "dummy", "--reference", folder / "model",
                 "--text", folder / "text.txt")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "vocabulary of" in result.stderr


def test_help():
    text = run("eval", "--help").stdout
    for part in ("--text", "--reference", "--stride", "perplexity", "kl"):
        assert part in text
    assert "--hf-overrides" in run("eval", "kl", "--help=all").stdout
