"""Checkpoints of the Ascend quantizer with linears of four bits, written here in its layouts, against the same weights in
BF16; mixed with its INT8 and with float linears; and what is said of those that do not fit."""
import json
import random
import struct
import urllib.request

import pytest

from cli_support import Server, run, write_tiny_model
from test_int4 import TEXT, bf16, kl, read_safetensors, write_safetensors


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


class FourBits:
    """Random codes [n][k] and the scales of a row and of each of its groups, as the formula has them:
    W = weight_scale · weight_scale_second · (code − offset)."""

    def __init__(self, n, k, seed, group, kind="W4A8_DYNAMIC", packing="rows", two_levels=True, offsets=False):
        source = random.Random(seed)
        self.n, self.k, self.kind, self.packing, self.two_levels = n, k, kind, packing, two_levels
        self.group = group or k
        groups = k // self.group
        self.codes = [[(c & 15) - 8 for c in source.randbytes(k)] for _ in range(n)]
        # Powers of two, and these times 1 … 1.75: what they give is exact in BF16.
        self.row_scales = [2.0 ** -source.randrange(4, 7) if two_levels else 1.0 for _ in range(n)]
        small = 16 if two_levels else 256
        self.scales = [[(4 + source.randrange(4)) / 4 / small for _ in range(groups)] for _ in range(n)]
        self.offsets = [[source.randrange(-2, 3) if offsets else 0 for _ in range(groups)] for _ in range(n)]

    def weights(self):
        return [self.row_scales[r] * self.scales[r][i // self.group] * (c - self.offsets[r][i // self.group])
                for r in range(self.n) for i, c in enumerate(self.codes[r])]

    def tensors(self, name):
        if self.packing == "rows":
            pairs = [(low, high) for r in range(0, self.n, 2) for low, high in zip(*self.codes[r:r + 2], strict=True)]
            shape = [self.n // 2, self.k]
        elif self.packing == "inputs":
            pairs = [(row[i], row[i + 1]) for row in self.codes for i in range(0, self.k, 2)]
            shape = [self.n, self.k // 2]
        else:
            pairs, shape = None, [self.n, self.k]
        codes = (bytes(low & 15 | (high & 15) << 4 for low, high in pairs) if pairs else
                 struct.pack(f"<{self.n * self.k}b", *sum(self.codes, [])))
        groups = self.k // self.group
        of_groups, offsets = floats(sum(self.scales, [])), sum(self.offsets, [])
        found = {f"{name}.weight": ("I8", shape, codes)}
        if self.two_levels:
            found |= {f"{name}.weight_scale": ("F32", [self.n, 1], floats(self.row_scales)),
                      f"{name}.weight_offset": ("F32", [self.n, 1], bytes(4 * self.n)),
                      f"{name}.weight_scale_second": ("F32", [self.n, groups], of_groups),
                      f"{name}.weight_offset_second": ("I64", [self.n, groups], bytes(8 * self.n * groups))}
        else:
            found |= {f"{name}.weight_scale": ("F32", [self.n * groups, 1], of_groups),
                      f"{name}.weight_offset": ("F32", [self.n * groups, 1], floats(offsets))}
        if self.packing == "rows":
            parts = 16 if name.endswith(("o_proj", "down_proj")) else 1
            found[f"{name}.scale_bias"] = ("F32", [self.n, parts], bytes(4 * self.n * parts))
        return found


class EightBits:
    kind = "W8A8_DYNAMIC"

    def __init__(self, n, k, seed):
        source = random.Random(seed)
        self.n, self.k = n, k
        self.codes = struct.unpack(f"<{n * k}b", source.randbytes(n * k))
        self.scales = [2.0 ** -source.randrange(12, 14) for _ in range(n)]

    def weights(self):
        return [c * self.scales[i // self.k] for i, c in enumerate(self.codes)]

    def tensors(self, name):
        return {f"{name}.weight": ("I8", [self.n, self.k], struct.pack(f"<{self.n * self.k}b", *self.codes)),
                f"{name}.weight_scale": ("F32", [self.n, 1], floats(self.scales)),
                f"{name}.weight_offset": ("F32", [self.n, 1], bytes(4 * self.n))}


def write_pair(root, make, group):
    """A folder as the quantizer writes it, and one of the same weights in BF16. `make` is asked for each linear, by name,
    shape and number; None: it stays float."""
    plain, quantized = write_tiny_model(root / "bf16"), write_tiny_model(root / "ascend")
    description = {"version": "1.0.0", "model_quant_type": "W4A8_DYNAMIC", "group_size": group, "metadata": {}, "optional": {}}
    exact, stored = {}, {}
    for i, (name, tensor) in enumerate(read_safetensors(plain).items()):
        stem = name.removesuffix(".weight")
        if "norm" in name:  # large enough that the linears decide what comes
            tensor = ("BF16", tensor[1], bf16([8.0 if name == "model.norm.weight" else 1.0] * tensor[1][0]))
        linear = make(stem, *tensor[1], i) if "_proj" in name else None
        parts = {name: tensor} if linear is None else linear.tensors(stem)
        exact[name] = tensor if linear is None else ("BF16", tensor[1], bf16(linear.weights()))
        stored |= parts
        description |= dict.fromkeys(parts, "FLOAT" if linear is None else linear.kind)
    write_safetensors(plain, exact)
    write_safetensors(quantized, stored)
    (quantized / "quant_model_description.json").write_text(json.dumps(description))
    return quantized, plain


@pytest.mark.parametrize("group, how, log", [
    (256, {}, "14 W4A8 kept as they are"),
    (256, {"packing": "none"}, "14 W4A8 kept as they are"),
    (64, {}, "14 W4A8 kept as they are"),
    (0, {"two_levels": False}, "14 W4A8 kept as they are"),
    (0, {"kind": "W4A16", "packing": "inputs", "two_levels": False}, "14 W4A16 kept as they are, with INT8 inputs"),
    (128, {"kind": "W4A16", "two_levels": False, "offsets": True}, "14 W4A16 kept as they are, with INT8 inputs"),
], ids=["groups", "unpacked", "small groups", "rows", "W4A16 rows", "W4A16 groups"])
def test_weights_are_those_of_the_file(group, how, log, tmp_path):
    quantized, plain = write_pair(tmp_path, lambda _, n, k, i: FourBits(n, k, i, group, **how), group)
    # As BF16 they are the very same model; kept in four bits, inputs are INT8.
    assert kl(quantized, plain, "--quantization", "none")["kl_max"] == 0
    assert 0 < kl(quantized, plain)["kl_mean"] < 0.002
    with Server(quantized, "--quantization", "ascend", "--max-model-len", "256") as server:
        server.wait_ready()
        assert f"Quantization: ascend: of 14 linears, {log}" in server.log


def mixed(stem, n, k, i):
    """down INT8 and o float, as recipes have it; and linears that are one matmul in different ways."""
    if stem.endswith(("down_proj", "layers.0.self_attn.q_proj", "layers.1.mlp.up_proj")):
        return EightBits(n, k, i)
    return None if stem.endswith(("o_proj", "layers.1.self_attn.v_proj")) else FourBits(n, k, i, 256)


def served(folder, *flags):
    """The log-probabilities of a text's tokens, and the server's log."""
    with Server(folder, "--max-model-len", "256", *flags) as server:
        server.wait_ready()
        body = {"prompt": TEXT[:300], "max_tokens": 1, "prompt_logprobs": 0}
        request = urllib.request.Request(f"{server.url}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            tokens = json.load(answer)["choices"][0]["prompt_logprobs"]
        return [next(iter(token.values()))["logprob"] for token in tokens if token], server.log


RANKS = pytest.mark.parametrize("flags", [(), ("--tensor-parallel-size", "2")], ids=["alone", "two ranks"])


def expect_alike(quantized, plain, *flags):
    """Within what INT8 inputs cost; a scale in the place of another is ten times as far off. Returns the server's log."""
    exact, (found, log) = served(plain)[0], served(quantized, *flags)
    assert len(found) == len(exact) > 50
    assert 0 < sum(abs(a - b) for a, b in zip(found, exact, strict=True)) / len(exact) < 0.05
    return log


@RANKS
def test_mixed_with_int8_and_float(flags, tmp_path):
    quantized, plain = write_pair(tmp_path, mixed, 256)
    log = expect_alike(quantized, plain, *flags)
    assert "of 14 linears, 4 W8A8 per token, 7 W4A8 kept as they are, 3 float" in log
    result = run("serve", quantized, "--quantization", "none", "--port", "0")
    assert result.returncode in (1, 2)
    assert "--quantization none: the INT8 weights" in result.stderr


@RANKS
@pytest.mark.parametrize("group", [0, 256])
def test_ranks_have_parts_of_the_groups(group, flags, tmp_path):
    quantized, plain = write_pair(tmp_path, lambda _, n, k, i: FourBits(n, k, i, group, two_levels=group > 0), group)
    assert "14 W4A8 kept as they are" in expect_alike(quantized, plain, *flags)


LINEAR = "model.layers.1.mlp.up_proj"


def change(end, **to):
    def apply(tensors, _):
        dtype, shape, data = tensors[LINEAR + end]
        tensors[LINEAR + end] = (to.get("dtype", dtype), to.get("shape", shape), to.get("data", data))
    return apply


def remove(*ends):
    def apply(tensors, description):
        for end in ends:
            del tensors[LINEAR + end]
            del description[LINEAR + end]
    return apply


def say(**types):
    return lambda _, description: description.update({LINEAR + ".weight": types["weight"]})


@pytest.mark.parametrize("damage, words", [
    (change(".weight", shape=[255, 256], data=bytes(255 * 256)),
     "up_proj.weight: found I8 [255, 256], expected I8 [512, 256], or [256, 256] with two codes in a byte"),
    (change(".weight", dtype="BF16", shape=[512, 256], data=bytes(2 * 512 * 256)), "says W4A8_DYNAMIC, and the tensor is stored as BF16"),
    (remove(".weight_scale"), "up_proj.weight_scale: found nothing, expected floats [512, 1]"),
    (remove(".weight_scale_second"), "up_proj.weight_scale_second: found nothing, expected floats [512, 2]"),
    (remove(".weight_scale_second", ".weight_offset_second"), "up_proj.weight_scale_second: found nothing, expected floats"),
    (change(".weight_scale_second", dtype="I32"), "up_proj.weight_scale_second: found I32 [512, 2], expected floats [512, 2]"),
    (change(".weight_scale_second", shape=[256, 4]), "up_proj.weight_scale_second: found F32 [256, 4], expected floats [512, 2]"),
    (change(".weight_scale_second", data=floats([float("nan")] * 1024)), "up_proj.weight: row 0: found the scale nan"),
    (change(".weight_offset_second", data=struct.pack("<1024q", *[2] * 1024)), "row 0: found the offset 2, expected 0"),
    (say(weight="W4A4_DYNAMIC"), 'found type "W4A4_DYNAMIC", expected one of the supported ones'),
    (say(weight="W8A8_DYNAMIC"), "up_proj.weight: found shape [256, 256], expected [512, 256]"),
])
def test_what_does_not_fit_is_named_in_one_line(damage, words, tmp_path):
    quantized, _ = write_pair(tmp_path, lambda _, n, k, i: FourBits(n, k, i, 128) if k == 256 else None, 128)
    tensors = read_safetensors(quantized)
    path = quantized / "quant_model_description.json"
    description = json.loads(path.read_text())
    damage(tensors, description)
    write_safetensors(quantized, tensors)
    path.write_text(json.dumps(description))
    result = run("serve", quantized, "--port", "0")
    assert result.returncode in (1, 2)
    assert [words in line for line in result.stderr.splitlines()].count(True) == 1, result.stderr
