"""Writes a Qwen3 checkpoint of random weights, the same each time, that Hugging Face and the program both load."""

import json
import pathlib
import random
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))

from bf16_file import bf16, write_bf16_file  # noqa: E402
from tiny_model import MODEL  # noqa: E402


def write_random_model(folder, seed=1):
    """Into a new folder; in the shapes of tests/data/tiny-qwen3, with its tokenizer."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    random_ = random.Random(seed)
    config = json.loads((MODEL / "config.json").read_text())
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head

    def matrix(rows, columns, gain=1.0):  # multiplies the deviation of what goes in by the gain
        width = gain * (3.0 / columns) ** 0.5  # the deviation of a uniform distribution is its width by sqrt(3)
        return (rows, columns), bf16(random_.uniform(-width, width) for _ in range(rows * columns))

    def norm(size):
        return (size,), bf16(random_.uniform(0.5, 1.5) for _ in range(size))

    # It is the head, too: a gain of 3 gives log-probabilities that differ by many units.
    tensors = {"model.embed_tokens": matrix(config["vocab_size"], hidden, gain=3.0)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        tensors |= {at + "input_layernorm": norm(hidden), at + "post_attention_layernorm": norm(hidden),
                    at + "self_attn.q_norm": norm(head), at + "self_attn.k_norm": norm(head),
                    at + "self_attn.q_proj": matrix(q, hidden), at + "self_attn.k_proj": matrix(kv, hidden),
                    at + "self_attn.v_proj": matrix(kv, hidden), at + "self_attn.o_proj": matrix(hidden, q),
                    at + "mlp.gate_proj": matrix(inner, hidden), at + "mlp.up_proj": matrix(inner, hidden),
                    at + "mlp.down_proj": matrix(hidden, inner)}
    tensors["model.norm"] = norm(hidden)
    write_bf16_file(folder / "model.safetensors",
                    {name + ".weight": tensor for name, tensor in tensors.items()})
    for path in MODEL.iterdir():
        shutil.copy(path, folder)
