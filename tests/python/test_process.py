"""The package in a process of its own: interrupts, leaks, the start, the end."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from conftest import ARGUMENTS, ROOT
from replay_model import make
from tiny_model import BINARY, MODEL

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


def start(script, **options):
    head = f"import tiercel\nfrom tiercel import LLM, SamplingParams\nMODEL, ARGUMENTS = {str(MODEL)!r}, {ARGUMENTS}\n"
    return subprocess.Popen([sys.executable, "-c", head + textwrap.dedent(script)], env=ENVIRONMENT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_ctrl_c_ends_a_call_and_the_model_is_usable():
    process = start("""
        import time
        llm = LLM(MODEL, **ARGUMENTS)
        many = [[5 + i % 900] for i in range(4000)]
        print("ready")
        try:
            llm.generate(many, SamplingParams(max_tokens=2000, ignore_eos=True), use_tqdm=False)
        except KeyboardInterrupt:
            print("interrupted", time.monotonic())
        print(len(llm.generate("x", SamplingParams(max_tokens=3, ignore_eos=True), use_tqdm=False)[0].outputs[0].token_ids))
        llm.shutdown()
        print("shut down")
    """)
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = out.split("\n")
    assert lines[0].startswith("interrupted ") and lines[1:3] == ["3", "shut down"], (out, err)
    print("seconds from the signal:", float(lines[0].split()[1]) - sent)


def test_ctrl_c_that_nobody_catches():
    process = start("""
        llm = LLM(MODEL, **ARGUMENTS)
        print("ready")
        llm.generate("x" * 50, SamplingParams(n=16, max_tokens=1900, ignore_eos=True), use_tqdm=False)
        llm.generate("x" * 50, SamplingParams(n=1000, max_tokens=1900, ignore_eos=True), use_tqdm=False)
    """)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err and process.returncode in (-signal.SIGINT, 130, 1), (process.returncode, err)


@pytest.mark.parametrize("end", ["", "llm.shutdown()", "del llm", "raise SystemExit(0)"])
def test_the_process_ends(end):
    """Whether or not the model is shut down, and while another thread still generates."""
    process = start(f"""
        import threading
        llm = LLM(MODEL, **ARGUMENTS)
        llm.generate("x", SamplingParams(max_tokens=2), use_tqdm=False)
        {end}
    """)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err and "leak" not in err, err


def test_nothing_leaks_over_many_models():
    """Resident memory, threads, children and files after 20 models and after 120 of them."""
    process = start("""
        import gc, os, pathlib
        small = {**ARGUMENTS, "max_num_seqs": 2, "max_model_len": 256, "kv_cache_memory_bytes": 4 << 20}
        def use():
            llm = LLM(MODEL, **small)
            llm.chat([{"role": "user", "content": "x"}], SamplingParams(max_tokens=2), use_tqdm=False)
        def state():
            gc.collect()
            status = pathlib.Path("/proc/self/status").read_text()
            find = lambda key: int(status.split(key + ":")[1].split()[0])
            children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            return find("VmRSS"), find("Threads"), len(os.listdir("/proc/self/fd")), len(children)
        for i in range(120):
            use()
            if i in (19, 119):
                print(*state())
    """)
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    before, after = ([int(word) for word in line.split()] for line in out.strip().split("\n"))
    assert after[1:] == before[1:], (before, after)
    # Allocators keep some; a megabyte of weights and cache a model would be 400 MiB.
    assert after[0] - before[0] < 8 << 10, (before, after)


# The names, arguments and calls of the offline script of vLLM-Ascend's tutorial on dense Qwen3 models.
TUTORIAL = '''
import gc

import torch
from vllm import LLM, SamplingParams
from vllm.distributed.parallel_state import destroy_distributed_environment, destroy_model_parallel

llm = LLM(model="MODEL", tensor_parallel_size=4, trust_remote_code=True, distributed_executor_backend="mp",
          max_model_len=5500, max_num_batched_tokens=5500, quantization="ascend",
          compilation_config={"cudagraph_mode": "FULL_DECODE_ONLY"})
for output in llm.generate(["Hello, my name is", "The future of AI is"],
                           SamplingParams(temperature=0.6, top_p=0.95, top_k=40)):
    print(f"Prompt: {output.prompt!r}, Generated text: {output.outputs[0].text!r}")
del llm

destroy_model_parallel()
destroy_distributed_environment()
gc.collect()
torch.npu.empty_cache()
'''


def run_tutorial(tmp_path, torch):
    source, model = tmp_path / "Qwen3-32B", tmp_path / "Qwen3-32B-W8A8"
    source.mkdir()
    make(source, ["a text"])
    subprocess.run([BINARY, "quantize", source, model], check=True, capture_output=True)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(torch)
    script = tmp_path / "script.py"
    script.write_text(TUTORIAL.replace("MODEL", str(model)))
    path = [str(tmp_path), str(ROOT / "python" / "vllm_compat")]
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100,
                          env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path)})


def test_the_tutorials_script(tmp_path):
    """Word for word but for the model's path: static W8A8, four ranks, whatever the machine."""
    done = run_tutorial(tmp_path, "class npu:\n    @staticmethod\n    def empty_cache():\n        print('emptied')\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().split("\n")
    assert lines[0].startswith("Prompt: 'Hello, my name is', Generated text: '") and lines[-1] == "emptied"
    assert lines[1].startswith("Prompt: 'The future of AI is', Generated text: '")


def test_the_tutorials_script_without_an_npu(tmp_path):
    """The answers are there; the one line that fails is the script's own about torch.npu."""
    done = run_tutorial(tmp_path, "")
    assert done.stdout.count("Generated text") == 2
    assert done.returncode == 1 and done.stderr.rstrip().endswith("module 'torch' has no attribute 'npu'")
    assert done.stderr.count('File "') == 1, done.stderr  # the script's


def test_imports_of_vllms_examples():
    script = """
        from vllm import (LLM, AsyncEngineArgs, AsyncLLMEngine, CompletionOutput, EmbeddingRequestOutput, EngineArgs,
                          PoolingParams, PoolingRequestOutput, RequestOutput, SamplingParams, TextPrompt, TokensPrompt)
        from vllm.beam_search import BeamSearchSequence
        from vllm.distributed import cleanup_dist_env_and_memory
        from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
        from vllm.engine.async_llm_engine import AsyncLLMEngine
        from vllm.entrypoints.llm import LLM
        from vllm.inputs import TextPrompt, TokensPrompt
        from vllm.lora.request import LoRARequest
        from vllm.outputs import RequestOutput
        from vllm.tokenizers import get_tokenizer
        from vllm.sampling_params import BeamSearchParams, GuidedDecodingParams, RequestOutputKind, StructuredOutputsParams
        from vllm.utils import FlexibleArgumentParser
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM

        parser = FlexibleArgumentParser()
        EngineArgs.add_cli_args(parser)
        parser.add_argument("--max-tokens", type=int)
        args = vars(parser.parse_args(["--model", MODEL, "--max_model_len", "512", "--load-format=dummy",
                                       "--no-enable-prefix-caching", "--max-tokens", "3",
                                       "--kv-cache-memory-bytes", "64M"]))
        count = args.pop("max_tokens")
        llm = LLM(**args)
        print(len(llm.generate("x", SamplingParams(max_tokens=count, ignore_eos=True))[0].outputs[0].token_ids))
        print(llm.llm_engine.model_config.max_model_len)
        import importlib.metadata
        print(importlib.metadata.version("vllm") == tiercel.__version__)
        try:
            LoRARequest("adapter", 1, "/nowhere")
        except ValueError as error:
            print(error)
    """
    ENVIRONMENT["PYTHONPATH"] = str(ROOT / "python" / "vllm_compat")
    process = start(script)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "3\n512\nTrue\nLoRA adapters are not supported\n", err
