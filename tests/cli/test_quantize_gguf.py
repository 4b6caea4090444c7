"""GGUF files that tiercel quantize writes: read back by the gguf package, and served."""
import json
import resource
import shutil
import struct
import subprocess

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from cli_support import BINARY, TINY, Server, clean_env, run, write_tiny_model

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 40
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "float")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def floats(folder):
    """The model's tensors by the names that they have in GGUF."""
    data = (folder / "model.safetensors").read_bytes()
    length, = struct.unpack_from("<Q", data)
    tensors = {}
    for name, t in json.loads(data[8:8 + length]).items():
        begin, end = t["data_offsets"]
        words = np.frombuffer(data[8 + length + begin:8 + length + end], np.uint16)
        stem, kind = name.rsplit(".", 1)
        if stem in ENDS:
            stem = ENDS[stem]
        else:
            _, _, layer, inner = stem.split(".", 3)
            stem = f"blk.{layer}.{NAMES[inner]}"
        tensors[f"{stem}.{kind}"] = (words.astype(np.uint32) << 16).view(np.float32).reshape(t["shape"])
    return tensors


def said(result):
    """What a failed command says beside its log."""
    return [line for line in result.stderr.strip().splitlines() if not line.startswith("info ")]


def quantize(model, out, scheme, *flags):
    result = run("quantize", model, out, "--scheme", scheme, *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout


def read(path):
    """Metadata, and each tensor's type and values."""
    reader = gguf.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {t.name: (t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type).reshape(
        tuple(reversed(t.shape.tolist())))) for t in reader.tensors}
    return metadata, tensors


def rms(difference):
    return float(np.sqrt(np.mean(np.square(difference.astype(np.float64)))))


def loss_of_package(values, kind):
    """What the package's own rounding to that type loses."""
    return rms(gguf.quants.dequantize(gguf.quants.quantize(values, Type[kind]), Type[kind]) - values)


def check_values(model, tensors):
    exact = floats(model)
    assert set(tensors) == set(exact)
    for name, (kind, values) in tensors.items():
        assert values.shape == exact[name].shape
        if values.ndim == 1:
            assert kind == "F32"
        lost = rms(values - exact[name])
        if kind in ("F32", "BF16"):
            assert lost == 0
        elif kind in ("Q4_0", "Q5_0", "Q5_1"):
            assert lost < 0.97 * loss_of_package(exact[name], kind)
        elif kind == "Q8_0":
            assert lost <= 1.001 * loss_of_package(exact[name], kind)
        else:  # the package has no rounding to these: theirs is that of a plain type of as many bits
            plain, bits = {"Q4_K": ("Q4_1", 0), "Q5_K": ("Q5_1", 0), "Q6_K": ("Q5_1", 1)}[kind]
            assert 0 < lost < loss_of_package(exact[name], plain) / 2**bits
    return exact


@pytest.mark.parametrize("scheme, types", [
    ("q4_0", {"Q4_0": 14, "Q6_K": 1}),
    ("q4_k_m", {"Q4_K": 12, "Q6_K": 3}),
    ("q5_k_m", {"Q5_K": 12, "Q6_K": 3}),
    ("q6_k", {"Q6_K": 15}),
    ("q8_0", {"Q8_0": 15}),
])
def test_the_package_reads_what_was_there(scheme, types, model, tmp_path):
    out = tmp_path / "m.gguf"
    table = quantize(model, out, scheme)
    assert "relative error in percent: of the weights" in table and "down_proj" in table
    metadata, tensors = read(out)
    check_values(model, tensors)
    found = [kind for kind, values in tensors.values() if values.ndim == 2]
    assert {kind: found.count(kind) for kind in set(found)} == types
    for kind, count in types.items():
        assert f"{kind} {count}" in table.splitlines()[-1]


