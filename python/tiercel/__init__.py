"""Qwen3 and its kin on CPUs, offline: the same engine as `tiercel serve`, without a server.

    from tiercel import LLM, SamplingParams
    llm = LLM("Qwen/Qwen3-0.6B")
    for output in llm.generate(["Hello, my name is"], SamplingParams(temperature=0)):
        print(output.outputs[0].text)
"""

from ._native import version as __version__
from .async_llm import AsyncEngineArgs, AsyncLLM, AsyncLLMEngine
from .llm import LLM, EngineArgs
from .outputs import (BeamSearchOutput, BeamSearchSequence, ClassificationOutput,
                      ClassificationRequestOutput, CompletionOutput, EmbeddingOutput,
                      EmbeddingRequestOutput, Logprob, PoolingOutput, PoolingRequestOutput, RequestOutput,
                      ScoringOutput, ScoringRequestOutput)
from .prompts import TextPrompt, TokensPrompt
from .sampling_params import (BeamSearchParams, GuidedDecodingParams, PoolingParams, RequestOutputKind,
                              SamplingParams, StructuredOutputsParams)
from .tokenizer import Tokenizer

__all__ = [
    "AsyncEngineArgs", "AsyncLLM", "AsyncLLMEngine", "BeamSearchOutput", "BeamSearchParams",
    "BeamSearchSequence", "ClassificationOutput", "ClassificationRequestOutput", "CompletionOutput",
    "EmbeddingOutput", "EmbeddingRequestOutput", "EngineArgs", "GuidedDecodingParams", "LLM", "Logprob",
    "PoolingOutput", "PoolingParams", "PoolingRequestOutput", "RequestOutput", "RequestOutputKind",
    "SamplingParams", "ScoringOutput", "ScoringRequestOutput", "StructuredOutputsParams", "TextPrompt",
    "Tokenizer", "TokensPrompt", "__version__",
]
