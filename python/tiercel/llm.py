"""LLM: a model in this process, with the methods of vLLM's."""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import json
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from . import _native
from ._flags import add_flags, engine_arguments, find_program, to_words
from ._requests import CHAT, COMPLETIONS, PendingRequest, chat_body, completion_body, default_params, dump
from .outputs import (BeamSearchOutput, BeamSearchSequence, ClassificationOutput,
                      ClassificationRequestOutput, EmbeddingOutput, EmbeddingRequestOutput, PoolingOutput,
                      PoolingRequestOutput, RequestOutput, ScoringOutput, ScoringRequestOutput)
from .prompts import PromptType, as_list, is_one, to_fields
from .sampling_params import BeamSearchParams, PoolingParams, SamplingParams
from .tokenizer import Tokenizer

#: How long C++ runs before Python looks at signals, in seconds: Ctrl-C ends within it.
_SLICE = 0.05

_open_engines: weakref.WeakSet = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Threads of an engine end before the process's own parts do."""
    for engine in list(_open_engines):
        engine.close()


class EngineArgs:
    """The engine arguments by name: every flag of `tiercel serve` that is not the server's own, with
    underscores. Dictionaries stand for JSON."""

    def __init__(self, model: str, **arguments: Any) -> None:
        self.model = model
        self.arguments = arguments

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        """Gives `parser` all engine arguments as flags; what is not given is None."""
        return add_flags(parser)

    @classmethod
    def from_cli_args(cls, args: argparse.Namespace) -> EngineArgs:
        known = engine_arguments()
        return cls(args.model, **{k: v for k, v in vars(args).items() if k in known and k != "model"})


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    model: str
    max_model_len: int  # tokens of a prompt and its answer


@dataclasses.dataclass(frozen=True)
class LLMEngine:
    """What scripts read of LLM.llm_engine."""

    model_config: ModelConfig


def load_engine(model: str, arguments: dict[str, Any]) -> _native.Engine:
    arguments = {"disable_log_stats": True, **arguments}
    loader = _native.Loader(to_words(str(model), arguments), find_program())
    while not loader.wait(_SLICE):
        pass  # an interrupt ends the loading with `loader`
    engine = loader.take()
    _open_engines.add(engine)
    return engine


class _Bar:
    """A progress bar, if one is wanted and tqdm is there."""

    def __init__(self, use_tqdm: bool | Callable[..., Any], total: int) -> None:
        self._bar = None
        make = use_tqdm if callable(use_tqdm) else None
        if use_tqdm and make is None:
            try:
                from tqdm.auto import tqdm as make
            except ImportError:
                pass
        if make is not None:
            self._bar = make(total=total, desc="Processed prompts", dynamic_ncols=True,
                             postfix="est. speed input: 0.00 toks/s, output: 0.00 toks/s")
        self._start = time.monotonic()

    def update(self, done: int) -> None:
        if self._bar is not None and done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def close(self, outputs: list[RequestOutput]) -> None:
        if self._bar is None:
            return
        seconds = max(time.monotonic() - self._start, 1e-9)
        tokens_in = sum(len(o.prompt_token_ids or ()) for o in outputs)
        tokens_out = sum(len(c.token_ids) for o in outputs for c in o.outputs)
        self._bar.n = self._bar.total
        self._bar.set_postfix_str(f"est. speed input: {tokens_in / seconds:.2f} toks/s, "
                                  f"output: {tokens_out / seconds:.2f} toks/s")
        self._bar.close()


