"""lm-eval with its backend vllm on Tiercel's package for that name (python/vllm_compat), without a server. Needs `make python`."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
site = tempfile.TemporaryDirectory()
if "TIERCEL_SITE" not in os.environ:
    subprocess.run(["cmake", "--install", ROOT / "build/release", "--component", "python", "--prefix", site.name],
                   check=True, stdout=subprocess.DEVNULL)
sys.path[:0] = [os.environ.get("TIERCEL_SITE", site.name), str(ROOT / "python/vllm_compat")]
os.environ |= {"HF_HOME": site.name, "VLLM_LOGGING_LEVEL": "ERROR",
               "TIERCEL_BINARY": os.environ.get("TIERCEL_BINARY", str(ROOT / "build/release/tiercel"))}

from check import RANDOM_FOLDER, RANDOM_URL, equal, run  # noqa: E402
from lm_eval_client import compare  # noqa: E402
from lm_eval_scores import evaluate, scores  # noqa: E402

ARGUMENTS = {"pretrained": RANDOM_FOLDER, "max_model_len": 2048, "kv_cache_memory_bytes": 64 << 20}


def check_scores():
    """vllm: log-likelihoods (choices, rolling) those of its backend hf in FP32 within BF16's rounding, is_greedy
    equal; all at once and one by one: the same to the last digit"""
    found = scores("vllm", batch_size="auto", model_args=ARGUMENTS)
    compare(found)
    equal(scores("vllm", batch_size=1, model_args=ARGUMENTS), found)


def of_server(prompt, settings):
    """What a server of the same model says, cut where lm-eval cuts it."""
    body = {"model": "random", "prompt": prompt, "temperature": 0, "max_tokens": settings["max_gen_toks"],
            "stop": settings["until"], "skip_special_tokens": False}
    request = urllib.request.Request(RANDOM_URL + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["text"]


def check_generated():
    """vllm: generate_until with a stop string, with and without the chat template: a server's answers"""
    for template in (False, True):
        samples = evaluate("vllm", ["local_generated"], batch_size="auto", model_args=ARGUMENTS,
                           apply_chat_template=template)["samples"]["local_generated"]
        equal([sample["resps"][0][0] for sample in samples],
              [of_server(*sample["arguments"][0]) for sample in samples])


if __name__ == "__main__":
    run("lm-eval", globals())