def test_metadata_is_what_llama_cpp_needs(model, tmp_path):
    out = tmp_path / "m.gguf"
    quantize(model, out, "q4_k_m")
    metadata, _ = read(out)
    config = json.loads((model / "config.json").read_text())
    for key, expected in {
            "general.architecture": "qwen3", "general.file_type": 15, "general.quantization_version": 2,
            "qwen3.block_count": config["num_hidden_layers"], "qwen3.context_length": config["max_position_embeddings"],
            "qwen3.embedding_length": config["hidden_size"], "qwen3.feed_forward_length": config["intermediate_size"],
            "qwen3.attention.head_count": config["num_attention_heads"],
            "qwen3.attention.head_count_kv": config["num_key_value_heads"],
            "qwen3.attention.key_length": config["head_dim"], "qwen3.attention.value_length": config["head_dim"],
            "qwen3.rope.freq_base": config["rope_theta"], "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
            "tokenizer.ggml.eos_token_id": config["eos_token_id"], "tokenizer.ggml.add_bos_token": False}.items():
        assert metadata[key] == expected, key
    assert metadata["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"])
    tokenizer = json.loads((TINY / "tokenizer.json").read_text())
    spelled = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == config["vocab_size"] > max(spelled.values()) + 1
    assert all(tokens[at] == token for token, at in spelled.items())
    added = {t["id"]: gguf.TokenType.CONTROL if t["special"] else gguf.TokenType.USER_DEFINED
             for t in tokenizer["added_tokens"]}
    for at, kind in enumerate(types):
        last = gguf.TokenType.NORMAL if at in spelled.values() else gguf.TokenType.UNUSED
        assert kind == added.get(at, last)
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    assert metadata["tokenizer.ggml.merges"] == merges
    template = json.loads((TINY / "tokenizer_config.json").read_text())["chat_template"]
    assert metadata["tokenizer.chat_template"] == template
    generation = json.loads((TINY / "generation_config.json").read_text())["eos_token_id"]
    ends = {metadata[f"tokenizer.ggml.{key}_token_id"] for key in ("eos", "eot") if f"tokenizer.ggml.{key}_token_id" in metadata}
    assert ends == set(generation if isinstance(generation, list) else [generation]) | {config["eos_token_id"]}


def test_other_architectures_and_rows_that_are_no_whole_blocks(tmp_path):
    """Qwen2 with biases and a head of its own; rows of 320."""
    model = write_tiny_model(tmp_path / "m", architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=320,
                             tie_word_embeddings=False)
    out = tmp_path / "m.gguf"
    quantize(model, out, "q4_k_m", "--exclude", "model.layers.1.mlp.up_proj")
    metadata, tensors = read(out)
    assert metadata["general.architecture"] == "qwen2"
    check_values(model, tensors)
    kinds = {name: kind for name, (kind, _) in tensors.items()}
    assert (kinds["token_embd.weight"], kinds["output.weight"], kinds["blk.0.attn_q.weight"]) == ("Q5_0", "Q8_0", "Q5_0")
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.1.ffn_down.weight"]) == ("Q4_K", "Q6_K")
    assert (kinds["blk.0.attn_v.weight"], kinds["blk.1.attn_v.weight"]) == ("Q5_0", "Q8_0")
    assert (kinds["blk.1.ffn_up.weight"], kinds["blk.1.attn_k.bias"]) == ("BF16", "F32")
    assert kl(out, model, tmp_path) < 0.01


def test_rows_of_llamas_heads_are_interleaved(tmp_path):
    """Which llama.cpp's rotary embedding wants: (head, half, i) becomes (head, i, half)."""
    model = write_tiny_model(tmp_path / "m", architectures=["LlamaForCausalLM"], model_type="llama")
    out = tmp_path / "m.gguf"
    quantize(model, out, "q8_0", "--exclude", "*")
    _, tensors = read(out)
    exact = floats(model)
    for name, heads in (("blk.0.attn_q.weight", 4), ("blk.1.attn_k.weight", 2)):
        rows, columns = exact[name].shape
        interleaved = exact[name].reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        assert (tensors[name][1] == interleaved).all()
    assert (tensors["blk.0.attn_v.weight"][1] == exact["blk.0.attn_v.weight"]).all()
    assert kl(out, model, tmp_path) == 0


