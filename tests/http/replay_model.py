"""Makes a Qwen3 checkpoint that says given texts: a prompt that ends with START(i) is answered with texts[i].

Attention and MLP are zero, so that the last token alone chooses the next one: the head's row of a token
is the embedding of the token before it. Each text is cut into pieces that are tokens of their own, no
piece twice; so every token has one successor. A text may be a list of parts: no piece is in two of them.
"""

import json
import pathlib
import random
import shutil

from bf16_file import bf16, write_bf16_file
from tiny_model import MODEL

HIDDEN = 256


def start(i):
    return f"<|start_{i}|>"


def pieces_of(text, taken, random_):
    """Cuts `text`; what was taken before is made longer until it is new, and what would take the < of a
    special token behind it."""
    pieces, at = [], 0
    while at < len(text):
        size = random_.randint(1, 4)
        while (text[at:at + size] in taken or text[at:at + size].endswith("<")) and at + size < len(text):
            size += 1
        piece = text[at:at + size]
        while piece in taken:  # nothing follows: with the pieces before it
            piece = pieces.pop() + piece
        taken.add(piece)
        pieces.append(piece)
        at += size
    return pieces


def make(folder, texts, seed=1):
    random_ = random.Random(seed)
    folder = pathlib.Path(folder)
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    # A text that is a token already would keep its id. (Ġ and Ċ are how bytes 32 and 10 are written.)
    taken = {token["content"] for token in tokenizer["added_tokens"]}
    taken |= {token.replace("Ġ", " ").replace("Ċ", "\n") for token in tokenizer["model"]["vocab"]}
    next_id = 1 + max(token["id"] for token in tokenizer["added_tokens"])
    after = {}  # id: the id that it is followed by
    end = config["eos_token_id"]

    def add(content, special=False):
        nonlocal next_id
        tokenizer["added_tokens"].append(
            {"id": next_id, "content": content, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": special})
        next_id += 1
        return next_id - 1

    for i, text in enumerate(texts):
        last = add(start(i), special=True)
        parts = [text] if isinstance(text, str) else text
        for piece in (piece for part in parts for piece in pieces_of(part, taken, random_)):
            token = add(piece)
            after[last], last = token, token
        after[last] = end
    # The end follows many: its row is the sum of theirs, and none of theirs is in another row.
    vocab = -(-next_id // 64) * 64
    embedding = [[random_.choice((-1.0, 1.0)) for _ in range(HIDDEN)] for _ in range(vocab)]
    head = [[0.0] * HIDDEN for _ in range(vocab)]
    for before, token in after.items():
        head[token] = [a + b for a, b in zip(head[token], embedding[before])]
    config |= {"num_hidden_layers": 1, "layer_types": ["full_attention"], "max_window_layers": 1,
               "vocab_size": vocab, "tie_word_embeddings": False, "intermediate_size": 128}
    q, kv = config["num_attention_heads"] * 128, config["num_key_value_heads"] * 128
    layer = "model.layers.0."
    zeros = {"self_attn.q_proj": (q, HIDDEN), "self_attn.k_proj": (kv, HIDDEN),
             "self_attn.v_proj": (kv, HIDDEN), "self_attn.o_proj": (HIDDEN, q),
             "mlp.gate_proj": (128, HIDDEN), "mlp.up_proj": (128, HIDDEN),
             "mlp.down_proj": (HIDDEN, 128)}
    ones = {layer + "self_attn.q_norm": 128, layer + "self_attn.k_norm": 128,
            layer + "input_layernorm": HIDDEN, layer + "post_attention_layernorm": HIDDEN,
            "model.norm": HIDDEN}
    tensors = {"model.embed_tokens.weight": ((vocab, HIDDEN), bf16(v for row in embedding for v in row)),
               "lm_head.weight": ((vocab, HIDDEN), bf16(v for row in head for v in row))}
    for name, (rows, columns) in zeros.items():
        tensors[f"{layer}{name}.weight"] = ((rows, columns), bytes(2 * rows * columns))
    for name, size in ones.items():
        tensors[f"{name}.weight"] = ((size,), bf16([1.0] * size))
    write_bf16_file(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    for name in ("tokenizer_config.json", "generation_config.json"):
        shutil.copy(MODEL / name, folder)
