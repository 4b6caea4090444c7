"""AsyncLLM: requests as asynchronous generators, on one event loop."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from typing import Any

from . import _native
from ._requests import COMPLETIONS, PendingRequest, completion_body, default_params
from .llm import EngineArgs, load_engine
from .outputs import RequestOutput
from .prompts import PromptType
from .sampling_params import RequestOutputKind, SamplingParams
from .tokenizer import Tokenizer

AsyncEngineArgs = EngineArgs


class AsyncLLM:
    """A model whose answers are awaited. Arguments are those of LLM.

    The engine says that something is new by a file that the event loop watches: it never waits for Python.
    Use it from one event loop at a time.
    """

    def __init__(self, model: str, **arguments: Any) -> None:
        self._model = str(model)
        self._engine = load_engine(self._model, arguments)
        self._requests: _native.RequestSet | None = _native.RequestSet(self._engine)
        self._news: dict[int, asyncio.Event] = {}
        self._by_id: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs, **_: Any) -> AsyncLLM:
        return cls(engine_args.model, **engine_args.arguments)

    async def generate(self, prompt: PromptType, sampling_params: SamplingParams | None,
                       request_id: str, *, priority: int = 0,
                       lora_request: None = None) -> AsyncGenerator[RequestOutput, None]:
        """What the answer has come to, each time that it has grown (`sampling_params.output_kind`).

        A generator that is closed, or whose task is cancelled, cancels its request.
        """
        if lora_request is not None:
            raise ValueError("LoRA adapters are not supported")
        if request_id in self._by_id:
            raise ValueError(f"Request id {request_id} already running.")
        params = sampling_params or default_params(self._engine)
        requests = self._watched()
        text, body = completion_body(prompt, params, self._engine, priority)
        number = requests.submit(COMPLETIONS, body)
        event = self._news[number] = asyncio.Event()
        self._by_id[request_id] = number
        pending = PendingRequest(requests, self._engine, number, request_id, text, params)
        try:
            while not pending.output.finished:
                await event.wait()
                event.clear()
                if number not in self._news:  # abort()
                    for choice in pending.output.outputs:
                        choice.finish_reason = choice.finish_reason or "abort"
                    pending.output.finished = True
                else:
                    pending.update()
                if pending.output.finished or params.output_kind is not RequestOutputKind.FINAL_ONLY:
                    yield self._shown(pending.output, params.output_kind)
        finally:
            self._forget(request_id)

    async def abort(self, request_id: str | list[str]) -> None:
        """Ends requests; their generators end with finish_reason "abort"."""
        for each in [request_id] if isinstance(request_id, str) else request_id:
            number = self._by_id.get(each)
            event = self._news.pop(number, None) if number is not None else None
            if number is not None and event is not None:
                self._watched().drop(number)
                event.set()

    async def get_tokenizer(self) -> Tokenizer:
        return Tokenizer(self._engine, self._model)

    async def reset_prefix_cache(self) -> bool:
        return self._engine.reset_prefix_cache()

    async def sleep(self, level: int = 1) -> None:
        await asyncio.to_thread(self._engine.sleep)

    async def wake_up(self, tags: list[str] | None = None) -> None:
        self._engine.wake_up()

    async def is_sleeping(self) -> bool:
        return self._engine.sleeping

    async def check_health(self) -> None:
        """Raises if the engine has been shut down."""
        self._engine.max_model_len

    def shutdown(self) -> None:
        """Ends what runs, whose generators end with finish_reason "abort", and gives the memory back."""
        loop = self._loop
        for number, event in list(self._news.items()):
            del self._news[number]
            if self._requests is not None:
                self._requests.drop(number)
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        self._unwatch()
        self._requests = None
        self._engine.close()

    def __del__(self) -> None:
        if getattr(self, "_engine", None) is not None:
            self.shutdown()

    # Within

    def _watched(self) -> _native.RequestSet:
        """The requests, whose file the running event loop watches from now on."""
        if self._requests is None:
            raise RuntimeError("the engine has been shut down")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._unwatch()
            fd = self._requests.event_fd()
            if fd < 0:
                raise RuntimeError("no file descriptor is left (ulimit -n)")
            loop.add_reader(fd, self._on_news)
            self._loop = loop
        return self._requests

    def _unwatch(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed() and self._requests is not None:
            loop.remove_reader(self._requests.event_fd())

    def _on_news(self) -> None:
        if self._requests is None:
            return
        for number in self._requests.wait(0):
            event = self._news.get(number)
            if event is not None:
                event.set()

    def _forget(self, request_id: str) -> None:
        number = self._by_id.pop(request_id)
        self._news.pop(number, None)
        if self._requests is not None:
            self._requests.drop(number)

    @staticmethod
    def _shown(output: RequestOutput, kind: RequestOutputKind) -> RequestOutput:
        """A copy, which later tokens do not change; of DELTA what is new, which is then forgotten."""
        shown = dataclasses.replace(output, outputs=[
            dataclasses.replace(c, token_ids=list(c.token_ids), logprobs=c.logprobs and list(c.logprobs))
            for c in output.outputs])
        if kind is RequestOutputKind.DELTA:
            for choice in output.outputs:
                choice.text, choice.token_ids = "", []
                if choice.logprobs is not None:
                    choice.logprobs = []
        return shown


AsyncLLMEngine = AsyncLLM
