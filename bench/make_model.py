"""Writes a checkpoint of random BF16 weights in the shape of a Qwen3 model, for the benchmarks.

  python bench/make_model.py --shape 0.6b --tokenizer FOLDER --out Qwen3-0.6B-rand

Matrices are N(0, 0.02), norms 1; the same seed gives the same bytes. FOLDER holds tokenizer.json and
tokenizer_config.json of Qwen3. Needs numpy alone. (Tiercel itself also runs without the files:
`--load-format dummy` takes the shape from config.json; the peers need them.)
"""

import argparse
import json
import pathlib
import shutil

import numpy

SHAPES = {  # hidden, layers, heads, KV heads, head_dim, intermediate, tied
    "tiny": (256, 4, 4, 2, 64, 512, True),
    "0.6b": (1024, 28, 16, 8, 128, 3072, True),
    "1.7b": (2048, 28, 16, 8, 128, 6144, True),
    "4b": (2560, 36, 32, 8, 128, 9728, True),
    "8b": (4096, 36, 32, 8, 128, 12288, False),
}
VOCABULARY = 151936


def tensors(shape):
    """Names and shapes, in the order of the file."""
    hidden, layers, heads, kv_heads, head_dim, intermediate, tied = shape
    yield "model.embed_tokens.weight", (VOCABULARY, hidden)
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.q_proj.weight", (heads * head_dim, hidden)
        yield prefix + "self_attn.k_proj.weight", (kv_heads * head_dim, hidden)
        yield prefix + "self_attn.v_proj.weight", (kv_heads * head_dim, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, heads * head_dim)
        yield prefix + "self_attn.q_norm.weight", (head_dim,)
        yield prefix + "self_attn.k_norm.weight", (head_dim,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.gate_proj.weight", (intermediate, hidden)
        yield prefix + "mlp.up_proj.weight", (intermediate, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, intermediate)
    yield "model.norm.weight", (hidden,)
    if not tied:
        yield "lm_head.weight", (VOCABULARY, hidden)


def config(shape):
    hidden, layers, heads, kv_heads, head_dim, intermediate, tied = shape
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
        "head_dim": head_dim, "hidden_act": "silu", "hidden_size": hidden,
        "initializer_range": 0.02, "intermediate_size": intermediate,
        "max_position_embeddings": 40960, "max_window_layers": layers,
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "use_cache": True,
        "use_sliding_window": False, "vocab_size": VOCABULARY,
    }


def write_weights(path, shape, seed):
    generator = numpy.random.default_rng(seed)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dims in tensors(shape):
        size = 2 * int(numpy.prod(dims))
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, dims in tensors(shape):
            if len(dims) == 1:
                file.write(numpy.full(dims, 0x3F80, dtype="<u2").tobytes())
                continue
            for begin in range(0, dims[0], 8192):
                rows = min(8192, dims[0] - begin)
                values = generator.standard_normal((rows, dims[1]), dtype=numpy.float32) * 0.02
                bits = values.view(numpy.uint32)
                rounded = bits + 0x7FFF + (bits >> 16 & 1)  # to nearest even
                file.write((rounded >> 16).astype("<u2").tobytes())
    return offset


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", required=True, choices=SHAPES)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(args.tokenizer / name, args.out / name)
    (args.out / "config.json").write_text(json.dumps(config(SHAPES[args.shape]), indent=2))
    (args.out / "generation_config.json").write_text(json.dumps(
        {"bos_token_id": 151643, "do_sample": True, "eos_token_id": [151645, 151643],
         "pad_token_id": 151643, "temperature": 0.6, "top_k": 20, "top_p": 0.95}, indent=2))
    size = write_weights(args.out / "model.safetensors", SHAPES[args.shape], args.seed)
    print(f"{args.out}: {size / 1e6:.0f} MB of weights")


if __name__ == "__main__":
    main()