def kl(out, model, folder):
    text = folder / "text.txt"
    text.write_text(TEXT[:1500])
    result = run("eval", "kl", out, "--reference", model, "--text", text, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["kl_mean"]


def test_the_file_is_served(model, tmp_path):
    lost = {}
    for scheme, kept in (("q4_0", "Q4_0 14"), ("q4_k_m", "Q4_K 12"), ("q8_0", "Q8_0 15")):
        out = tmp_path / f"{scheme}.gguf"
        quantize(model, out, scheme)
        lost[scheme] = kl(out, model, tmp_path)
        with Server(out, "--max-model-len", "256") as server:
            server.wait_ready()
            assert kept in server.log and "kept as they are" in server.log
    assert 0 < lost["q8_0"] < lost["q4_k_m"] < 0.02
    assert lost["q4_k_m"] < lost["q4_0"] < 0.05
    again = run("quantize", tmp_path / "q8_0.gguf", tmp_path / "twice.gguf", "--scheme", "q4_0")
    assert again.returncode == 2 and "expected a folder" in again.stderr


def test_calibration_shows_what_outputs_lose(model, text, tmp_path):
    plain = quantize(model, tmp_path / "plain.gguf", "q4_0")
    calibrated = quantize(model, tmp_path / "calibrated.gguf", "q4_0", "--calibration", text)
    assert "of the weights / of the outputs" in calibrated and "of the outputs" not in plain
    first = [table.splitlines()[2].split() for table in (plain, calibrated)]
    assert first[0][1:] == first[1][1::3]
    assert all(0 < float(outputs) < 100 for outputs in first[1][3::3])
    assert (tmp_path / "plain.gguf").read_bytes() == (tmp_path / "calibrated.gguf").read_bytes()


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(model, tmp_path):
    out = tmp_path / "m.gguf"
    # A file that may not grow beyond 200 kB; SIGXFSZ is ignored by Python, and so by what it starts.
    result = subprocess.run([BINARY, "quantize", str(model), str(out), "--scheme", "q8_0"], env=clean_env(), text=True,
                            capture_output=True, timeout=60, restore_signals=False,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    assert result.returncode == 1
    assert said(result) == [f"tiercel quantize: {out}: cannot be written: is the disk full?"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words, error", [
    (("--scheme", "q4_k_m", "--smooth", "0.5"), "--scheme q4_k_m writes weights alone; leave --smooth out"),
    (("--scheme", "q4_k_m", "--kv", "int8"), "--scheme q4_k_m writes weights alone; leave --kv out"),
    (("--scheme", "q4_0", "--method", "gptq"), "argument --method: belongs to --scheme w4a8 and int4"),
    (("--scheme", "q2_k"), "invalid choice: 'q2_k'"),
])
def test_flags_of_other_schemes_are_refused(words, error, model, tmp_path):
    result = run("quantize", model, tmp_path / "m.gguf", *words)
    assert result.returncode == 2 and error in result.stderr
    assert not (tmp_path / "m.gguf").exists()


def test_names_that_cannot_be_written(model, tmp_path):
    there = tmp_path / "there.gguf"
    there.write_text("mine")
    for out, error in ((there, "is there already; name a new file"), (tmp_path / "folder", "a name that ends in .gguf"),
                       (tmp_path / "none" / "m.gguf", "cannot be made: is its folder there")):
        result = run("quantize", model, out, "--scheme", "q4_0")
        assert result.returncode in (1, 2) and error in result.stderr
        assert len(said(result)) == 1
    assert there.read_text() == "mine"


@pytest.mark.parametrize("name, change, error", [
    ("config.json", {"architectures": ["Qwen3ForSequenceClassification"]}, "found Qwen3ForSequenceClassification"),
    ("tokenizer.json", {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}},
     "tokenizer.json: expected a byte-level BPE"),
    ("tokenizer.json", None, "tokenizer.json: not found"),
])
def test_models_that_gguf_cannot_hold(name, change, error, model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    result = run("quantize", folder, tmp_path / "m.gguf", "--scheme", "q4_0")
    assert result.returncode in (1, 2) and error in result.stderr
    assert len(said(result)) == 1
    assert not (tmp_path / "m.gguf").exists()
