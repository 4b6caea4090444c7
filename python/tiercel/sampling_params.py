"""SamplingParams: how the next tokens of a request are chosen. Names and defaults are vLLM's."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any


class RequestOutputKind(Enum):
    """What AsyncLLM.generate yields: all so far, what is new, or the end alone."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsParams:
    """What an answer must obey: exactly one of the first six.

    json: a JSON Schema, as a dict or as its text. choice: the answers that are allowed. grammar: GBNF or
    Lark.
    """

    json: str | dict | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | dict | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None


#: The older name.
GuidedDecodingParams = StructuredOutputsParams


def _given(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The members of `value` that are not None."""
    return {name: member for name in names if (member := getattr(value, name)) is not None}


@dataclass
class SamplingParams:
    """How one request is sampled. What is out of range is a ValueError when the request is made.

    n: answers a prompt. temperature: 0 is greedy. top_k: 0 or -1 is off. seed: the same seed gives the same
    tokens. stop: text that ends an answer. max_tokens: of each answer; None for as many as fit. logprobs,
    prompt_logprobs: how many of the likeliest tokens are shown beside the token itself; -1 for all.
    logit_bias: token id to what is added to its logit. bad_words: texts that are not written.
    structured_outputs (older: guided_decoding): what the answer must obey.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    flat_logprobs: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    stream_interval: int | None = None
    structured_outputs: StructuredOutputsParams | None = None
    logit_bias: dict[int | str, float] | None = None
    allowed_token_ids: list[int] | None = None
    extra_args: dict[str, Any] | None = None
    bad_words: list[str] | None = None
    skip_reading_prefix_cache: bool | None = None
    thinking_token_budget: int | None = None
    repetition_detection: Any = None
    watermarking: Any = None
    truncate_prompt_tokens: int | None = None
    guided_decoding: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        if self.structured_outputs is None:
            self.structured_outputs = self.guided_decoding
        if self.stop and not self.detokenize:
            raise ValueError("stop strings are only supported when detokenize is True. Set detokenize=True "
                             "to use stop.")
        for name in ("flat_logprobs", "skip_reading_prefix_cache"):
            if getattr(self, name):
                raise ValueError(f"`{name}` is not supported.")

    @staticmethod
    def from_optional(**given: Any) -> SamplingParams:
        """Of what is not None."""
        return SamplingParams(**{name: value for name, value in given.items() if value is not None})

    def clone(self) -> SamplingParams:
        return copy.deepcopy(self)

    def _fields(self) -> dict[str, Any]:
        """As fields of an HTTP body: what is not said here keeps its default there."""
        body = _given(self, (
            "n", "presence_penalty", "frequency_penalty", "repetition_penalty", "temperature", "top_p",
            "top_k", "min_p", "seed", "stop", "stop_token_ids", "ignore_eos", "min_tokens",
            "prompt_logprobs", "logprob_token_ids", "skip_special_tokens", "include_stop_str_in_output",
            "logit_bias", "allowed_token_ids", "bad_words", "thinking_token_budget", "watermarking",
            "truncate_prompt_tokens"))
        if self.structured_outputs is not None:
            rules = self.structured_outputs
            body["structured_outputs"] = (dict(rules) if isinstance(rules, dict) else
                                          _given(rules, tuple(f.name for f in fields(rules))))
        if self.repetition_detection is not None:
            rules = self.repetition_detection
            body["repetition_detection"] = rules if isinstance(rules, dict) else _given(
                rules, ("max_pattern_size", "min_pattern_size", "min_count"))
        if self.extra_args is not None:
            body["vllm_xargs"] = self.extra_args
        return body


@dataclass
class BeamSearchParams:
    """A search that keeps the `beam_width` likeliest answers. length_penalty: a score is the sum of the
    log-probabilities over the length to this power."""

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0
    include_stop_str_in_output: bool = False


@dataclass
class PoolingParams:
    """What is made of the hidden states. dimensions: of a vector, where the model can shorten them.
    use_activation: unit length of a vector, probabilities of labels; None as the model says."""

    dimensions: int | None = None
    use_activation: bool | None = None
    task: str | None = None
    truncate_prompt_tokens: int | None = None

    def _fields(self) -> dict[str, Any]:
        return _given(self, ("dimensions", "use_activation", "truncate_prompt_tokens"))
