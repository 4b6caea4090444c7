#!/usr/bin/env python3
"""Writes the tiny random models of tests/data/models and what Hugging Face computes from them.

    pip install torch transformers==4.57.3 safetensors
    python tests/parity/make_goldens.py            # rewrites tests/data/models

For each model: config.json and model.safetensors (BF16), logits.f32 (float32 [tokens, vocab], the
FP32 model's teacher-forced logits), golden.json with the tokens (a random prompt, then the FP32
model's greedy continuation) and, per position, KL(FP32 || Hugging Face's own BF16). rope.json holds
inverse frequencies of real configurations. The weights are wider than a usual initialization, with
norm weights and biases far from their neutral values, so that a mistake in any term shows.
"""

import json
import pathlib

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "models"
PROMPT_TOKENS = 56
GREEDY_TOKENS = 24

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "factor": 2.0}


def model_specs():
    """name -> (config class, model class, config). Sizes are chosen to hit every kind of padding:
    vocabularies, hidden and inner sizes that are no multiples of 16 or 32, KV heads that do and do
    not divide among two workers."""
    common = dict(max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
    yield "qwen3-tied", Qwen3ForCausalLM, Qwen3Config(
        vocab_size=704, hidden_size=128, intermediate_size=288, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, rope_theta=1e6,
        tie_word_embeddings=True, **common)
    yield "qwen3-untied-yarn", Qwen3ForCausalLM, Qwen3Config(
        vocab_size=520, hidden_size=96, intermediate_size=208, num_hidden_layers=2,
        num_attention_heads=8, num_key_value_heads=4, head_dim=32, rope_theta=1e4,
        rope_scaling=YARN, tie_word_embeddings=False, **common)
    yield "qwen2-tied-linear", Qwen2ForCausalLM, Qwen2Config(
        vocab_size=610, hidden_size=192, intermediate_size=200, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=3, rope_theta=1e4, rope_scaling=LINEAR,
        tie_word_embeddings=True, **common)
    yield "llama-untied-llama3", LlamaForCausalLM, LlamaConfig(
        vocab_size=640, hidden_size=112, intermediate_size=240, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=64, rope_theta=5e5,
        rope_scaling=LLAMA3, tie_word_embeddings=False, **common)
    yield "llama-tied-biased", LlamaForCausalLM, LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, rope_theta=1e4, attention_bias=True,
        mlp_bias=True, tie_word_embeddings=True, **common)


def randomize(model, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            p.data.uniform_(0.5, 1.5, generator=g)
        elif name.endswith(".bias"):
            p.data.normal_(0, 0.2, generator=g)
        elif "embed_tokens" in name or "lm_head" in name:
            p.data.normal_(0, 0.25, generator=g)
        else:
            p.data.normal_(0, 0.08, generator=g)


@torch.no_grad()
def write_model(name, cls, config, seed):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    config.torch_dtype = torch.bfloat16
    model = cls(config).eval()
    randomize(model, seed)
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "generation_config.json").unlink(missing_ok=True)

    bf16 = cls.from_pretrained(folder, torch_dtype=torch.bfloat16).eval()
    fp32 = cls.from_pretrained(folder, torch_dtype=torch.float32).eval()
    g = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(3, config.vocab_size, (1, PROMPT_TOKENS), generator=g)
    for _ in range(GREEDY_TOKENS):
        logits = fp32(tokens, use_cache=False).logits
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
    logits = fp32(tokens, use_cache=False).logits[0]
    reference = logits.double().log_softmax(-1)
    other = bf16(tokens, use_cache=False).logits[0].double().log_softmax(-1)
    kl = (reference.exp() * (reference - other)).sum(-1)

    logits.numpy().astype("<f4").tofile(folder / "logits.f32")
    golden = {"tokens": tokens[0].tolist(), "prompt_tokens": PROMPT_TOKENS,
              "kl_hf_bf16": [round(x, 9) for x in kl.tolist()],
              "max_logprob_error_hf_bf16": (reference - other).abs().max().item()}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    gap = logits.topk(2).values
    print(f"{name}: mean KL of HF BF16 {kl.mean():.2e}, max {kl.max():.2e}, logit std "
          f"{logits.std():.2f}, positions with a top-2 gap < 0.1: "
          f"{int(((gap[:, 0] - gap[:, 1]) < 0.1).sum())}")


def write_rope():
    cases = []
    for head_dim, theta, scaling in [
            (128, 1e6, None), (64, 1e5, None), (128, 1e6, {"rope_type": "linear", "factor": 3.0}),
            (128, 1e6, {"rope_type": "yarn", "factor": 4.0,
                        "original_max_position_embeddings": 32768}),
            (128, 1e6, {"rope_type": "yarn", "factor": 4.0, "truncate": False,
                        "original_max_position_embeddings": 32768}),
            (64, 1e4, {"rope_type": "yarn", "factor": 8.0, "attention_factor": 1.25,
                       "beta_fast": 16, "beta_slow": 2, "original_max_position_embeddings": 4096}),
            (128, 5e5, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}),
            (64, 5e5, {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                       "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})]:
        config = Qwen3Config(head_dim=head_dim, rope_theta=theta, rope_scaling=scaling,
                             max_position_embeddings=40960)
        kind = scaling["rope_type"] if scaling else "default"
        inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
        cases.append({"config": {"head_dim": head_dim, "rope_theta": theta,
                                 "max_position_embeddings": 40960, "rope_scaling": scaling},
                      "inv_freq": inv_freq.tolist(), "attention_factor": float(factor)})
    (OUT / "rope.json").write_text(json.dumps(cases) + "\n")


def main():
    torch.manual_seed(0)
    for seed, (name, cls, config) in enumerate(model_specs()):
        write_model(name, cls, config, 100 * seed + 7)
    write_rope()


if __name__ == "__main__":
    main()
