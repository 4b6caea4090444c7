"""The package against the program: one LLM and one server of the same tiny random model for all tests."""

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests" / "http"), str(ROOT / "python" / "vllm_compat")]

tiercel = pytest.importorskip("tiercel", reason="the package is not built (make python)")

from serving import Server  # noqa: E402
from tiny_model import BINARY, MODEL  # noqa: E402

os.environ.setdefault("TIERCEL_BINARY", BINARY)
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

ARGUMENTS = {"load_format": "dummy", "max_model_len": 2048, "max_num_seqs": 16,
             "max_num_batched_tokens": 256, "kv_cache_memory_bytes": 64 << 20}


@pytest.fixture(scope="session")
def llm():
    model = tiercel.LLM(MODEL, **ARGUMENTS, generation_config="vllm")
    yield model
    model.shutdown()


@pytest.fixture(scope="session")
def server():
    instance = Server("--max-model-len", "2048", "--max-num-seqs", "16", "--max-num-batched-tokens", "256",
                      "--generation-config", "vllm", "--enable-prompt-tokens-details")
    yield instance
    instance.stop()
