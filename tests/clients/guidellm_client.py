"""guidellm: short synthetic benchmarks of each way of generating."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from check import RANDOM_FOLDER, RANDOM_URL, equal, run

REQUESTS, PROMPT, ANSWER = 12, 40, 16


def benchmark(path, stream):
    """The metrics of its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run(
            [pathlib.Path(sys.executable).parent / "guidellm", "run", "--disable-console",
             "--backend", json.dumps({"kind": "openai_http", "target": RANDOM_URL, "model": "random",
                                      "request_format": path, "stream": stream}),
             "--profile", "kind=concurrent,streams=3", "--constraint", f"kind=max_requests,count={REQUESTS}",
             "--tokenizer", f"kind=hf_auto,model={RANDOM_FOLDER}",
             "--data", f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={ANSWER}",
             "--output", f"kind=json,path={report}"],
            check=True, stdout=sys.stderr, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        return json.loads(report.read_text())["benchmarks"][0]["metrics"]


def check(path, template):
    """`template`: tokens are put around the prompt."""
    for stream in (True, False):
        found = benchmark(path, stream)
        totals = found["request_totals"]
        equal((totals["incomplete"], totals["errored"]), (0, 0))
        done = totals["successful"]  # on a loaded machine the report lacks some that were answered
        assert 0 < done <= REQUESTS, totals
        equal(found["output_token_count"]["successful"]["total_sum"], done * ANSWER)
        tokens = found["prompt_token_count"]["successful"]["total_sum"]
        assert tokens > done * PROMPT if template else tokens == done * PROMPT, tokens
        assert not stream or found["time_to_first_token_ms"]["successful"]["mean"] > 0


def check_completions():
    """run, kind=concurrent, synthetic_text: /v1/completions, streamed and whole"""
    check("/v1/completions", False)


def check_chat():
    """the same: /v1/chat/completions, streamed and whole"""
    check("/v1/chat/completions", True)


def check_responses():
    """the same: /v1/responses, streamed and whole"""
    check("/v1/responses", True)


if __name__ == "__main__":
    run("guidellm", globals())