class LLM:
    """A model that answers requests in this process.

    model: a folder, a .gguf file, or a hub id. Every other argument is an engine argument of
    `tiercel serve` with underscores (`max_model_len`, `tensor_parallel_size`, `quantization`,
    `compilation_config={...}`, …); None leaves it at its default. A value that the server would refuse is
    a ValueError with the server's words, an unknown name a TypeError.

    Methods may be called from several threads at once. The interpreter's lock is free while the engine
    works, and Ctrl-C ends a call within a tenth of a second. The engine ends with the object, or with
    shutdown().
    """

    def __init__(self, model: str, **arguments: Any) -> None:
        self._model = str(model)
        self._engine = load_engine(self._model, arguments)
        self._num_requests = 0

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> LLM:
        return cls(engine_args.model, **engine_args.arguments)

    @property
    def llm_engine(self) -> LLMEngine:
        return LLMEngine(ModelConfig(self._model, self._engine.max_model_len))

    def shutdown(self) -> None:
        """Ends what runs, and gives the memory back."""
        self._engine.close()

    def __del__(self) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None:
            engine.close()

    # Generation

    def generate(self, prompts: PromptType | Sequence[PromptType] | None = None,
                 sampling_params: SamplingParams | Sequence[SamplingParams] | None = None, *,
                 use_tqdm: bool | Callable[..., Any] = True, lora_request: None = None,
                 priority: list[int] | None = None, prompt_token_ids: Any = None,
                 tokenization_kwargs: dict[str, Any] | None = None) -> list[RequestOutput]:
        """Goes on with each prompt: a text, token ids, {"prompt": …} or {"prompt_token_ids": …}.

        sampling_params: one for all, or one a prompt; None: the model's defaults. use_tqdm: a progress bar,
        or what makes one. The outputs are in the order of the prompts.
        """
        self._refuse_lora(lora_request)
        items = as_list(prompt_token_ids if prompts is None else prompts)
        params = self._params_for(items, sampling_params)
        if priority is not None and len(priority) != len(items):
            raise ValueError("The lengths of prompts and priority must be the same.")
        bodies = (completion_body(self._truncated(item, tokenization_kwargs), p, self._engine,
                                  priority[i] if priority else 0)
                  for i, (item, p) in enumerate(zip(items, params)))
        return self._run(COMPLETIONS, bodies, params, use_tqdm)

    def chat(self, messages: list[dict] | Sequence[list[dict]],
             sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
             use_tqdm: bool | Callable[..., Any] = True, lora_request: None = None,
             chat_template: str | None = None, chat_template_content_format: str = "auto",
             add_generation_prompt: bool = True, continue_final_message: bool = False,
             tools: list[dict] | None = None, chat_template_kwargs: dict[str, Any] | None = None,
             mm_processor_kwargs: dict[str, Any] | None = None) -> list[RequestOutput]:
        """Answers one conversation or each of several. The text is the whole answer: thought and tool calls
        stand in it as the model wrote them.

        tools, chat_template_kwargs (enable_thinking): for the template. continue_final_message: the answer
        goes on with the last message; then add_generation_prompt must be False.
        """
        self._refuse_lora(lora_request)
        if chat_template_content_format != "auto":
            raise ValueError("`chat_template_content_format` is an argument of LLM() here")
        one = bool(messages) and isinstance(messages[0], dict)
        conversations: list[Any] = [messages] if one else list(messages)
        params = self._params_for(conversations, sampling_params)
        bodies = ((None, chat_body(c, p, self._engine, chat_template=chat_template, tools=tools,
                                   add_generation_prompt=add_generation_prompt,
                                   continue_final_message=continue_final_message,
                                   chat_template_kwargs=chat_template_kwargs,
                                   mm_processor_kwargs=mm_processor_kwargs))
                  for c, p in zip(conversations, params))
        return self._run(CHAT, bodies, params, use_tqdm)

    def beam_search(self, prompts: PromptType | Sequence[PromptType], params: BeamSearchParams,
                    lora_request: None = None, use_tqdm: bool = False,
                    concurrency_limit: int | None = None) -> list[BeamSearchOutput]:
        """The `beam_width` likeliest answers to each prompt, best first."""
        self._refuse_lora(lora_request)
        items = as_list(prompts)
        search = SamplingParams(n=params.beam_width, max_tokens=params.max_tokens, temperature=params.temperature,
                                ignore_eos=params.ignore_eos, logprobs=0,
                                include_stop_str_in_output=params.include_stop_str_in_output)
        def body(item: PromptType) -> tuple[str | None, str]:
            text, fields = to_fields(item)
            return text, dump(fields | {
                "use_beam_search": True, "n": params.beam_width, "temperature": params.temperature,
                "length_penalty": params.length_penalty, "ignore_eos": params.ignore_eos, "logprobs": 0,
                "max_tokens": min(params.max_tokens, self._engine.max_model_len),
                "include_stop_str_in_output": params.include_stop_str_in_output})
        outputs = self._run(COMPLETIONS, map(body, items), [search] * len(items), use_tqdm)
        return [BeamSearchOutput([
            BeamSearchSequence(
                tokens := (output.prompt_token_ids or []) + answer.token_ids, answer.logprobs or [],
                answer.cumulative_logprob or 0.0, self._engine.decode(tokens, False),
                answer.finish_reason, answer.stop_reason)
            for answer in output.outputs]) for output in outputs]

    # Vectors and labels

    def encode(self, prompts: PromptType | Sequence[PromptType], pooling_params: PoolingParams | None = None,
               *, use_tqdm: bool = True, lora_request: None = None,
               pooling_task: str | None = None) -> list[PoolingRequestOutput]:
        """What the model gives as it is: a vector a prompt, or one a token (pooling_task="token_embed")."""
        fields = {"task": pooling_task or (pooling_params.task if pooling_params else None)}
        return [PoolingRequestOutput(request_id, PoolingOutput(answer["data"][0]["data"]), ids)
                for request_id, ids, answer in self._pool("/pooling", prompts, pooling_params, use_tqdm, fields)]

    def embed(self, prompts: PromptType | Sequence[PromptType], *, use_tqdm: bool = True,
              pooling_params: PoolingParams | None = None,
              lora_request: None = None) -> list[EmbeddingRequestOutput]:
        """A vector for each prompt."""
        return [EmbeddingRequestOutput(request_id, EmbeddingOutput(answer["data"][0]["embedding"]), ids)
                for request_id, ids, answer in self._pool("/v1/embeddings", prompts, pooling_params, use_tqdm)]

    def classify(self, prompts: PromptType | Sequence[PromptType], *, use_tqdm: bool = True,
                 pooling_params: PoolingParams | None = None,
                 lora_request: None = None) -> list[ClassificationRequestOutput]:
        """A number for each label, for each prompt."""
        return [ClassificationRequestOutput(request_id, ClassificationOutput(answer["data"][0]["probs"]), ids)
                for request_id, ids, answer in self._pool("/classify", prompts, pooling_params, use_tqdm)]

    def score(self, data_1: str | list[str], data_2: str | list[str], *, use_tqdm: bool = True,
              pooling_params: PoolingParams | None = None,
              lora_request: None = None) -> list[ScoringRequestOutput]:
        """How alike the texts of each pair are; one first text is compared with all the second ones."""
        self._refuse_lora(lora_request)
        first = [data_1] if isinstance(data_1, str) else list(data_1)
        second = [data_2] if isinstance(data_2, str) else list(data_2)
        fields = pooling_params._fields() if pooling_params else {}
        body = {"text_1": first if len(first) != 1 else first[0], "text_2": second, **fields}
        ((request_id, ids, answer),) = self._pool_bodies("/score", [dump(body)], use_tqdm)
        return [ScoringRequestOutput(f"{request_id}-{i}", ScoringOutput(each["score"]), ids)
                for i, each in enumerate(answer["data"])]

    # The engine

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer(self._engine, self._model)

    def get_default_sampling_params(self) -> SamplingParams:
        """Those of the model's generation_config.json."""
        return default_params(self._engine)

    def reset_prefix_cache(self) -> bool:
        """Forgets computed prompts; False while any is in use."""
        return self._engine.reset_prefix_cache()

    def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """Ends what runs and gives the KV cache's memory back. The weights stay, whatever the level."""
        self._engine.sleep()

    def wake_up(self, tags: list[str] | None = None) -> None:
        self._engine.wake_up()

    def collective_rpc(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("collective_rpc: there are no Python workers, the engine is native")

    def apply_model(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("apply_model: there is no Python model, the engine is native")

    # Within

    @staticmethod
    def _refuse_lora(lora_request: Any) -> None:
        if lora_request is not None:
            raise ValueError("LoRA adapters are not supported")

    @staticmethod
    def _truncated(prompt: PromptType, kwargs: dict[str, Any] | None) -> PromptType:
        if kwargs:
            raise ValueError(f"tokenization_kwargs: {', '.join(kwargs)}: not supported; "
                             "SamplingParams has truncate_prompt_tokens")
        return prompt

    def _params_for(self, items: list[Any], given: Any) -> list[SamplingParams]:
        if given is None:
            given = self.get_default_sampling_params()
        if not isinstance(given, SamplingParams):
            given = list(given)
            if len(given) != len(items):
                raise ValueError("The lengths of prompts and params must be the same.")
            return given
        return [given] * len(items)

    def _next_id(self) -> str:
        self._num_requests += 1
        return str(self._num_requests - 1)

    def _run(self, path: str, bodies: Any, params: list[SamplingParams],
             use_tqdm: bool | Callable[..., Any]) -> list[RequestOutput]:
        requests = _native.RequestSet(self._engine)  # what runs is cancelled with it
        pending = [PendingRequest(requests, self._engine, requests.submit(path, body), self._next_id(), text, p)
                   for (text, body), p in zip(bodies, params)]
        bar = _Bar(use_tqdm, len(pending))
        while (running := requests.run(_SLICE)) > 0:
            bar.update(len(pending) - running)
        outputs = [each.update() for each in pending]
        bar.close(outputs)
        return outputs

    def _pool(self, path: str, prompts: Any, params: PoolingParams | None, use_tqdm: bool,
              more: dict[str, Any] | None = None) -> list[tuple[str, list[int], Any]]:
        fields = {**(params._fields() if params else {}), **(more or {})}
        bodies = [dump({"input": to_fields(item)[1]["prompt"], **fields}) for item in as_list(prompts)]
        return self._pool_bodies(path, bodies, use_tqdm)

    def _pool_bodies(self, path: str, bodies: list[str], use_tqdm: bool) -> list[tuple[str, list[int], Any]]:
        requests = _native.RequestSet(self._engine)
        numbers = [requests.submit(path, body) for body in bodies]
        bar = _Bar(use_tqdm, len(numbers))
        while (running := requests.run(_SLICE)) > 0:
            bar.update(len(numbers) - running)
        bar.close([])
        results = []
        for number in numbers:
            _, ids, _, _, _, body = requests.take(number)
            results.append((self._next_id(), ids, json.loads(body)))
        return results
