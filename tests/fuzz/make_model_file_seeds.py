"""Writes the small well-formed files that the safetensors and GGUF fuzzers start from.

    python tests/fuzz/make_model_file_seeds.py     (pip install gguf)
"""

import json
import pathlib
import struct

import gguf
import numpy as np

SEEDS = pathlib.Path(__file__).parent / "seeds"


def safetensors(name, header, data):
    text = json.dumps(header).encode()
    path = SEEDS / "safetensors_fuzz" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def small_gguf(architecture, quantized):
    path = SEEDS / "gguf_fuzz" / f"{architecture}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(path, architecture)
    w.add_embedding_length(32)
    w.add_block_count(1)
    w.add_head_count(2)
    w.add_head_count_kv(1)
    w.add_feed_forward_length(64)
    w.add_context_length(128)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(1e6)
    w.add_tokenizer_model("gpt2")
    w.add_token_list(["a", "b", "ab", "<|im_end|>"])
    w.add_token_types([1, 1, 1, 3])
    w.add_token_merges(["a b"])
    w.add_eos_token_id(3)
    w.add_chat_template("{{ messages }}")
    w.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    kind = gguf.GGMLQuantizationType[quantized]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    w.add_tensor("blk.0.attn_q.weight", np.ones((2, size), np.uint8), raw_shape=(2, size),
                 raw_dtype=kind)
    w.add_tensor("rope_freqs.weight", np.ones(8, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    safetensors("empty", {}, b"")
    safetensors("two", {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    }, bytes(16))
    safetensors("control_characters", {
        "a\nb\x1b[2J": {"dtype": "BF\n16", "shape": [1], "data_offsets": [0, 2]},
    }, bytes(2))
    small_gguf("qwen3", "Q4_K")
    small_gguf("llama", "Q5_0")
    small_gguf("qwen2", "Q6_K")


main()
