"""Checkpoints of FP8 (E4M3), written here in the layouts that Qwen and compressed-tensors publish, against the same
weights in BF16; what is said of those that do not fit; and FP8 KV caches."""
import json
import random
import re
import struct
import urllib.request

import pytest

from cli_support import Server, run, write_tiny_model
from test_int4 import TEXT, bf16, read_safetensors, write_safetensors


def e4m3(code):
    """By the definition: sign, four bits of exponent with the bias 7, three of mantissa."""
    exponent, mantissa = code >> 3 & 15, code & 7
    value = (1 + mantissa / 8) * 2.0 ** (exponent - 7) if exponent else mantissa / 8 * 2.0 ** -6
    return -value if code & 0x80 else value


class Linear:
    """Random codes [n][k] of which large ones are rare, and scales that are powers of two: what they give is exact in
    BF16."""

    def __init__(self, n, k, seed, layout):
        source = random.Random(seed)
        self.n, self.k, self.layout = n, k, layout
        self.codes = [source.choice((0, 0x80)) | min(126, max(0, int(source.gauss(88, 14)))) for _ in range(n * k)]
        shape = {"block": ((n + 127) // 128, (k + 127) // 128), "tensor": (1, 1), "channel": (n, 1)}[layout]
        self.scales = [[2.0 ** -source.randrange(11, 13) for _ in range(shape[1])] for _ in range(shape[0])]

    def scale(self, row, i):
        if self.layout == "block":
            return self.scales[row // 128][i // 128]
        return self.scales[0][0] if self.layout == "tensor" else self.scales[row][0]

    def weights(self):
        return [e4m3(self.codes[r * self.k + i]) * self.scale(r, i) for r in range(self.n) for i in range(self.k)]

    def tensors(self, name):
        flat = sum(self.scales, [])
        scale = {"block": ("BF16", [len(self.scales), len(self.scales[0])], bf16(flat)),
                 "tensor": ("F32", [1], struct.pack(f"<{len(flat)}f", *flat)),
                 "channel": ("BF16", [self.n, 1], bf16(flat))}[self.layout]
        end = "weight_scale_inv" if self.layout == "block" else "weight_scale"
        return {f"{name}.weight": ("F8_E4M3", [self.n, self.k], bytes(self.codes)), f"{name}.{end}": scale}


def compressed(strategy):
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                "num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True},
                "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}}}}


CONFIGS = {
    "block": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
              "modules_to_not_convert": ["lm_head"]},
    "tensor": compressed("tensor"),
    "channel": compressed("channel"),
}


def set_config(folder, **change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))


def write_pair(root, layout, floats=()):
    """A folder of FP8 weights, but for linears with these names, and one of the same in BF16."""
    plain, fp8 = write_tiny_model(root / "bf16"), write_tiny_model(root / layout)
    set_config(fp8, quantization_config=CONFIGS[layout])
    exact, stored = {}, {}
    for i, (name, tensor) in enumerate(read_safetensors(plain).items()):
        if "_proj" not in name or any(part in name for part in floats):
            exact[name] = stored[name] = tensor
            continue
        linear = Linear(*tensor[1], i, layout)
        exact[name] = ("BF16", tensor[1], bf16(linear.weights()))
        stored |= linear.tensors(name.removesuffix(".weight"))
    write_safetensors(plain, exact)
    write_safetensors(fp8, stored)
    return fp8, plain


@pytest.mark.parametrize("layout, floats", [("block", ()), ("tensor", ()), ("channel", ()), ("block", ("k_proj", "layers.1."))])
def test_weights_are_those_of_the_file(layout, floats, tmp_path):
    fp8, plain = write_pair(tmp_path, layout, floats)
    text = tmp_path / "text.txt"
    text.write_text(TEXT)

    def kl(*flags):
        result = run("eval", "kl", fp8, "--reference", plain, "--text", text, "--json", *flags)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    # As BF16 they are the very same model; as bytes their sums are in FP32, in another order.
    assert kl("--quantization", "none")["kl_max"] == 0
    assert kl()["kl_mean"] < 1e-3
    with Server(fp8, "--max-model-len", "256") as server:
        server.wait_ready()
        assert f"FP8 {6 if floats else 14}: kept as they are, BF16 inputs" in server.log


def nan_in(folder):
    tensors = read_safetensors(folder)
    name = "model.layers.1.mlp.up_proj.weight"
    dtype, shape, data = tensors[name]
    write_safetensors(folder, tensors | {name: (dtype, shape, data[:5 * shape[1] + 3] + b"\xff" + data[5 * shape[1] + 4:])})


@pytest.mark.parametrize("spoil, words", [
    (nan_in, "model.layers.1.mlp.up_proj.weight: row 5: found a NaN at input 3"),
    (lambda f: set_config(f, quantization_config=CONFIGS["block"] | {"weight_block_size": [64, 64]}),
     "weight_block_size: found [64,64], expected [128, 128]"),
    (lambda f: set_config(f, quantization_config=CONFIGS["block"] | {"fmt": "e5m2"}), 'fmt: found "e5m2"'),
    (lambda f: set_config(f, quantization_config=None), "holds FP8 weights"),
])
def test_what_does_not_fit_is_named_in_one_line(spoil, words, tmp_path):
    folder, _ = write_pair(tmp_path, "block")
    spoil(folder)
    result = run("serve", folder, "--port", "0")
    assert result.returncode in (1, 2)
    assert [words in line for line in result.stderr.splitlines()].count(True) == 1, result.stderr


SCHEME = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}


