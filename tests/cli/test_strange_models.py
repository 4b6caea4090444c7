"""Models that a stranger made: each ends in one line."""
import json
import os
import struct

import pytest

from cli_support import run, write_tiny_model


def refused(model, *flags):
    """The last line of a server that did not start, which neither crashed nor printed a traceback."""
    result = run("serve", model, "--port", "0", *flags)
    assert result.returncode in (1, 2), (result.returncode, result.stderr[-2000:])
    assert "startup complete" not in result.stderr
    for sign in ("Check failed", "panicked", "Traceback", "terminate called", "AddressSanitizer"):
        assert sign not in result.stderr, result.stderr[-2000:]
    return result.stderr.strip().splitlines()[-1]


def change(model, name, **fields):
    path = model / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def read_safetensors(path):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def rename(model, new_name):
    """Every tensor under another name."""
    path = model / "model.safetensors"
    header, data = read_safetensors(path)
    write_safetensors(path, {new_name(name): entry for name, entry in header.items()}, data)


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "model")


# --- Files that lie -----------------------------------------------------------------------------

def sparse_gguf(path, key, element, count, size):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) +
                     text("general.architecture") + struct.pack("<I", 8) + text("qwen3") +
                     text(key) + struct.pack("<IIQ", 9, element, count))
    os.truncate(path, size)


@pytest.mark.parametrize("key,element,count,part", [
    ("qwen3.attention.head_count_kv", 0, 10**9, "go on beyond byte 268435456"),
    ("qwen3.attention.head_count_kv", 0, 2 * 10**8, "expected at most 1024 numbers"),
    ("tokenizer.ggml.tokens", 8, 2**36, "go on beyond byte 268435456"),
    ("qwen3.feed_forward_length", 10, 2**61, "go on beyond byte")])
def test_lists_of_a_sparse_gguf(tmp_path, key, element, count, part):
    path = tmp_path / "m.gguf"
    sparse_gguf(path, key, element, count, 2**40)
    last = refused(path)
    assert str(path) in last and part in last


@pytest.mark.parametrize("fields,part", [
    ({"hidden_size": [[[[[[]]]]]]}, "hidden_size"),
    ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
    ({"num_attention_heads": -1}, "num_attention_heads"),
    ({"vocab_size": 1e300}, "vocab_size"), ({"rms_norm_eps": "NaN"}, "rms_norm_eps"),
    ({"quantization_config": {"model_quant_type": "W8A8"}}, "no quant_method")])
def test_configurations(model, fields, part):
    change(model, "config.json", **fields)
    last = refused(model)
    assert "config.json" in last and part in last


def test_deep_configuration(model):
    (model / "config.json").write_text('{"hidden_size":' + "[" * 10**6 + "]" * 10**6 + "}")
    assert "nested deeper than 32 levels" in refused(model)


def test_a_configuration_of_terabytes(tmp_path):
    model = write_tiny_model(tmp_path / "model")
    change(model, "config.json", hidden_size=1 << 17, num_hidden_layers=1024,
           intermediate_size=1 << 20, vocab_size=1 << 22)
    assert "take at least 787840.50 GiB" in refused(model, "--load-format", "dummy")


@pytest.mark.parametrize("damage,part", [
    (lambda f: f.write_text("{}"), "tokenizer.json"),
    (lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\nsize 7\n"), "LFS pointer"),
    (lambda f: f.write_text("[" * 10**6), "tokenizer.json"),
    (lambda f: os.truncate(f, f.stat().st_size // 2), "tokenizer.json"),
    (lambda f: os.truncate(f, 2**40), "expected at most 67108864"),
    (lambda f: f.write_text(json.dumps(
        {**json.loads(f.read_text()), "model": {"type": "BPE", "vocab": {"a": 2**32 - 1},
                                                "merges": []}})), "found the id 4294967295"),
    (lambda f: f.unlink(), "tokenizer.json")])
def test_tokenizers(model, damage, part):
    damage(model / "tokenizer.json")
    last = refused(model)
    assert str(model) in last and part in last


# --- Files and configuration account for each other ------------------------------------------------

def test_names_without_their_prefix(model):
    rename(model, lambda name: name.removeprefix("model."))
    last = refused(model)
    assert 'names begin with "model."' in last and 'found "embed_tokens.weight"' in last


def test_all_that_is_missing_is_counted(model):
    rename(model, lambda name: name.replace("layers.1.", "layers.1.gone."))
    last = refused(model)
    assert "11 of 24 tensors of the configuration are missing" in last
    assert "model.layers.1.input_layernorm.weight" in last and "and 7 more" in last


def test_layers_beyond_the_configuration(model):
    change(model, "config.json", num_hidden_layers=1)
    last = refused(model)
    assert "num_hidden_layers is 1, and the files hold 11 tensors of 1 more layers" in last


def test_more_layers_than_the_files_hold(model):
    change(model, "config.json", num_hidden_layers=4)
    assert "the files hold 2 layers, num_hidden_layers is 4" in refused(model)


@pytest.mark.parametrize("arrange,part", [
    (lambda m: (m / "model.safetensors").rename(m / "model-00001-of-00002.safetensors"),
     "missing shards"),
    (lambda m: ((m / "model.safetensors").unlink(), (m / "model.safetensors").mkdir()),
     "not a regular file"),
    (lambda m: (m / "model.safetensors.index.json").write_text("{"), "not valid JSON"),
    (lambda m: (m / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}'),
     "in the same folder"),
    (lambda m: (m / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'),
     "missing shard"),
    (lambda m: (m / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.safetensors"}}'), "holds tensor \"a\", which is not there"),
    (lambda m: (m / "model.safetensors").write_bytes(bytes(4096)), "zero bytes"),
    (lambda m: (m / "model.safetensors").write_bytes(
        (m / "model.safetensors").read_bytes() + b"more"), "follow the last tensor"),
    (lambda m: [f.unlink() for f in list(m.iterdir())], "holds no weights"),
    (lambda m: change(m, "config.json", architectures=["Qwen3MoeForCausalLM"]),
     "Qwen3ForCausalLM")])
def test_folders(model, arrange, part):
    arrange(model)
    last = refused(model)
    assert str(model) in last and part in last, last


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_shard(model):
    (model / "model.safetensors").chmod(0)
    assert "permission denied" in refused(model)
