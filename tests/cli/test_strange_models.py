"""Models that a stranger made: each ends in one line, or is served as it should be."""
import json
import os
import struct

import httpx
import pytest

from cli_support import TINY, Server, dummy_server, run, write_tiny_model


def refused(model, *flags, code=2, env=None):
    """The last line of a server that did not start, which neither crashed nor printed a traceback."""
    result = run("serve", model, "--port", "0", *flags, env=env)
    assert result.returncode == code, (result.returncode, result.stderr[-2000:])
    assert "startup complete" not in result.stderr
    for sign in ("Check failed", "panicked", "Traceback", "terminate called", "AddressSanitizer"):
        assert sign not in result.stderr, result.stderr[-2000:]
    return result.stderr.strip().splitlines()[-1]


def change(model, name, /, **fields):
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


def add_tensor(model, name):
    path = model / "model.safetensors"
    header, data = read_safetensors(path)
    header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    write_safetensors(path, header, data + bytes(4))


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


@pytest.mark.parametrize("value", [0, 1e-60])
def test_defaults_that_each_request_would_be_refused_for(model, value):
    given = json.dumps({"top_p": value})
    assert "--override-generation-config: top_p: found" in refused(model, "--override-generation-config", given)
    change(model, "generation_config.json", top_p=value)
    assert f"{model}/generation_config.json: top_p: found" in refused(model)


def test_unknown_defaults(model):
    with Server(model, "--max-model-len", "256", "--override-generation-config", '{"topk": 3, "top_p": 0.5}') as server:
        server.wait_ready()
        assert '--override-generation-config: unknown key "topk"' in server.log and 'key "top_p"' not in server.log
        assert server.stop() == 0


