"""From Python's requests to bodies of the server's endpoints, and from what comes back to outputs."""

from __future__ import annotations

import json
from typing import Any

from . import _native
from .outputs import CompletionOutput, Logprob, LogprobsOnePosition, RequestOutput
from .prompts import PromptType, to_fields
from .sampling_params import SamplingParams

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


def dump(body: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in body.items() if value is not None})


def _max_tokens(params: SamplingParams, engine: _native.Engine) -> int:
    """What is asked beyond the model's length is what fits, as in vLLM."""
    longest = engine.max_model_len
    return longest if params.max_tokens is None else min(params.max_tokens, longest)


def completion_body(prompt: PromptType, params: SamplingParams, engine: _native.Engine,
                    priority: int = 0) -> tuple[str | None, str]:
    """The prompt's text, where it is known, and the body of /v1/completions."""
    text, body = to_fields(prompt)
    body |= params._fields()
    body |= {"max_tokens": _max_tokens(params, engine), "logprobs": params.logprobs}
    if priority:
        body["priority"] = priority
    return text, dump(body)


def chat_body(messages: list[dict], params: SamplingParams, engine: _native.Engine,
              **chat: Any) -> str:
    """The body of /v1/chat/completions. Tools are for the template: the text stays as it is written."""
    body = {"messages": messages, **params._fields(), "max_tokens": _max_tokens(params, engine), **chat}
    if params.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": params.logprobs}
    if chat.get("tools"):
        body["tool_choice"] = "none"
    return dump(body)


def default_params(engine: _native.Engine) -> SamplingParams:
    return SamplingParams(**engine.sampling_defaults)


def _position(entries: list[tuple[int, float, int]], engine: _native.Engine) -> LogprobsOnePosition:
    position: LogprobsOnePosition = {}
    for token, logprob, rank in entries:
        position.setdefault(token, Logprob(logprob, rank, engine.decode([token], False)))
    return position


class PendingRequest:
    """A request in a RequestSet, and the output that grows with it."""

    def __init__(self, requests: _native.RequestSet, engine: _native.Engine, number: int, request_id: str,
                 prompt: str | None, params: SamplingParams) -> None:
        self.number = number
        self._requests = requests
        self._engine = engine
        self._params = params
        self.output = RequestOutput(request_id, prompt, None, None, [], False)

    def update(self) -> RequestOutput:
        """Takes what is new into `output`; a request that failed is a ValueError."""
        done, ids, cached, prompt_logprobs, choices, _ = self._requests.take(self.number)
        output = self.output
        if output.prompt_token_ids is None:
            output.prompt_token_ids = ids
            if output.prompt is None and self._params.detokenize:
                output.prompt = self._engine.decode(ids, False)
            output.outputs = [self._new_choice(i) for i in range(len(choices))]
        output.num_cached_tokens = cached
        if self._params.prompt_logprobs is not None and output.prompt_logprobs is None and prompt_logprobs:
            output.prompt_logprobs = [_position(entries, self._engine) if entries else None
                                      for entries in prompt_logprobs]
        for choice, news in zip(output.outputs, choices):
            self._grow(choice, *news)
        output.finished = done
        return output

    def _new_choice(self, index: int) -> CompletionOutput:
        if self._params.logprobs is None:
            return CompletionOutput(index, "", [])
        return CompletionOutput(index, "", [], cumulative_logprob=0.0, logprobs=[])

    def _grow(self, choice: CompletionOutput, text: str, token_ids: list[int], logprobs: list,
              finish_reason: str | None, stop_reason: int | str | None) -> None:
        if self._params.detokenize:
            choice.text += text
        choice.token_ids += token_ids
        choice.finish_reason, choice.stop_reason = finish_reason, stop_reason
        if choice.logprobs is not None and choice.cumulative_logprob is not None:
            for entries in logprobs:
                choice.logprobs.append(_position(entries, self._engine))
                choice.cumulative_logprob += entries[0][1]
