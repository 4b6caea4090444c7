"""What requests give, in vLLM's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Logprob:
    """The log-probability of one token at one place.

    rank: 1 for the most likely token, 2 for the next, … decoded_token: its text; bytes that are no whole
    character show as U+FFFD.
    """

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


#: Of one token: what was asked for, by token id; the token itself comes first.
LogprobsOnePosition = dict[int, Logprob]


@dataclass
class CompletionOutput:
    """One of the `n` answers of a request.

    token_ids: with the token that stopped it, if one did; text: without, unless
    `include_stop_str_in_output`. cumulative_logprob, logprobs (one entry a token): None unless asked for.
    finish_reason: "stop", "length", "abort", "repetition", or None while it runs. stop_reason: the stop
    string or stop token id that was found; None for the end of sequence.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: list[LogprobsOnePosition] | None = None
    routed_experts: None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    lora_request: None = None

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass
class RequestOutput:
    """A prompt with its answers. prompt_logprobs: one entry a token of the prompt, the first None."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    prompt_logprobs: list[LogprobsOnePosition | None] | None
    outputs: list[CompletionOutput]
    finished: bool
    metrics: None = None
    lora_request: None = None
    encoder_prompt: str | None = None
    encoder_prompt_token_ids: list[int] | None = None
    num_cached_tokens: int | None = None
    kv_transfer_params: dict[str, Any] | None = None


@dataclass
class PoolingOutput:
    """data: a list of floats, or one list for each token of the prompt."""

    data: list


@dataclass
class PoolingRequestOutput:
    request_id: str
    outputs: Any
    prompt_token_ids: list[int]
    finished: bool = True
    num_cached_tokens: int | None = None


@dataclass
class EmbeddingOutput:
    """embedding: hidden_size floats, or as many as `dimensions` asked for; of length 1 unless told."""

    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)


class EmbeddingRequestOutput(PoolingRequestOutput):
    outputs: EmbeddingOutput


@dataclass
class ClassificationOutput:
    """probs: one number a label."""

    probs: list[float]

    @property
    def num_classes(self) -> int:
        return len(self.probs)


class ClassificationRequestOutput(PoolingRequestOutput):
    outputs: ClassificationOutput


@dataclass
class ScoringOutput:
    """score: how alike the pair is; a cosine where the model gives vectors."""

    score: float


class ScoringRequestOutput(PoolingRequestOutput):
    outputs: ScoringOutput


@dataclass
class BeamSearchSequence:
    """tokens: those of the prompt, then those of the answer; text: of all of them."""

    tokens: list[int]
    logprobs: list[LogprobsOnePosition] = field(default_factory=list)
    cum_logprob: float = 0.0
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    lora_request: None = None


@dataclass
class BeamSearchOutput:
    """The `beam_width` best answers, best first."""

    sequences: list[BeamSearchSequence]
