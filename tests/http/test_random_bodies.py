"""Bodies made at random: every answer is a right one or a 4xx with an error body; never a 5xx."""

import json
import random

import pytest
import requests

from serving import Server
from tiny_model import NAME

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
FIELDS = ["model", "prompt", "messages", "max_tokens", "max_completion_tokens", "min_tokens", "n",
          "best_of", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p",
          "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty", "seed",
          "stop", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "logit_bias",
          "allowed_token_ids", "bad_words", "logprobs", "top_logprobs", "prompt_logprobs", "echo",
          "suffix", "user", "skip_special_tokens", "spaces_between_special_tokens",
          "truncate_prompt_tokens", "truncation_side", "add_special_tokens",
          "add_generation_prompt", "continue_final_message", "chat_template",
          "chat_template_kwargs", "documents", "tools", "tool_choice", "parallel_tool_calls",
          "response_format", "structured_outputs", "priority", "request_id", "cache_salt",
          "return_token_ids", "return_tokens_as_token_ids", "reasoning_effort",
          "include_reasoning", "logprob_token_ids", "stream_interval", "vllm_xargs",
          "kv_transfer_params", "prompt_embeds", "use_beam_search", "service_tier", "metadata"]
SCALARS = [None, True, False, 0, 1, 2, -1, 3, 20, 21, 127, 1151, 1152, 2**31 - 1, 2**31, -2**31,
           2**53, 2**63 - 1, 2**63, -2**63, 10**30, 0.0, -0.0, 0.5, 1.5, 1e-9, -1e-9, 1e308, "", "x",
           "5", "auto", "none", "assistant", "text", "é🌶", "\u0000", "a" * 5000, "{{", "<think>",
           "{% for i in range(99999) %}x{% endfor %}"]


def value(source, depth=0):
    kind = source.random()
    if depth > 3 or kind < 0.6:
        return source.choice(SCALARS)
    if kind < 0.8:
        return [value(source, depth + 1) for _ in range(source.randint(0, 4))]
    return {str(source.choice(["type", "role", "content", "text", "name", "json", "regex", "function",
                               "include_usage", "17", "-1", "1152", "", "é"])):
            value(source, depth + 1) for _ in range(source.randint(0, 4))}


def message(source):
    return {"role": source.choice(["user", "assistant", "system", "tool", "developer"]),
            "content": source.choice(["x", "", None, [{"type": "text", "text": "y"}]])}


def body(source, path):
    """A right body of which a few fields are replaced, added or left out."""
    made = {"model": NAME, "max_tokens": source.randint(1, 4)}
    if path == CHAT:
        made["messages"] = [message(source) for _ in range(source.randint(1, 3))]
    elif path == COMPLETIONS:
        made["prompt"] = source.choice(["x", "Hello there", [5, 6], [[5], [6, 7]], ["a", "b"]])
    elif path == "/tokenize":
        made = {"prompt": "x"}
    elif path == "/detokenize":
        made = {"tokens": [1, 2, 3]}
    for _ in range(source.choice([1, 1, 1, 2, 3, 5])):
        field = source.choice(FIELDS + ["tokens", "return_token_strs"])
        if source.random() < 0.1:
            made.pop(field, None)
        else:
            made[field] = value(source)
    # Random output lengths are another test's matter.
    for field in ("max_tokens", "max_completion_tokens"):
        limit = made.get(field)
        if isinstance(limit, (int, float, str)) and field in made:
            try:
                if 8 < float(limit) <= 2048:
                    made[field] = 8
            except ValueError:
                pass
    if path in (CHAT, COMPLETIONS) and not isinstance(made.get("max_tokens"), int):
        made.setdefault("max_completion_tokens" if path == CHAT else "max_tokens", 4)
    return made


def check(server, path, data, headers=None):
    response = requests.post(server.url + path, data=data, timeout=60,
                             headers=headers or {"Content-Type": "application/json"})
    shown = data[:2000]
    assert response.status_code in (200, 400, 404), (response.status_code, response.text, shown)
    if response.status_code == 200:
        if response.headers["content-type"].startswith("text/event-stream"):
            assert response.text.endswith("data: [DONE]\n\n"), shown
            for line in response.text.splitlines():
                if line.startswith("data: {"):
                    json.loads(line[6:], parse_constant=pytest.fail)
        else:
            json.loads(response.text, parse_constant=pytest.fail)
        return
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}, shown
    assert error["code"] == response.status_code and error["message"], shown


POOLING_FIELDS = ["model", "input", "messages", "text_1", "text_2", "queries", "documents", "items", "data_1",
                  "data_2", "query", "top_n", "dimensions", "encoding_format", "embed_dtype", "endianness",
                  "task", "use_activation", "normalize", "padding", "truncate_prompt_tokens",
                  "truncation_side", "add_special_tokens", "add_generation_prompt", "priority", "cache_salt",
                  "request_id", "user", "max_tokens_per_doc", "stream", "chat_template_kwargs"]


