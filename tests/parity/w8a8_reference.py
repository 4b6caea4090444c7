"""Checkpoints of the Ascend quantizer in plain numpy: reading, writing, and a forward pass in FP32.

    w8a8_reference.py FOLDER IDS.json OUT.npy [--mix static]      logits of a checkpoint
    w8a8_reference.py trim FOLDER OUT --layer I --ids IDS.json    a small checkpoint for tests

`trim` keeps one layer, the rows of the embedding and of the head that IDS.json names (and some more,
up to 64), and every quantized tensor as the quantizer wrote it; beside the weights it writes
golden.json: the ids in the new numbering, and the logits of this file's forward pass.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1", "I32": "<i4", "I64": "<i8", "BF16": "<u2"}


def read_safetensors(path):
    """{name: (dtype, array)}; BF16 arrays hold their bits."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + o for o in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = (entry["dtype"], array)
    return tensors


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def to_float(dtype, array):
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype == "I64":  # the low half is a float's bits
        return array.astype(np.uint32).view(np.float32)
    return array.astype(np.float32)


class Checkpoint:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.types = {}
        for path in folder.glob("quant_model_description*.json"):
            self.types = json.loads(path.read_text())
        self.tensors = {}
        for path in sorted(folder.glob("*.safetensors")):
            self.tensors.update(read_safetensors(path))

    def get(self, name):
        return to_float(*self.tensors[name])

    def maybe(self, name):
        return self.get(name) if name in self.tensors else 0


def round_bf16(x):
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


