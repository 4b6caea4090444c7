"""Checkpoints of four bits (GPTQ, AWQ, compressed-tensors), written here as their programs write them, against the
same weights in BF16; and what is said of those that do not fit."""
import copy
import json
import random
import struct

import pytest

from cli_support import TINY, Server, run, write_tiny_model

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 12


def read_safetensors(folder):
    data = (folder / "model.safetensors").read_bytes()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    return {name: (t["dtype"], t["shape"], data[8 + length:][slice(*t["data_offsets"])]) for name, t in header.items()}


def write_safetensors(folder, tensors):
    header, body = {}, bytearray()
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)


def bf16(values):
    """Exact numbers of eight bits or fewer need no rounding; others round to even."""
    words = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    return struct.pack(f"<{len(values)}H", *((w + 0x7fff + (w >> 16 & 1)) >> 16 for w in words))


def packed(eights):
    return struct.pack(f"<{len(eights)}I", *(sum(code << 4 * i for i, code in enumerate(eight)) for eight in eights))


class Linear:
    """Random codes [n][k], zero points and scales [n][groups]; of which group an input is, by a seed in any order."""

    def __init__(self, n, k, seed, symmetric, group=128, order=None):
        source = random.Random(seed)
        self.group_of = [i // group for i in range(k)]
        if order is not None:
            random.Random(order).shuffle(self.group_of)
        self.n, self.k, self.groups = n, k, k // group
        self.codes = [[c & 15 for c in source.randbytes(k)] for _ in range(n)]
        self.zeros = [[8 if symmetric else 6 + source.randrange(5) for _ in range(self.groups)] for _ in range(n)]
        # Powers of two times 1 … 1.75: exact in binary16 and BF16.
        self.scales = [[(4 + source.randrange(4)) / 4 / 256 for _ in range(self.groups)] for _ in range(n)]

    def weights(self):
        return [(c - self.zeros[r][g]) * self.scales[r][g] for r in range(self.n)
                for c, g in zip(self.codes[r], self.group_of, strict=True)]

    def gptq(self, name):
        words = [[self.codes[r][k + i] for i in range(8)] for k in range(0, self.k, 8) for r in range(self.n)]
        order = {f"{name}.g_idx": ("I32", [self.k], struct.pack(f"<{self.k}i", *self.group_of))}
        return self._with_zeros(name, packed(words), [self.k // 8, self.n], range(8), 1) | order

    def awq(self, name):
        words = [[self.codes[r + i][k] for i in AWQ_ORDER] for k in range(self.k) for r in range(0, self.n, 8)]
        return self._with_zeros(name, packed(words), [self.k, self.n // 8], AWQ_ORDER, 0)

    def _with_zeros(self, name, codes, shape, order, less):
        zeros = [[self.zeros[r + i][g] - less for i in order] for g in range(self.groups) for r in range(0, self.n, 8)]
        scales = [self.scales[r][g] for g in range(self.groups) for r in range(self.n)]
        return {f"{name}.qweight": ("I32", shape, codes),
                f"{name}.qzeros": ("I32", [self.groups, self.n // 8], packed(zeros)),
                f"{name}.scales": ("F16", [self.groups, self.n], struct.pack(f"<{len(scales)}e", *scales))}

    def compressed(self, name):
        words = [self.codes[r][k:k + 8] for r in range(self.n) for k in range(0, self.k, 8)]
        zeros = [[self.zeros[r + i][g] for i in range(8)] for r in range(0, self.n, 8) for g in range(self.groups)]
        return {f"{name}.weight_packed": ("I32", [self.n, self.k // 8], packed(words)),
                f"{name}.weight_scale": ("BF16", [self.n, self.groups], bf16(sum(self.scales, []))),
                f"{name}.weight_zero_point": ("I32", [self.n // 8, self.groups], packed(zeros)),
                f"{name}.weight_shape": ("I64", [2], struct.pack("<2q", self.n, self.k))}


CONFIGS = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    "compressed": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "input_activations": None, "weights": {
            "num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}}}},
}


def config_of(layout, group=128, symmetric=True, reordered=False):
    if layout != "compressed":
        return CONFIGS[layout] | {"group_size": group} | ({"desc_act": True} if reordered else {})
    config = copy.deepcopy(CONFIGS[layout])
    config["config_groups"]["group_0"]["weights"] |= {"group_size": group, "symmetric": symmetric}
    return config


# Linears that read the same input share its order.
READS = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}


def write_pair(root, layout, group=128, symmetric=None, order=None):
    """A folder of four-bit weights, and one of the same in BF16. `order`: how a linear's name gives the seed of its order."""
    symmetric = layout == "compressed" if symmetric is None else symmetric
    floats, int4 = write_tiny_model(root / "bf16"), write_tiny_model(root / layout)
    config = json.loads((int4 / "config.json").read_text())
    quantization = config_of(layout, group, symmetric, order is not None)
    (int4 / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    exact, stored = {}, {}
    for i, (name, tensor) in enumerate(read_safetensors(floats).items()):
        if "norm" in name:  # large enough that the linears decide what comes
            tensor = ("BF16", tensor[1], bf16([8.0 if name == "model.norm.weight" else 1.0] * tensor[1][0]))
        if "_proj" not in name:
            exact[name] = stored[name] = tensor
            continue
        n, k = tensor[1]
        stem = name.removesuffix(".weight")
        linear = Linear(n, k, i, symmetric, group, order and order(stem.split(".")[-1]))
        exact[name] = ("BF16", [n, k], bf16(linear.weights()))
        stored |= getattr(linear, layout)(stem)
        if symmetric:
            stored.pop(f"{stem}.weight_zero_point", None)
    write_safetensors(floats, exact)
    write_safetensors(int4, stored)
    return int4, floats


def kl(int4, floats, *flags):
    text = floats / "text.txt"
    text.write_text(TEXT)
    result = run("eval", "kl", int4, "--reference", floats, "--text", text, "--json", *flags)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("layout, group, symmetric, kind", [
    ("gptq", 128, False, "U4"), ("awq", 128, False, "U4"), ("compressed", 128, True, "I4"),
    ("gptq", 32, False, "U4_32"), ("awq", 64, False, "U4_64"), ("compressed", 32, False, "U4_32"),
    ("compressed", 64, True, "I4_64"),
])
def test_weights_are_those_of_the_file(layout, group, symmetric, kind, tmp_path):
    int4, floats = write_pair(tmp_path, layout, group, symmetric)
    # As BF16 they are the very same model; kept in four bits, inputs are INT8.
    assert kl(int4, floats, "--quantization", "none")["kl_max"] == 0
    assert 0 < kl(int4, floats)["kl_mean"] < 0.002
    with Server(int4, "--max-model-len", "256") as server:
        server.wait_ready()
        assert f"{kind} 14: kept as they are" in server.log


# Orders of each linear's own stand for files that no quantizer is known to write.
@pytest.mark.parametrize("order", [READS.get, lambda linear: linear], ids=["of the input", "of the linear"])
def test_reordered_inputs_stay_packed(order, tmp_path):
    int4, floats = write_pair(tmp_path, "gptq", 64, order=order)
    assert kl(int4, floats, "--quantization", "none")["kl_max"] == 0
    assert 0 < kl(int4, floats)["kl_mean"] < 0.002
    with Server(int4, "--max-model-len", "256") as server:
        server.wait_ready()
        assert "U4_64 14: kept as they are" in server.log
        assert "BF16, which takes four times" not in server.log


def test_ranks_have_no_whole_groups_of_reordered_inputs(tmp_path):
    int4, floats = write_pair(tmp_path, "gptq", 64, order=READS.get)
    two = kl(int4, floats, "--tensor-parallel-size", "2")["kl_mean"]
    assert 0 < two < 0.002
    assert two != kl(int4, floats)["kl_mean"], "o and down are BF16, so it is another model, if ranks compute it"
    with Server(int4, "--max-model-len", "256", "--tensor-parallel-size", "2") as server:
        server.wait_ready()
        assert server.log.count("4 linears of four bits have reordered inputs (desc_act)") == 1


def test_int4_at_load_is_served(tmp_path):
    with Server(write_tiny_model(tmp_path / "m"), "--quantization", "int4", "--max-model-len", "256") as server:
        server.wait_ready()
        assert "INT4, quantized while loading" in server.log


def test_the_shape_that_compressed_tensors_writes_down_is_checked(tmp_path):
    int4, _ = write_pair(tmp_path, "compressed")
    tensors = read_safetensors(int4)
    name = "model.layers.1.mlp.up_proj.weight_shape"
    for broken, words in ((("I64", [2], struct.pack("<2q", 512, 128)), "found [512, 128], expected [512, 256]"),
                          (("I32", [2], struct.pack("<2i", 256, 512)), "found [256, 512], expected [512, 256]"),
                          (("I64", [1], struct.pack("<q", 512)), "found I64 [1], expected I64 [2]")):
        write_safetensors(int4, tensors | {name: broken})
        result = run("serve", int4, "--port", "0")
        assert result.returncode == 2
        assert f"{int4}: {name}: {words}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("change, words", [
    ({"quantization_config": config_of("compressed", None)}, 'group_size: found nothing, expected a number, which strategy "group" needs'),
    ({"quantization_config": CONFIGS["gptq"]}, "hold no linear of the format gptq"),
    ({"quantization_config": CONFIGS["gptq"] | {"group_size": 48}}, "group_size: found 48, expected 32"),
    ({"quantization_config": CONFIGS["awq"] | {"bits": 3}}, "bits: found 3, expected 4"),
    ({"quantization_config": {"quant_method": "mxfp4"}}, '"mxfp4", which is not supported'),
])
def test_what_does_not_fit_is_named_in_one_line(change, words, tmp_path):
    folder = write_tiny_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(json.loads((TINY / "config.json").read_text()) | change))
    result = run("serve", folder, "--port", "0")
    assert result.returncode in (1, 2)
    assert [words in line for line in result.stderr.splitlines()].count(True) == 1
