"""Guesses of the next tokens (--speculative-config): the same answers, bit for bit, as one token at a time gives."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving import Server
from tiny_model import BINARY, MODEL, NAME

NGRAM = json.dumps({"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 1})
# What stands in them stands there again; the model's own answers soon go in circles, too.
PROMPTS = [[5 + i % period + 7 * period for i in range(length)] for period, length in
           ((1, 9), (2, 40), (3, 130), (7, 64), (13, 300), (40, 200))]
FIELDS = [
    {},
    {"logprobs": 5},
    {"temperature": 1, "seed": 7, "logprobs": 3},
    {"temperature": 0.8, "seed": 3, "top_p": 0.9, "top_k": 40, "n": 3},
    {"temperature": 1, "seed": 11, "min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": 0.5},
    {"frequency_penalty": 1.5, "logit_bias": {"100": 3}},
    {"min_tokens": 20, "stop_token_ids": list(range(100, 600))},
    {"ignore_eos": False, "stop": ["a", "e"]},
    {"echo": True, "logprobs": 2, "prompt_logprobs": 1},
    {"n": 2, "use_beam_search": True},
    {"structured_outputs": {"regex": "(ab|cd)*[0-9]{3,20}"}, "ignore_eos": False},
    {"response_format": {"type": "json_object"}, "ignore_eos": False},
    {"structured_outputs": {"choice": ["one two three", "one two four"]}, "ignore_eos": False, "temperature": 1, "seed": 1},
    {"max_tokens": 1},
    {"max_tokens": 2},
    {"allowed_token_ids": [9, 10, 11], "temperature": 1, "seed": 2},
]


def bodies():
    return [{"max_tokens": 40, "ignore_eos": True, "temperature": 0, **fields, "prompt": prompt}
            for fields in FIELDS for prompt in PROMPTS]


def plain(server, body):
    answer = server.complete(**body)
    usage = answer["usage"]
    return answer["choices"], usage["prompt_tokens"], usage["completion_tokens"]


@pytest.mark.parametrize("flags, more", [
    ((), ()),
    ((), ("--no-enable-prefix-caching", "--num-gpu-blocks-override", "5", "--max-model-len", "480")),
    (("-tp", "2"), ()),
    (("--kv-cache-dtype", "int8"), ("-dp", "2"))])
def test_answers_are_those_of_one_token_at_a_time(make_server, flags, more):
    without, server = make_server(*flags), make_server(*flags, *more, "--speculative-config", NGRAM)
    with ThreadPoolExecutor(8) as pool:
        expected = list(pool.map(lambda body: plain(without, body), bodies()))
        assert list(pool.map(lambda body: plain(server, body), bodies())) == expected
    drafts, guessed, right = (server.metric(f"vllm:spec_decode_num_{name}_total")
                              for name in ("drafts", "draft_tokens", "accepted_tokens"))
    assert 100 < drafts < guessed and 100 < right < guessed
    positions = [0] * 5
    for name, value in server.metrics().items():
        if name.startswith("vllm:spec_decode_num_accepted_tokens_per_pos_total"):
            positions[int(name.split('position="')[1].split('"')[0])] += value
    assert sum(positions) == right and positions == sorted(positions, reverse=True)


def test_streams_are_those_of_one_token_at_a_time(make_server):
    def stream(server, body):
        chunks = server.client().completions.create(model="tiny", stream=True, stream_options={"include_usage": True},
                                                    **body)
        text, tokens = "", None
        for chunk in chunks:
            text += "".join(choice.text for choice in chunk.choices)
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        return text, tokens

    plain_server = make_server("--served-model-name", "tiny")
    server = make_server("--served-model-name", "tiny", "--speculative-config", NGRAM)
    for prompt in PROMPTS:
        body = {"prompt": prompt, "max_tokens": 60, "temperature": 0}
        assert stream(server, body) == stream(plain_server, body)
    assert server.metric("vllm:spec_decode_num_accepted_tokens_total") > 50


def test_no_metrics_where_nothing_is_guessed(server):
    assert not [name for name in server.metrics() if "spec_decode" in name]


@pytest.mark.parametrize("flags, words", [
    (("--speculative-config", '{"method": "ngram"}'), "num_speculative_tokens: found 0, expected 1 to 64"),
    (("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 65}'), "found 65, expected 1 to 64"),
    (("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_min": 0}'),
     "prompt_lookup_min: found 0, expected at least 1"),
    (("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_min": 5, '
                              '"prompt_lookup_max": 4}'), "prompt_lookup_min: found 5, expected at most prompt_lookup_max (4)"),
    (("--speculative-config", '{"method": "ngram", "tokens": 2}'), "unknown key 'tokens'"),
    (("--speculative-config", '{"method": "ngram", "num_speculative_tokens": "2"}'), "num_speculative_tokens"),
    (("--speculative-config", NGRAM, "--async-scheduling"), "--async-scheduling: found on, expected off"),
    (("--speculative-config", NGRAM, "-pp", "2"), "--pipeline-parallel-size: found 2, expected 1"),
])
def test_what_cannot_be_is_refused_in_one_line(flags, words):
    server = Server(*flags, wait=False)
    assert server.process.wait(60) != 0
    lines = [line for line in server.output().splitlines() if words in line]
    assert len(lines) == 1, server.output()


def test_other_ways_to_say_it(make_server):
    for flags in (("-sc.method", "ngram", "-sc.num_speculative_tokens", "3"),
                  ("--spec-method", "ngram", "--spec-tokens", "3"),
                  ("--speculative-config", '{"model": "[ngram]", "num_speculative_tokens": 3}')):
        server = make_server(*flags)
        server.complete(PROMPTS[0], max_tokens=30, ignore_eos=True)
        assert server.metric("vllm:spec_decode_num_drafts_total") > 0, flags
    server = make_server("--speculative-config", '{"method": "eagle3", "model": "x", "num_speculative_tokens": 2}')
    assert 'the method "eagle3" makes no guesses here' in server.output()


def test_bench_serve_shows_them(make_server, tmp_path):
    server = make_server("--speculative-config", NGRAM)
    for prompt in PROMPTS:  # what came before does not count
        server.complete(prompt, max_tokens=20, ignore_eos=True)
    before = server.metric("vllm:spec_decode_num_draft_tokens_total")
    assert before > 0
    words = [BINARY, "bench", "serve", "--model", str(MODEL), "--served-model-name", NAME, "--base-url", server.url,
             "--dataset-name", "random", "--random-input-len", "20", "--random-output-len", "60", "--num-prompts", "6",
             "--ignore-eos", "--temperature", "0", "--save-result", "--result-dir", str(tmp_path), "--ready-check-timeout-sec", "0"]
    program = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert program.returncode == 0, program
    result = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert result["spec_decode_draft_tokens"] == server.metric("vllm:spec_decode_num_draft_tokens_total") - before
    assert len(result["spec_decode_per_position_acceptance_rates"]) == 5
    assert f"Drafts:                                  {result['spec_decode_num_drafts']}" in program.stdout