def write_kv_scales(folder):
    """As llm-compressor writes a model of which the KV cache alone is quantized."""
    write_tiny_model(folder)
    set_config(folder, quantization_config={"quant_method": "compressed-tensors", "format": "dense", "config_groups": {},
                                            "kv_cache_scheme": SCHEME})
    scales = {f"model.layers.{layer}.self_attn.{which}_scale": ("BF16", [1], bf16([0.25 * (layer + 1)]))
              for layer in range(2) for which in "kv"}
    write_safetensors(folder, read_safetensors(folder) | scales)
    return folder


def blocks_and_dtype(server):
    with urllib.request.urlopen(f"{server.url.removesuffix('/v1')}/metrics") as answer:
        line = next(line for line in answer.read().decode().splitlines() if line.startswith("vllm:cache_config_info"))
    return int(re.search('num_gpu_blocks="([0-9]+)"', line)[1]), re.search('cache_dtype="([a-z0-9_]+)"', line)[1]


def text_of(server):
    body = {"model": "m", "prompt": TEXT[:200], "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"{server.url}/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())["choices"][0]["text"]


def test_a_kv_cache_of_fp8_has_twice_the_blocks(tmp_path):
    plain, scaled = write_tiny_model(tmp_path / "plain"), write_kv_scales(tmp_path / "scaled")
    found = {}
    for folder, flag in ((plain, "auto"), (plain, "fp8"), (plain, "fp8_e4m3"), (scaled, "auto"), (scaled, "bfloat16")):
        words = ("--kv-cache-dtype", flag, "--max-model-len", "256", "--kv-cache-memory-bytes", "4M",
                 "--served-model-name", "m")
        with Server(folder, *words) as server:
            server.wait_ready()
            text = text_of(server)
            assert text_of(server) == text  # from the prefix cache
            scales = re.search(r"KV cache: FP8 \(E4M3\), (.*)", server.log)
            found[folder.name, flag] = (*blocks_and_dtype(server), scales and scales[1])
    blocks = found["plain", "auto"][0]
    assert blocks > 4
    assert found == {("plain", "auto"): (blocks, "auto", None),
                     ("plain", "fp8"): (2 * blocks, "fp8", "scale 1: the checkpoint has none"),
                     ("plain", "fp8_e4m3"): (2 * blocks, "fp8_e4m3", "scale 1: the checkpoint has none"),
                     ("scaled", "auto"): (2 * blocks, "auto", "with the checkpoint's scales"),
                     ("scaled", "bfloat16"): (blocks, "bfloat16", None)}


def test_what_a_kv_cache_of_fp8_costs_is_small(tmp_path):
    plain, scaled = write_tiny_model(tmp_path / "plain"), write_kv_scales(tmp_path / "scaled")
    text = tmp_path / "text.txt"
    text.write_text(TEXT)

    def kl(folder, *flags):
        result = run("eval", "kl", folder, "--reference", plain, "--text", text, "--json", *flags)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["kl_mean"]

    assert kl(scaled, "--kv-cache-dtype", "bfloat16") == 0
    assert 0 < kl(scaled) < 2e-3
    assert 0 < kl(plain, "--kv-cache-dtype", "fp8") < 2e-3