@pytest.fixture(scope="module")
def embedding():
    instance = Server("--runner", "pooling", "--max-model-len", "64", "--hf-overrides", '{"is_matryoshka": true}')
    yield instance
    instance.stop()


@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling", "/score", "/rerank", "/classify"])
def test_random_bodies_to_pool(embedding, path):
    source = random.Random(f"{path} 3")
    for _ in range(300):
        made = {"input": source.choice(["x", ["a", "b"], [5, 6], [[5], [6]]]), "text_1": "x", "text_2": ["y", "z"],
                "query": "x", "documents": ["y", "z"]}
        for _ in range(source.choice([1, 1, 2, 4])):
            field = source.choice(POOLING_FIELDS)
            if source.random() < 0.1:
                made.pop(field, None)
            else:
                made[field] = value(source)
        check(embedding, path, json.dumps(made))
    assert embedding.post("/v1/embeddings", {"input": "x"}).status_code == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/invocations", "/tokenize", "/detokenize"])
def test_random_bodies(server, path):
    source = random.Random(f"{path} 1")
    for _ in range(300):
        made = body(source, source.choice([CHAT, COMPLETIONS]) if path == "/invocations" else path)
        check(server, path, json.dumps(made))
    assert server.complete("x", max_tokens=2, ignore_eos=True)["usage"]["completion_tokens"] == 2


def test_mutated_text(server):
    """What is hardly JSON any more."""
    source = random.Random(2)
    for _ in range(300):
        text = bytearray(json.dumps(body(source, CHAT), ensure_ascii=False).encode(errors="replace"))
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(text))
            kind = source.randrange(3)
            if kind == 0:
                text[at] = source.randrange(256)
            elif kind == 1:
                del text[at:at + source.randint(1, 20)]
            else:
                text[at:at] = bytes(source.randrange(256) for _ in range(source.randint(1, 5)))
            if not text:
                break
        check(server, CHAT, bytes(text))


# What JSON can say that Python's encoder does not: extremes of numbers, depth and size.
EXTREMES = ["-1", "0", "-0.0", "2147483647", "2147483648", "-2147483649", "9223372036854775807",
            "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e308", "1e400",
            "-1e400", "1e-400", "NaN", "Infinity", "01", "+1", "1.", '"NaN"', '"-1"', '"5 "', "true",
            "null", "[]", "{}", "[[]]", '[null]', '[""]', '{"":null}', '"\\u0000"', '"\\ud800"',
            "[" * 63 + "]" * 63, "[" * 5000 + "]" * 5000, '{"a":' * 60 + "1" + "}" * 60,
            "[" + "0," * 5000 + "0]", "[" + '"x",' * 5000 + '"x"]', '"' + "x" * 100_000 + '"',
            "{" + ",".join(f'"{i}":0' for i in range(2000)) + "}"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_extremes_in_every_field(server, path):
    base = {"model": f'"{NAME}"', "max_tokens": "1"}
    base |= ({"prompt": '"x"'} if path == COMPLETIONS
             else {"messages": '[{"role":"user","content":"x"}]'})
    for field in FIELDS:
        for extreme in EXTREMES:
            made = {**base, field: extreme}
            if field in ("max_tokens", "max_completion_tokens", "min_tokens"):
                made["stop_token_ids"] = "[5]"
            check(server, path, "{" + ",".join(f'"{k}":{v}' for k, v in made.items()) + "}")
    assert server.complete("x", max_tokens=2, ignore_eos=True)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("extreme", EXTREMES)
def test_extremes_in_messages(server, extreme):
    shapes = ['{"role":%s,"content":"x"}', '{"role":"user","content":%s}', '%s',
              '{"role":"user","content":[%s]}', '{"role":"user","content":[{"type":%s}]}',
              '{"role":"user","content":[{"type":"text","text":%s}]}',
              '{"role":"user","content":"x","name":%s}', '{"role":"assistant","tool_calls":%s}',
              '{"role":"assistant","tool_calls":[%s]}',
              '{"role":"assistant","tool_calls":[{"function":%s}]}',
              '{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":%s}}]}',
              '{"role":"assistant","reasoning":%s,"content":"x"}',
              '{"role":"tool","tool_call_id":%s,"content":"x"}']
    for shape in shapes:
        check(server, CHAT, '{"messages":[%s],"max_tokens":1}' % (shape % extreme))
    check(server, CHAT, '{"messages":%s,"max_tokens":1}' % extreme)
    for path, field in (("/tokenize", "prompt"), ("/detokenize", "tokens"), (COMPLETIONS, "prompt")):
        check(server, path, '{"%s":%s,"max_tokens":1}' % (field, extreme))
        check(server, path, extreme)
