"""The model's tokenizer, with the methods of Hugging Face's that scripts use."""

from __future__ import annotations

import json
from typing import Any

from . import _native


class Tokenizer:
    """Of an engine; usable for as long as that is."""

    is_fast = True

    def __init__(self, engine: _native.Engine, name: str) -> None:
        self._engine = engine
        self.name_or_path = name

    @property
    def vocab_size(self) -> int:
        return self._engine.vocab_size

    def __len__(self) -> int:
        return self._engine.vocab_size

    @property
    def model_max_length(self) -> int:
        return self._engine.max_model_len

    @property
    def eos_token_id(self) -> int | None:
        return self._engine.eos

    @property
    def bos_token_id(self) -> int | None:
        return self._engine.bos

    @property
    def eos_token(self) -> str | None:
        return None if self.eos_token_id is None else self.convert_ids_to_tokens(self.eos_token_id)

    @property
    def bos_token(self) -> str | None:
        return None if self.bos_token_id is None else self.convert_ids_to_tokens(self.bos_token_id)

    @property
    def all_special_ids(self) -> list[int]:
        return [i for i in range(self.vocab_size) if self._engine.is_special(i)]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._engine.encode(text, add_special_tokens)

    def __call__(self, text: str | list[str], add_special_tokens: bool = True) -> dict[str, Any]:
        """input_ids and attention_mask, of one text or of each."""
        if isinstance(text, str):
            ids: Any = self.encode(text, add_special_tokens)
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}
        ids = [self.encode(each, add_special_tokens) for each in text]
        return {"input_ids": ids, "attention_mask": [[1] * len(each) for each in ids]}

    def decode(self, token_ids: int | list[int], skip_special_tokens: bool = False) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return self._engine.decode(ids, skip_special_tokens)

    def batch_decode(self, sequences: list[list[int]], skip_special_tokens: bool = False) -> list[str]:
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

    def tokenize(self, text: str) -> list[str]:
        return self.convert_ids_to_tokens(self.encode(text, add_special_tokens=False))

    def convert_ids_to_tokens(self, ids: int | list[int]) -> Any:
        if isinstance(ids, int):
            return self._engine.token_string(ids)
        return [self._engine.token_string(i) for i in ids]

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        if isinstance(tokens, str):
            return self._engine.token_id(tokens)
        return [self._engine.token_id(token) for token in tokens]

    def get_vocab(self) -> dict[str, int]:
        names = ((self._engine.token_string(i), i) for i in range(self.vocab_size))
        return {name: i for name, i in names if name}

    def apply_chat_template(self, conversation: list[dict], *, tools: list[dict] | None = None,
                            chat_template: str | None = None, add_generation_prompt: bool = False,
                            continue_final_message: bool = False, tokenize: bool = True,
                            **kwargs: Any) -> str | list[int]:
        """The conversation as the model's template, or `chat_template`, writes it; kwargs are for the
        template (enable_thinking)."""
        body = {"messages": conversation, "tools": tools, "chat_template": chat_template,
                "add_generation_prompt": add_generation_prompt,
                "continue_final_message": continue_final_message, "chat_template_kwargs": kwargs or None}
        text = self._engine.render(json.dumps({k: v for k, v in body.items() if v is not None}))
        return self.encode(text, add_special_tokens=False) if tokenize else text
