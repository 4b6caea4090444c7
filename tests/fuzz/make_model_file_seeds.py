"""Writes the small well-formed files that the fuzzers of model files start from.

    python tests/fuzz/make_model_file_seeds.py     (pip install gguf)
"""

import json
import pathlib
import struct

import gguf
import numpy as np

SEEDS = pathlib.Path(__file__).parent / "seeds"


CONFIG = {"architectures": ["Qwen3ForCausalLM"], "hidden_size": 4, "num_hidden_layers": 1,
          "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2, "intermediate_size": 2,
          "vocab_size": 3, "tie_word_embeddings": True, "eos_token_id": [1, 2]}
UP = "model.layers.0.mlp.up_proj"


def part(value):
    text = b"" if value is None else json.dumps(value).encode()
    return struct.pack("<H", len(text)) + text


def write(folder, name, data):
    path = SEEDS / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def safetensors(name, header, data, config=CONFIG, index=None, description=None):
    text = json.dumps(header).encode()
    write("safetensors_fuzz", name, part(index) + part(config) + part(description) +
          struct.pack("<Q", len(text)) + text + data)


def tensors(**values):
    """A header and its data: name → (dtype, array)."""
    header, data = {}, b""
    for name, (dtype, array) in values.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return header, data


def static_linear(input_scale):
    return tensors(**{
        f"{UP}.weight": ("I8", np.ones((2, 4), np.int8)),
        f"{UP}.input_scale": ("F32", np.array([input_scale], np.float32)),
        f"{UP}.input_offset": ("F32", np.array([-6], np.float32)),
        f"{UP}.deq_scale": ("I64", np.array([0x38d1b717, 0x38d1b717], np.int64)),
        f"{UP}.quant_bias": ("I32", np.array([1, -2], np.int32))})


def small_tokenizer(name, model, config, **fields):
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [
        {"id": 9, "content": "<|im_end|>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": model} | fields
    write("tokenizer_fuzz", name, part(config) + json.dumps(tokenizer).encode())


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
    two = tensors(**{"a.weight": ("BF16", np.zeros((2, 3), np.uint16)),
                     "b": ("F32", np.float32(1).reshape(()))})
    safetensors("empty", {}, b"")
    safetensors("two", two[0] | {"__metadata__": {"format": "pt"}}, two[1])
    safetensors("index", *two, index={"metadata": {"total_size": 16}, "weight_map": {
        "a.weight": "model.safetensors", "b": "model.safetensors"}})
    safetensors("control_characters", {
        "a\nb\x1b[2J": {"dtype": "BF\n16", "shape": [1], "data_offsets": [0, 2]},
    }, bytes(2))
    safetensors("static", *static_linear(0.05), description={f"{UP}.weight": "W8A8"})
    safetensors("compressed", *static_linear(0.05), config=CONFIG | {"quantization_config": {
        "quant_method": "compressed-tensors", "config_groups": {"g": {
            "weights": {"num_bits": 8}, "input_activations": {"num_bits": 8, "dynamic": False}}}}})
    small_gguf("qwen3", "Q4_K")
    small_gguf("llama", "Q5_0")
    small_gguf("qwen2", "Q6_K")
    write("config_fuzz", "qwen3", json.dumps(CONFIG).encode())
    write("config_fuzz", "yarn", json.dumps(CONFIG | {"rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        "temperature": 0.6, "top_k": 20}).encode())
    bpe = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3}, "merges": ["a b"]}
    end = {"eos_token": "<|im_end|>", "added_tokens_decoder": {"8": {"content": "<x>"}}}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    small_tokenizer("bpe", bpe, end, pre_tokenizer=level, decoder=level)
    small_tokenizer("split", bpe, None, normalizer={"type": "NFC"}, pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|a"}, "behavior": "Isolated",
        "invert": False})
    small_tokenizer("words", {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}, end)
    small_tokenizer("pieces", bpe | {"byte_fallback": True, "unk_token": "a"}, None, normalizer={
        "type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {
            "type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, {
            "type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        post_processor={"type": "TemplateProcessing",
                        "single": [{"SpecialToken": {"id": "a", "type_id": 0}},
                                   {"Sequence": {"id": "A", "type_id": 0}}],
                        "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                                 {"Sequence": {"id": "B", "type_id": 1}}],
                        "special_tokens": {"a": {"id": "a", "ids": [0], "tokens": ["a"]}}})


main()