class Reference:
    """The forward pass as a formula: float32, no cache. With bf16 the activations between operators
    are rounded as a BF16 engine rounds them: an input that lies near the border of two INT8 steps
    then falls on the side where the engine's falls."""

    def __init__(self, checkpoint, mix="dynamic", bf16=False, kv_int8=False):
        self.w = checkpoint
        self.mix = mix
        self.kv_int8 = kv_int8
        self.round = round_bf16 if bf16 else lambda x: x

    def linear(self, name, x):
        w = self.w
        kind = w.types.get(name + ".weight", "FLOAT")
        weight = w.get(name + ".weight")
        if kind == "FLOAT":
            return x @ weight.T + w.maybe(name + ".bias")
        if kind == "W8A8" or (kind == "W8A8_MIX" and self.mix == "static"):
            q = np.rint(x / w.get(name + ".input_scale") + w.get(name + ".input_offset"))
            sums = np.clip(q, -128, 127) @ weight.T + w.get(name + ".quant_bias")
            return sums * w.get(name + ".deq_scale")  # the float bias is inside quant_bias
        assert kind in ("W8A8_DYNAMIC", "W8A8_MIX"), kind
        scale = np.abs(x).max(-1, keepdims=True) / 127
        q = np.clip(np.rint(x / scale), -128, 127)
        return (q @ weight.T) * scale * w.get(name + ".weight_scale").ravel() + w.maybe(name + ".bias")

    def norm(self, name, x):
        root = np.sqrt((x * x).mean(-1, keepdims=True) + self.w.config["rms_norm_eps"])
        return self.round(x / root * self.w.get(name + ".weight") + self.w.maybe(name + ".bias"))

    def rope(self, x):
        half = x.shape[-1] // 2
        inverse = 1 / self.w.config["rope_theta"] ** (np.arange(half, dtype=np.float32) / half)
        angle = np.arange(len(x), dtype=np.float32)[:, None] * inverse
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def cached(self, name, x):
        """Keys or values as an INT8 cache (C8) gives them back."""
        scale = self.w.get(name + ".kv_cache_scale").reshape(x.shape[1:])
        offset = self.w.get(name + ".kv_cache_offset").reshape(x.shape[1:])
        return (np.clip(np.rint(x / scale + offset), -128, 127) - offset) * scale

    def attention(self, layer, x):
        c, n = self.w.config, len(x)
        heads, kv_heads, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        p = layer + "self_attn."
        q, k, v = (self.round(self.linear(p + name, x)).reshape(n, -1, dim)
                   for name in ("q_proj", "k_proj", "v_proj"))
        q = self.round(self.rope(self.norm(p + "q_norm", q)))
        k = self.round(self.rope(self.norm(p + "k_norm", k)))
        if self.kv_int8:
            k, v = self.cached(p + "k_proj", k), self.cached(p + "v_proj", v)
        k, v = (np.repeat(t, heads // kv_heads, 1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(np.float32(dim))
        scores += np.triu(np.full((n, n), -np.inf, np.float32), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out = np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1)
        return self.linear(p + "o_proj", self.round(out))

    def mlp(self, layer, x):
        gate, up = self.linear(layer + "mlp.gate_proj", x), self.linear(layer + "mlp.up_proj", x)
        return self.linear(layer + "mlp.down_proj", self.round(gate / (1 + np.exp(-gate)) * up))

    def logits(self, ids):
        x = self.round(self.w.get("model.embed_tokens.weight")[np.array(ids)])
        for i in range(self.w.config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            x = self.round(x + self.attention(layer, self.norm(layer + "input_layernorm", x)))
            x = self.round(x + self.mlp(layer, self.norm(layer + "post_attention_layernorm", x)))
        head = "model.embed_tokens" if self.w.config["tie_word_embeddings"] else "lm_head"
        return self.norm("model.norm", x) @ self.w.get(head + ".weight").T


def trim(folder, out, layer, ids, vocab=64):
    source, out = Checkpoint(folder), pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rows = sorted(set(ids))
    rows += [r for r in range(source.config["vocab_size"]) if r not in set(rows)][:vocab - len(rows)]
    kept = {}
    for name, (dtype, array) in source.tensors.items():
        if name.startswith("model.layers."):
            if not name.startswith(f"model.layers.{layer}."):
                continue
            kept[name.replace(f"layers.{layer}.", "layers.0.")] = (dtype, array)
        elif array.shape[0] == source.config["vocab_size"]:
            kept[name] = (dtype, array[rows])
        else:
            kept[name] = (dtype, array)
    types = {}
    for name, kind in source.types.items():
        if name.startswith(f"model.layers.{layer}."):
            types[name.replace(f"layers.{layer}.", "layers.0.")] = kind
        elif not name.startswith("model.layers."):
            types[name] = kind
    config = dict(source.config, num_hidden_layers=1, vocab_size=len(rows), max_window_layers=1,
                  layer_types=["full_attention"], bos_token_id=None, eos_token_id=None)
    # The names of the pipeline that wrote it.
    index, = pathlib.Path(folder).glob("*.safetensors.index.json")
    shard, = pathlib.Path(folder).glob("*.safetensors")
    write_safetensors(out / shard.name, kept)
    (out / index.name).write_text(json.dumps({"weight_map": {n: shard.name for n in kept}}) + "\n")
    description, = pathlib.Path(folder).glob("quant_model_description*.json")
    (out / description.name).write_text(json.dumps(types, indent=1) + "\n")
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    small = Checkpoint(out)
    new_ids = [rows.index(i) for i in ids]
    mixes = ["static", "dynamic"] if "W8A8_MIX" in types.values() else [""]
    golden = {"tokens": new_ids, "logits": {}}
    for mix in mixes:
        for kv_int8 in [False] + [True] * ("C8" in types.values()):
            logits = Reference(small, mix, kv_int8=kv_int8).logits(new_ids)
            golden["logits"][(mix or "only") + "_c8" * kv_int8] = [
                [float(f"{v:.6g}") for v in row] for row in logits]
    (out / "golden.json").write_text(json.dumps(golden) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+")
    parser.add_argument("--mix", default="dynamic")
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--ids")
    args = parser.parse_args()
    if args.words[0] == "trim":
        trim(*args.words[1:], args.layer, json.loads(pathlib.Path(args.ids).read_text())["input_ids"])
        return
    folder, ids, out = args.words
    ids = json.loads(pathlib.Path(ids).read_text())["input_ids"]
    np.save(out, Reference(Checkpoint(folder), args.mix).logits(ids))


if __name__ == "__main__":
    main()
