"""The forms of prompts: a text, token ids, or a dictionary with either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict


class TextPrompt(TypedDict, total=False):
    prompt: str
    cache_salt: str


class TokensPrompt(TypedDict, total=False):
    prompt_token_ids: list[int]
    prompt: str
    cache_salt: str


PromptType = str | list[int] | TextPrompt | TokensPrompt


def is_one(prompts: Any) -> bool:
    """Whether this is a single prompt, not a list of them."""
    return isinstance(prompts, (str, dict)) or (len(prompts) > 0 and isinstance(prompts[0], int))


def as_list(prompts: PromptType | Sequence[PromptType]) -> list[PromptType]:
    return [prompts] if is_one(prompts) else list(prompts)  # type: ignore[list-item, arg-type]


def to_fields(prompt: PromptType) -> tuple[str | None, dict[str, Any]]:
    """The text that is known, and the members of a body."""
    if isinstance(prompt, str):
        return prompt, {"prompt": prompt}
    if not isinstance(prompt, dict):
        return None, {"prompt": list(prompt)}
    text = prompt.get("prompt")
    if "prompt_embeds" in prompt:
        raise ValueError("`prompt_embeds` are not supported: send text or token ids.")
    if prompt.get("multi_modal_data"):
        raise ValueError("`multi_modal_data` is not supported: the model is text only.")
    ids = prompt.get("prompt_token_ids")
    if ids is None and text is None:
        raise ValueError("a prompt must have `prompt` or `prompt_token_ids`")
    body: dict[str, Any] = {"prompt": text if ids is None else list(ids)}
    if prompt.get("cache_salt") is not None:
        body["cache_salt"] = prompt["cache_salt"]
    return text, body