def test_int8_that_is_float(model):
    change(model, "config.json", quantization_config={
        "quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
            "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}}}})
    assert f"{model}: the weights' files hold no linear in INT8" in refused(model)


def test_deep_configuration(model):
    (model / "config.json").write_text('{"hidden_size":' + "[" * 10**6 + "]" * 10**6 + "}")
    assert "nested deeper than 32 levels" in refused(model)


def test_a_configuration_of_terabytes(tmp_path):
    model = write_tiny_model(tmp_path / "model")
    change(model, "config.json", hidden_size=1 << 17, num_hidden_layers=1024, layer_types=None,
           intermediate_size=1 << 20, vocab_size=1 << 22)
    assert "take at least 787840.50 GiB" in refused(model, "--load-format", "dummy", code=1)


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


def template(ids, used="<s>"):
    return {"type": "TemplateProcessing", "pair": [],
            "single": [{"SpecialToken": {"id": used, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": ids, "tokens": ["<s>"]}}}


@pytest.mark.parametrize("part,value,message", [
    ("post_processor", template([0], "<t>"), 'post_processor.single: found the token "<t>"'),
    ("post_processor", template([2**31]), "post_processor: found the id 2147483648"),
    ("post_processor", template([5000]), "post_processor: found the id 5000"),
    ("pre_tokenizer", {"type": "FixedLength", "length": 0}, "pre_tokenizer: fails on a text"),
    ("model", {"type": "BPE", "vocab": {}, "merges": []}, "model.vocab: found no token"),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": None}, "normalizer: cannot be read"),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "normalizer: cannot be read")])
def test_a_tokenizer_is_tried_at_start(model, part, value, message):
    change(model, "tokenizer.json", **{part: value})
    for flags in ((), ("--load-format", "dummy")):
        result = run("serve", model, "--port", "0", *flags)
        assert result.returncode == 2
        assert f"{model}/tokenizer.json: {message}" in result.stderr.strip().splitlines()[-1]
        assert "panicked" not in result.stderr and "backtrace" not in result.stderr


def test_a_tokenizer_of_another_model(model):
    change(model, "config.json", vocab_size=1001)
    with Server(model, "--load-format", "dummy", "--max-model-len", "256") as server:
        server.wait_ready()
        assert f"{model}/tokenizer.json: found ids up to 1025, expected less than the model's vocab_size (1001)" in server.log
        assert server.stop() == 0
    change(model, "tokenizer.json", post_processor=template([1010]))
    assert (f"{model}/tokenizer.json: post_processor: found the id 1010 (<|vision_end|>), expected less than the model's vocab_size"
            in refused(model, "--load-format", "dummy"))


def test_a_text_that_the_vocabulary_cannot_spell(model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer |= {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
                  "added_tokens": [],
                  "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "<unk>"}}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with Server(model, "--served-model-name", "m", "--max-model-len", "256") as server:
        server.wait_ready()
        url = f"http://127.0.0.1:{server.port}"
        body = {"model": "m", "prompt": "a", "max_tokens": 2}
        for change_of in ({"prompt": "z"}, {"bad_words": ["z"]}):
            answer = httpx.post(f"{url}/v1/completions", json=body | change_of)
            assert answer.status_code == 400, answer.text
            assert "tokenizer cannot encode this text" in answer.json()["error"]["message"]
        assert httpx.post(f"{url}/tokenize", json={"model": "m", "prompt": "z"}).status_code == 400
        assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200
        assert server.stop() == 0


# --- Files and configuration account for each other ------------------------------------------------

def test_names_with_another_prefix(model):
    rename(model, lambda name: name.replace("model.", "transformer.", 1))
    last = refused(model)
    assert 'names begin with "model."' in last and 'found "transformer.embed_tokens.weight"' in last


def test_all_that_is_missing_is_counted(model):
    rename(model, lambda name: name.replace("layers.1.", "layers.1.gone."))
    last = refused(model)
    assert "11 of 24 tensors of the configuration are missing" in last
    assert "model.layers.1.input_layernorm.weight" in last and "and 7 more" in last


def test_layers_beyond_the_configuration(model):
    change(model, "config.json", num_hidden_layers=1)
    last = refused(model)
    assert "num_hidden_layers is 1, and the files hold 11 tensors of 1 more layers" in last


def test_what_is_wrong_with_a_tensor_names_the_folder(model):
    change(model, "config.json", intermediate_size=1024)
    assert f"{model}: model.layers.0.mlp." in (last := refused(model)) and "found shape [512, 256], expected [1024, 256]" in last


@pytest.mark.parametrize("fields", [{"hidden_size": 264}, {"head_dim": 40}])
def test_what_the_operators_do_not_take(model, fields):
    (name, value), = fields.items()
    change(model, "config.json", **fields)
    assert f"{model}/config.json: {name}: found {value}, expected a multiple of" in refused(model, "--load-format", "dummy")


def test_the_vocabulary_of_a_gguf_names_the_file(model, tmp_path):
    gguf = tmp_path / "m.gguf"
    assert run("quantize", model, gguf, "--scheme", "q8_0").returncode == 0
    data = gguf.read_bytes()
    for old, new in ((b"gpt2", b"gpt9"), (b"qwen2", b"qwen9")):
        gguf.write_bytes(data.replace(old, new, 1))
        assert f"{gguf}: tokenizer.ggml." in refused(gguf)


def test_more_layers_than_the_files_hold(model):
    change(model, "config.json", num_hidden_layers=4)
    assert f"{model}/config.json: layer_types: found " in refused(model)
    change(model, "config.json", layer_types=None)
    assert "the files hold 2 layers, num_hidden_layers is 4" in refused(model)


def test_what_is_not_read_is_named(model):
    for name in ("visual.merger.weight", "model.layers.0.self_attn.q_proj.weight_scale",
                 "model.layers.0.self_attn.rotary_emb.inv_freq"):
        add_tensor(model, name)
    with Server(model, "--max-model-len", "256") as server:
        server.wait_ready()
        assert "2 of 27 tensors in the files are not read" in server.log
        assert "visual.merger.weight" in server.log
        assert "inv_freq" not in server.log
        assert server.stop() == 0


def test_a_head_beside_a_tied_embedding(model):
    add_tensor(model, "lm_head.weight")
    with Server(model, "--max-model-len", "256") as server:
        server.wait_ready()
        assert "tie_word_embeddings is true: lm_head.weight in the checkpoint is ignored" in server.log


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


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                  "chat_template.jinja", "model.safetensors"])
def test_a_link_that_leads_nowhere(model, name):
    for target in ("/nowhere/blob", name):  # the second one leads back to itself
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)
        assert refused(model).endswith(f"{model}/{name}: no such file: it is a link to {target}")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                  "chat_template.jinja"])
def test_empty_files(model, name):
    (model / name).write_text("")
    assert f"{model}/{name}: is empty (0 bytes)" in refused(model)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_shard(model):
    (model / "model.safetensors").chmod(0)
    assert "permission denied" in refused(model, code=1)


# --- Exit codes: 2 is for the command line, variables and the model's files (docs/operations.md) ----

@pytest.mark.parametrize("flags,part", [
    (("--chat-template", "/nope"), "/nope"), (("--generation-config", "/nope"), "/nope/generation_config.json"),
    (("--tokenizer", "/nope"), "/nope: no such file or folder"), (("--hf-overrides", '{"head_dim": 40}'), "head_dim: found 40")])
def test_paths_and_values_of_flags(model, flags, part):
    assert part in refused(model, *flags)


@pytest.mark.parametrize("arrange,part", [
    (lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json: not found"),
    (lambda m: (m / "config.json").unlink(), "config.json: no such file"),
    (lambda m: change(m, "config.json", quantization_config={"quant_method": "exl2"}), "exl2"),
    (lambda m: change(m, "config.json", quantization_config={"quant_method": "compressed-tensors", "format": "mixed"}), "mixed"),
    (lambda m: rename(m, lambda name: name.replace("k_norm", "x_norm")), "are missing")])
def test_files(model, arrange, part):
    arrange(model)
    assert part in refused(model)


def test_a_variable(model):
    assert "TIERCEL_CPU_ISA: found" in refused(model, env={"TIERCEL_CPU_ISA": "vax"})

# --- What needs no weights is checked first --------------------------------------------------------

def test_a_length_beyond_the_model_is_refused_before_loading(model):
    rename(model, lambda name: name.replace("layers.1.", "layers.1.gone."))
    assert "are missing" in refused(model)
    last = refused(model, "--max-model-len", "100000000")
    assert "greater than the derived max_model_len" in last


def test_a_broken_tokenizer_ends_loading(model):
    (model / "tokenizer.json").write_text("{}")
    result = run("serve", model, "--port", "0")
    assert "tokenizer.json" in result.stderr.strip().splitlines()[-1]
    assert "cancelled" not in result.stderr


@pytest.mark.parametrize("asked,used", [(1, 32), (8, 32), (16, 32), (32, 32), (48, 64)])
def test_block_sizes(asked, used):
    with dummy_server("--block-size", str(asked)) as server:
        server.wait_ready()
        said = f"--block-size {asked}: blocks of {used} tokens are used" in server.log
        assert said == (asked != used)
        metrics = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
        assert f'block_size="{used}"' in metrics
        assert server.stop() == 0


# --- Stop tokens have several homes ---------------------------------------------------------------

@pytest.mark.parametrize("eos_token", ["<|im_end|>", {"content": "<|im_end|>", "special": True}])
@pytest.mark.parametrize("config,generation", [(1, 1), ([1], [1]), (None, None), (1, None)])
def test_the_tokenizers_eos_ends_an_answer(model, eos_token, config, generation):
    change(model, "config.json", eos_token_id=config)
    change(model, "generation_config.json", eos_token_id=generation)
    change(model, "tokenizer_config.json", eos_token=eos_token)
    with Server(model, "--served-model-name", "m", "--max-model-len", "256") as server:
        server.wait_ready()
        url = f"http://127.0.0.1:{server.port}"
        end, = httpx.post(f"{url}/tokenize",
                          json={"model": "m", "prompt": "<|im_end|>"}).json()["tokens"]

        def finish(token):
            choice = httpx.post(f"{url}/v1/completions", json={
                "model": "m", "prompt": "Hello", "max_tokens": 3, "temperature": 0,
                "logit_bias": {str(token): 100}}).json()["choices"][0]
            return choice["finish_reason"], choice["stop_reason"]
        assert finish(end) == ("stop", None)
        assert finish(1) == (("stop", 1) if config or generation else ("length", None))
        assert server.stop() == 0
