"""Group A: streaming, detokenizing, stop strings, usage."""

import concurrent.futures
import json
import string

import pytest
import requests

from tiny_model import NAME

TEXTS = ["é客单价🌶 fin", "plain words", "🌶🌶", "a\n\"b\"\\ <&>'"]


def force(server, text, **fields):
    """Makes the model say the first tokens of `text` over and over: only they are allowed."""
    return {"allowed_token_ids": sorted(set(server.tokens(text))), "ignore_eos": True, **fields}


def stream(server, path, body):
    """(chunks, saw [DONE]) of a streamed answer."""
    chunks, done = [], False
    with requests.post(server.url + path, json={**body, "stream": True}, stream=True,
                       timeout=60) as response:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if not line:
                continue
            assert line.startswith(b"data: ") and not done
            if line == b"data: [DONE]":
                done = True
            else:
                chunks.append(json.loads(line[6:].decode("utf-8")))
    assert done
    return chunks


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("stop", [None, ["ZZZZZZ"], ["价"], ["o"]])
def test_stream_equals_whole(server, text, stop):
    fields = force(server, text, max_tokens=24, stop=stop, logprobs=2, temperature=1.0, seed=7)
    body = {"model": NAME, "prompt": "x", **fields}
    whole = server.complete("x", **fields)["choices"][0]
    parts = [c["choices"][0] for c in stream(server, "/v1/completions", body)]
    assert "".join(p["text"] for p in parts) == whole["text"]
    assert parts[-1]["finish_reason"] == whole["finish_reason"]
    assert parts[-1]["stop_reason"] == whole["stop_reason"]
    for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        joined = [x for p in parts if p["logprobs"] for x in p["logprobs"][key]]
        assert joined == whole["logprobs"][key]


def test_chat_stream_equals_whole(server, client):
    options = dict(model=NAME, messages=[{"role": "user", "content": "hi"}], max_tokens=16, seed=3,
                   logprobs=True, top_logprobs=2, extra_body=force(server, "客é b"))
    whole = client.chat.completions.create(**options)
    content, entries, finish = "", [], None
    for chunk in client.chat.completions.create(**options, stream=True):
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        if choice.logprobs:
            entries += choice.logprobs.content
        finish = choice.finish_reason or finish
    assert content == whole.choices[0].message.content
    assert finish == whole.choices[0].finish_reason == "length"
    assert entries == whole.choices[0].logprobs.content
    assert len(entries) == whole.usage.completion_tokens == 16
    joined = b"".join(bytes(e.bytes) for e in entries)
    assert joined.decode("utf-8", errors="replace") == content


def test_prompt_that_ends_within_a_character(server):
    ids = server.tokens("Hello 🌶")[:-1]
    body = {"model": NAME, "prompt": ids, "max_tokens": 4, "temperature": 0}
    text = "".join(c["choices"][0]["text"] for c in stream(server, "/v1/completions", body))
    assert "Hello" not in text
    assert text == server.complete(ids, max_tokens=4)["choices"][0]["text"]
    # Of the character that the prompt has begun no piece is shown again.
    letters = stream(server, "/v1/completions", {**body, **force(server, "ab")})
    assert set("".join(c["choices"][0]["text"] for c in letters)) <= set("ab")


def test_no_empty_chunks_while_a_stop_string_may_come(server):
    body = {"model": NAME, "prompt": "x", "stop": ["Q" * 10], "max_tokens": 8,
            **force(server, "word")}
    chunks = stream(server, "/v1/completions", body)
    assert all(c["choices"][0]["text"] for c in chunks[:-1])


@pytest.mark.parametrize("options,in_chunks,last", [
    (None, False, False), ({}, False, False), ({"include_usage": True}, False, True),
    ({"include_usage": True, "continuous_usage_stats": True}, True, True)])
@pytest.mark.parametrize("chat", [True, False])
def test_usage(server, options, in_chunks, last, chat):
    body = {"model": NAME, "max_tokens": 5, "ignore_eos": True}
    body |= {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
    if options is not None:
        body["stream_options"] = options
    path = "/v1/chat/completions" if chat else "/v1/completions"
    chunks = stream(server, path, body)
    if last:
        end = chunks.pop()
        assert end["choices"] == [] and end["usage"]["completion_tokens"] == 5
    assert all(c["choices"] for c in chunks)
    assert all(bool(c.get("usage")) == in_chunks for c in chunks)


def test_parallel_streams_do_not_mix(server):
    words = [letter * 2 for letter in string.ascii_letters[:32]]  # twice as many as run at a time

    def run(word):
        body = {"model": NAME, "prompt": "x", "max_tokens": 20, "temperature": 1.0,
                **force(server, word)}
        return "".join(c["choices"][0]["text"] for c in stream(server, "/v1/completions", body))

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for word, text in zip(words, pool.map(run, words)):
            assert text and set(text) == {word[0]}


def test_every_request_gets_all_its_tokens(server):
    """However many come at once: up to 8 more than run at a time."""
    def run(i):
        return server.complete(f"{i} x", max_tokens=48, ignore_eos=True)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for count in range(1, 25):
            for answer in pool.map(run, range(count)):
                assert answer["usage"]["completion_tokens"] == 48
                assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("include", [True, False])
def test_stop_strings_are_the_same_everywhere(server, chat, include):
    """A stop string over several tokens, on both routes, streamed and not."""
    fields = {"model": NAME, "max_tokens": 24, "stop": ["ba"], "temperature": 1.0, "seed": 11,
              "include_stop_str_in_output": include, **force(server, "ab")}
    fields |= {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    whole = server.post(path, fields).json()["choices"][0]
    text = whole["message"]["content"] if chat else whole["text"]
    assert whole["finish_reason"] == "stop" and whole["stop_reason"] == "ba"
    assert text.endswith("ba") == include and text.count("ba") == include
    streamed, finish, reason = "", None, None
    for chunk in stream(server, path, fields):
        choice = chunk["choices"][0]
        streamed += (choice["delta"].get("content") or "") if chat else choice["text"]
        finish, reason = choice["finish_reason"] or finish, choice.get("stop_reason") or reason
    assert (streamed, finish, reason) == (text, "stop", "ba")
