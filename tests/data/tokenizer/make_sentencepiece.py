"""Writes sentencepiece.json: a small Llama vocabulary as GGUF files carry it, and what Hugging Face
makes of it. python make_sentencepiece.py (needs transformers)"""

import json
import pathlib
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.integrations.ggml import GGUFLlamaConverter

HERE = pathlib.Path(__file__).parent
TEXT = """The quick brown fox jumps over the lazy dog. A language model predicts the next token of a
text, and the text that it writes is the text that it predicts. The model reads the prompt once, then
it writes one token after another; the server sends each of them to the client as soon as it is there.
"""

# Pieces are learned by merging, as sentencepiece's BPE does: the earlier the merge, the better the
# score; single characters come last.
learner = Tokenizer(models.BPE())
learner.pre_tokenizer = pre_tokenizers.Metaspace()
learner.train_from_iterator(TEXT.splitlines(), trainers.BpeTrainer(vocab_size=260, show_progress=False))
learned = [t for t, _ in sorted(learner.get_vocab().items(), key=lambda item: item[1])]
pieces = [t for t in learned if len(t) > 1] + [t for t in learned if len(t) == 1]
tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + pieces + ["<|user|>"]
scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces))] + [0.0]
types_ = [2, 3, 3] + [6] * 256 + [1] * len(pieces) + [4]

vocab = {"tokens": tokens, "scores": scores, "token_types": types_, "bos": 1, "eos": 2, "unknown": 0}
converter = GGUFLlamaConverter({
    "tokens": tokens, "scores": scores, "token_type": types_,
    "added_tokens": ["<|user|>"], "unk_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "tokenizer_type": "llama"})
# The converter asks the tokenizer for these; legacy is what GGUF files and llama.cpp follow.
converter.original_tokenizer.legacy = True
converter.original_tokenizer.add_prefix_space = True
reference = converter.converted()
reference.add_special_tokens(["<unk>"])

WORDS = ["the", " text", "The model", "  ", "\n", "quick", " qu", "é", "客", "🌶️", "</s>", "<|user|>", ".", "123",
         "tokens ", "\u2581", "x"]
rng = random.Random(5)
texts = ["", " ", *WORDS] + ["".join(rng.choices(WORDS, k=rng.randint(1, 10))) for _ in range(60)]
plain = [i for i, kind in enumerate(types_) if kind != 6]
lists = [reference.encode(t, add_special_tokens=False).ids for t in texts]
lists += [rng.choices(plain, k=rng.randint(1, 12)) for _ in range(60)]
json.dump({"vocab": vocab,
           "encode": [{"text": t, "ids": reference.encode(t, add_special_tokens=False).ids} for t in texts],
           "decode": [{"ids": i, "skip": s, "text": reference.decode(i, skip_special_tokens=s)}
                      for i in lists for s in (True, False)]},
          open(HERE / "sentencepiece.json", "w", encoding="utf-8"), ensure_ascii=False, indent=0)
