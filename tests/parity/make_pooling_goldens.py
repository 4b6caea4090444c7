#!/usr/bin/env python3
"""Writes the tiny random models of tests/data/models that pool, and what Hugging Face computes from them.

    pip install torch transformers==4.57.3 safetensors
    python tests/parity/make_pooling_goldens.py

Each folder has config.json, model.safetensors (BF16), the files of Sentence Transformers where the real
model has them, and golden.json: texts and their token ids by the tokenizer of tests/data/tiny-qwen3,
the values of the FP32 model, and how far Hugging Face's own BF16 model is from these.

- pooling-embedding: as Qwen3-Embedding, the bare network's names, vectors of the last token.
- pooling-reranker: as Qwen3-Reranker, a causal model whose score is softmax over two tokens' logits.
- pooling-classifier: Qwen3ForSequenceClassification with three labels.
"""

import json
import pathlib

import torch
from make_goldens import OUT, randomize
from transformers import (AutoTokenizer, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3ForSequenceClassification)

TOKENIZER = OUT.parent / "tiny-qwen3"
TEXTS = ["Hello", "What is the capital of China?", "The capital of China is Beijing.",
         "北京是中国的首都。", "🙂 emoji, \"quotes\" and\nlines", "x" * 700, "a b c d e f g " * 40]
PAIRS = [("What is the capital of China?", "The capital of China is Beijing."),
         ("What is the capital of China?", "Gravity pulls things together."),
         ("Explain gravity", "Gravity pulls things together."), ("a", "b")]
NO, YES = " no", "is"  # two tokens of the small vocabulary, spelt "Ġno" and "is" there
SIZES = dict(vocab_size=1152, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, head_dim=32, rope_theta=1e6,
             max_position_embeddings=2048, bos_token_id=1000, eos_token_id=1002, pad_token_id=1000)


def save(model, name, **changes):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}, indent=2) + "\n")
    return folder


def write_golden(folder, inputs, values_of, fp32, bf16):
    """inputs: [(what is sent, token ids)]; values_of(model, ids): a vector."""
    cases = []
    for sent, ids in inputs:
        exact, rounded = (values_of(m, torch.tensor([ids])).double() for m in (fp32, bf16))
        cases.append({"input": sent, "ids": ids, "values": [round(v, 9) for v in exact.tolist()],
                      "hf_bf16_error": (exact - rounded).norm().item()})
    (folder / "golden.json").write_text(json.dumps({"cases": cases}, ensure_ascii=False) + "\n")
    print(folder.name, "mean error of HF BF16", sum(c["hf_bf16_error"] for c in cases) / len(cases))


@torch.no_grad()
def main():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    texts = [(text, encode(text)) for text in TEXTS]

    def pair(model_class, seed, **config):
        model = model_class(Qwen3Config(**SIZES, **config)).eval()
        randomize(model, seed)
        bf16 = model.to(torch.bfloat16)
        fp32 = model_class(bf16.config).eval()
        fp32.load_state_dict(bf16.state_dict())
        return fp32.float(), bf16

    fp32, bf16 = pair(Qwen3ForCausalLM, 11, tie_word_embeddings=True)
    folder = save(bf16.model, "pooling-embedding", architectures=["Qwen3ForCausalLM"])
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(
        {"word_embedding_dimension": 64, "pooling_mode_cls_token": False,
         "pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}) + "\n")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
         for i, (path, kind) in enumerate(kinds)]) + "\n")
    write_golden(folder, texts, lambda m, ids: torch.nn.functional.normalize(
        m.model(ids).last_hidden_state[0, -1].float(), dim=0), fp32, bf16)

    fp32, bf16 = pair(Qwen3ForCausalLM, 12, tie_word_embeddings=False)
    folder = save(bf16, "pooling-reranker")
    both = [encode(NO), encode(YES)]
    assert all(len(ids) == 1 for ids in both), both
    columns = [ids[0] for ids in both]
    write_golden(folder, [(p, encode(p[0]) + encode(p[1])) for p in PAIRS],
                 lambda m, ids: m(ids).logits[0, -1].float()[columns].softmax(-1)[1:], fp32, bf16)

    fp32, bf16 = pair(Qwen3ForSequenceClassification, 13, num_labels=3, tie_word_embeddings=True,
                      id2label={0: "bad", 1: "fair", 2: "good"},
                      label2id={"bad": 0, "fair": 1, "good": 2})
    folder = save(bf16, "pooling-classifier")
    write_golden(folder, texts, lambda m, ids: m(ids).logits[0].float().softmax(-1), fp32, bf16)


if __name__ == "__main__":
    main()
