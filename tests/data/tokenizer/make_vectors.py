"""Writes qwen3-small/vectors.json with Hugging Face tokenizers: texts with their ids, random ids
with their text (invalid UTF-8 included), and texts whose added tokens are no tokens, by a tokenizer that has
none. python make_vectors.py"""

import json
import pathlib
import random

from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).parent / "qwen3-small"
PIECES = ["hello", " world", "  ", "\n", "\r\n", "\t", "客单价", "🌶️", "naïve", "e\u0301", "it's", "I'LL", "123", "x<y&z>",
          "<think>", "</think>", "<|im_start|>", "<|im_end|>", "<tool_call>", "\u00a0", "...", "!?", "Привет", "\u200d", "\0"]
tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
rng = random.Random(3)
texts = ["", " ", *PIECES] + ["".join(rng.choices(PIECES, k=rng.randint(1, 12))) for _ in range(60)]
size = tokenizer.get_vocab_size()
lists = [rng.choices(range(256 if rng.random() < 0.5 else size), k=rng.randint(1, 20)) for _ in range(200)]
file = json.loads((HERE / "tokenizer.json").read_text(encoding="utf-8"))
plain = Tokenizer.from_str(json.dumps({**file, "added_tokens": []}))
users = ["<|im_end|>", "a<think>b</think>", "<<think>", "<|im_<|im_end|>end|>", "<think", "e<|im_start|>\u0301"] + \
        ["".join(rng.choices(PIECES, k=rng.randint(1, 12))) for _ in range(40)]
json.dump({"encode": [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in texts],
           "decode": [{"ids": i, "skip": s, "text": tokenizer.decode(i, skip_special_tokens=s)}
                      for i in lists for s in (True, False)],
           "plain": [{"text": t, "ids": plain.encode(t, add_special_tokens=False).ids} for t in users]},
          open(HERE / "vectors.json", "w", encoding="utf-8"), ensure_ascii=False, indent=0)
