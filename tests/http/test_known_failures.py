"""Faults that users of other servers have met, where no other file tries them: docs/known_failures.md lists them all."""

import concurrent.futures
import json
import re
import signal
import socket
import threading
import time

import jsonschema
import pytest
import requests

from replay_model import start
from replay_texts import TEXTS, WEATHER
from test_streaming import stream
from tiny_model import NAME

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "x"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def ask(server, messages=USER, **fields):
    return server.post(CHAT, {"model": NAME, "messages": messages, "max_tokens": 1, **fields})


def said(server, text, **fields):
    """(reasoning, content, finish_reason) of a chat that is forced to say `text`, the same streamed and not."""
    body = {"model": NAME, "messages": USER, "max_tokens": 300, "seed": 1, "structured_outputs": {"regex": re.escape(text)}, **fields}
    choice = server.post(CHAT, body).json()["choices"][0]
    whole = (choice["message"]["reasoning"], choice["message"]["content"], choice["finish_reason"])
    reasoning, content, finish = "", "", None
    for chunk in stream(server, CHAT, body):
        delta = chunk["choices"][0]["delta"]
        reasoning += delta.get("reasoning") or ""
        content += delta.get("content") or ""
        finish = chunk["choices"][0]["finish_reason"] or finish
    assert (reasoning or None, content or None, finish) == whole
    return whole


# --- Reasoning --------------------------------------------------------------------------------------

def test_thought_that_the_prompt_has_begun(make_server):
    """The template opens the thought: the answer has its end alone."""
    server = make_server("--reasoning-parser", "qwen3", "--chat-template", "{{ messages[0].content }}<think>\n",
                         "--structured-outputs-config", '{"enable_in_reasoning": true}')
    assert said(server, "abc</think>\n\nxyz") == ("abc", "xyz", "stop")
    assert said(server, "only thought " * 20, max_tokens=10)[1:] == (None, "length")


def test_without_a_reasoning_parser_the_text_is_as_it_was_said(make_replay_server):
    """The tags of a thought are no special tokens: skip_special_tokens, which is on, leaves them."""
    server = make_replay_server("--reasoning-parser", "")
    body = {"model": NAME, "temperature": 0, "messages": [{"role": "user", "content": start(1)}]}
    assert list(TEXTS)[1] == "thought"
    for path, fields in ((CHAT, body), ("/v1/completions", {**body, "prompt": start(1), "max_tokens": 200})):
        choice = server.post(path, fields).json()["choices"][0]
        assert (choice["message"]["content"] if path == CHAT else choice["text"]) == TEXTS["thought"]


def test_thought_of_earlier_turns_is_rendered_as_the_template_does(server):
    """Qwen3's template leaves it out before the last question, and keeps it behind that."""
    call = {"role": "assistant", "content": "", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "r"}
    for name in ("reasoning", "reasoning_content"):
        messages = [*USER, {**call, name: "early thought"}, result, *USER, {**call, name: "late thought"}, result]
        answer = server.post("/tokenize", {"messages": messages})
        assert answer.status_code == 200, answer.text
        text = server.post("/detokenize", {"tokens": answer.json()["tokens"]}).json()["prompt"]
        assert "early thought" not in text and "<think>\nlate thought\n</think>" in text
        assert ask(server, messages).status_code == 200


# --- Tools ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("interval", ["2", "7", "1000"])
def test_calls_of_several_tokens_a_chunk(make_replay_server, interval):
    server = make_replay_server("--stream-interval", interval)
    for name, expected in (("call", [("get_weather", WEATHER)]), ("calls", [("first", "{}"), ("second", '{"n": 1e400}')])):
        body = {"model": NAME, "temperature": 0, "reasoning_effort": "none", "tools": TOOLS,
                "messages": [{"role": "user", "content": start(list(TEXTS).index(name))}]}
        calls = []
        for chunk in stream(server, CHAT, body):
            for piece in chunk["choices"][0]["delta"].get("tool_calls") or []:
                if piece["index"] == len(calls):
                    calls.append([piece["function"]["name"], ""])
                calls[piece["index"]][1] += piece["function"].get("arguments") or ""
        assert [tuple(c) for c in calls] == expected


def test_tools_stay_in_the_prompt_when_none_may_be_called(server, make_server):
    def count(target, **fields):
        return ask(target, **fields).json()["usage"]["prompt_tokens"]

    with_tools = count(server, tools=TOOLS, tool_choice="none")
    assert with_tools == count(server, tools=TOOLS, tool_choice="required") > count(server)
    without = make_server("--exclude-tools-when-tool-choice-none")
    assert count(without, tools=TOOLS, tool_choice="none") == count(without)


def test_memory_does_not_grow_with_tools(make_server):
    """Every request has tools of its own, of 8 kB, which its answer is forced to call."""
    server = make_server("--chat-template", "{{ tools | tojson | length }}", "--max-model-len", "2048",
                         "--num-gpu-blocks-override", "20")  # a cache that is soon in memory

    def resident():
        with open(f"/proc/{server.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

    def call(number):
        parameters = {"type": "object", "properties": {f"p{number}_{i}": {"type": "string", "description": "words " * 20}
                                                       for i in range(50)}}
        tool = {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}
        answer = ask(server, tools=[tool], tool_choice="required", max_tokens=4)
        assert answer.status_code == 200, answer.text

    def load(begin):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(begin, begin + 100)))

    load(0)
    load(100)
    warm = resident()
    for begin in (200, 300, 400):
        load(begin)
    assert resident() - warm < 6, (warm, resident())  # MiB, 20 kB for each request


# --- Templates --------------------------------------------------------------------------------------

ASKING = ("{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}"
          "{% endif %}{% endfor %}{% if not ns.found %}{{ raise_exception('No user query found') }}{% endif %}ok")


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "s"}],
                                      [{"role": "tool", "tool_call_id": "1", "content": "r"}]])
def test_what_a_template_objects_to_is_told(make_server, server, messages):
    refused = ask(make_server("--chat-template", ASKING), messages)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "BadRequestError" and "No user query found" in error["message"]
    assert ask(server, messages).status_code == 200  # Qwen3's own template takes them


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__ }}", "{% for i in range(10**9) %}x{% endfor %}",
                                      "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"])
def test_a_hostile_template_of_the_model_costs_its_chats_alone(make_server, template):
    server = make_server("--chat-template", template)
    answer = ask(server)
    assert answer.status_code == 400 and "chat template" in answer.json()["error"]["message"], answer.text
    assert server.complete("x", max_tokens=1)["choices"]


# --- Limits and log-probabilities -------------------------------------------------------------------

def test_long_texts_are_refused(server):
    word = "x " * 2
    for count in (2048, 20480):
        response = server.post("/v1/completions", {"model": NAME, "prompt": word * count})
        assert response.status_code == 400
        assert "maximum context length is 2048 tokens" in response.json()["error"]["message"]


@pytest.mark.parametrize("value", [-5, 21, 1000, 2**40])
def test_too_many_logprobs_in_a_chat(server, value):
    assert ask(server, logprobs=True, top_logprobs=value).status_code == 400


def test_logprobs_of_what_a_grammar_masks(server):
    body = {"logprobs": True, "top_logprobs": 20, "structured_outputs": {"choice": ["yes", "no"]}, "max_tokens": 9}
    text = ask(server, **body).text
    answer = json.loads(text, parse_constant=lambda name: pytest.fail(name))  # Infinity is no JSON
    choice = answer["choices"][0]
    assert choice["message"]["content"] in ("yes", "no")
    values = [top["logprob"] for entry in choice["logprobs"]["content"] for top in entry["top_logprobs"]]
    assert len(values) >= 20 and all(-9999 <= value <= 0 for value in values)


def test_echo_has_no_other_tokens_and_counts_characters(server):
    """Qwen3 has no token at the beginning; offsets are characters, not bytes."""
    text = "é客单价 fin"
    choice = server.complete(text, echo=True, logprobs=1, max_tokens=0)["choices"][0]
    scores = choice["logprobs"]
    assert choice["text"] == text == "".join(scores["tokens"])
    assert len(scores["tokens"]) == len(server.tokens(text))
    ends = [offset + len(token) for offset, token in zip(scores["text_offset"], scores["tokens"])]
    assert scores["text_offset"] == [0, *ends[:-1]] and ends[-1] == len(text)


def test_a_grammar_that_has_ended_and_no_end_of_the_answer(server):
    """ignore_eos goes on where a grammar allows nothing: ends follow, which have no text."""
    choice = server.complete("x", ignore_eos=True, max_tokens=64, structured_outputs={"regex": "ab"})
    assert choice["choices"][0]["text"] == "ab" and choice["choices"][0]["finish_reason"] == "length"
    assert choice["usage"]["completion_tokens"] == 64
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
    text = ask(server, ignore_eos=True, max_tokens=400, structured_outputs={
        "json": schema, "disable_any_whitespace": True}).json()["choices"][0]["message"]["content"]
    jsonschema.validate(json.loads(text), schema)


# --- The scheduler ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name, value", [("frequency_penalty", 2), ("presence_penalty", -2), ("repetition_penalty", 1.5),
                                         ("min_tokens", 12), ("bad_words", ["a", "b c"])])
def test_penalties_are_the_same_with_and_without_asynchronous_scheduling(server, make_server, name, value):
    plain = make_server("--max-model-len", "2048", "--no-async-scheduling", "--generation-config", "vllm")
    letters = [server.tokens(letter)[0] for letter in "abcdefg"]
    body = {"max_tokens": 24, "allowed_token_ids": letters, "temperature": 1, "n": 4, "seed": 5,
            "stop_token_ids": letters[6:] if name == "min_tokens" else []}

    def texts(target, **fields):
        return [c["text"] for c in target.complete("x", **body, **fields)["choices"]]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: texts(server, **{name: value}), range(8)))
    assert together == [texts(plain, **{name: value})] * 8
    assert together[0] != texts(server)  # it has an effect


@pytest.mark.parametrize("count", [12, 13, 20])
def test_the_largest_batch_is_replayed(make_server, count):
    """Also where the number is none of the usual sizes."""
    server = make_server("--max-num-seqs", str(count), "--compilation-config", '{"cudagraph_mode": "FULL_DECODE_ONLY"}')
    assert re.search(rf"captured decode steps of .*\b{count} sequences", server.output())
    assert server.complete(["x"] * count, max_tokens=100, ignore_eos=True)["usage"]["completion_tokens"] == 100 * count
    steps = {kind: sum(v for k, v in server.metrics().items()
                       if k.startswith("tiercel:model_steps_total") and f'graph="{kind}"' in k) for kind in ("replayed", "eager")}
    assert steps["replayed"] >= 90 and steps["eager"] <= 20, steps  # those with prompts


def test_a_coding_agents_prompt_twice(make_server):
    """Of 22,615 tokens, in chunks of 2048: the second time all but the last block are there."""
    server = make_server("--max-model-len", "32768", "--max-num-batched-tokens", "2048", "--enable-prompt-tokens-details")
    prompt = [7 + i * i % 900 for i in range(22_615)]
    first, second = (server.complete(prompt, max_tokens=8, ignore_eos=True) for _ in range(2))
    assert first["choices"][0]["text"] == second["choices"][0]["text"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 22_615 // 128 * 128


# --- The surface ------------------------------------------------------------------------------------

def test_request_ids_that_are_no_ids(server):
    """An id of a megabyte is refused with its head; another odd one is replaced, and injects nothing."""
    def answer(value):
        payload = json.dumps({"model": NAME, "prompt": "x", "max_tokens": 1}).encode()
        received = b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            try:
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                               b"X-Request-Id: " + value + b"\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload)
                while piece := client.recv(65536):
                    received += piece
            except (ConnectionResetError, BrokenPipeError):  # of a head that is refused not all is read
                assert len(value) > 1 << 16
        return received

    for value, status in (("é客".encode(), b"200"), (b"a b", b"200"), (b"<script>", b"200"),
                          (b"a\rX-Evil: 1", b"400"), (b"a\nX-Evil: 1", b"400"), (b"a\r\n X-Evil: 1", b"400")):
        received = answer(value)
        assert received.startswith(b"HTTP/1.1 " + status), (value, received[:200])
        head = received.split(b"\r\n\r\n")[0].lower()
        assert b"x-evil" not in head and value.lower() not in received.lower(), value
    assert answer(b"a" * (1 << 20))[:12] in (b"HTTP/1.1 431", b"")
    assert answer(b"a" * 60_000)[:12] == b"HTTP/1.1 200"


def test_no_address_of_a_request_is_visited(server):
    def asked(parts):
        return [{"role": "user", "content": parts}]

    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        port = trap.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/a.png", f"http://a\\@127.0.0.1:{port}/", f"http://localhost:{port}/",
                    "file:///etc/hostname", "data:image/png;base64,AAAA"):
            bodies = [(CHAT, {"messages": asked([{"type": kind, kind: {"url": url}}])})
                      for kind in ("image_url", "video_url", "audio_url", "input_audio")]
            bodies += [
                ("/v1/chat/completions/batch", {"messages": [bodies[0][1]["messages"]]}),
                ("/v1/responses", {"input": asked([{"type": "input_image", "image_url": url}])}),
                ("/v1/messages", {"max_tokens": 1, "messages": asked([{"type": "image", "source": {"type": "url", "url": url}}])}),
                ("/v1/completions", {"prompt": "x", "structured_outputs": {"json": {"$ref": url}}})]
            for path, body in bodies:
                response = server.post(path, {"model": NAME, **body})
                assert response.status_code == 400, (path, url, response.text)
        with pytest.raises(TimeoutError):
            trap.accept()


# What would tell of the inside: addresses of memory, files of the source and of the machine, names of types.
INSIDE = re.compile(r"0x[0-9a-f]{6,}|\.(cc|h|rs|py)\b|/(src|root|home|usr|tmp|work|proc)/|std::|panicked|backtrace|what\(\)", re.I)


def test_no_error_tells_of_the_inside(server):
    word = server.tokens("x")[0]
    completions = [{"prompt": "x", "n": -1}, {"prompt": {"a": 1}}, {"model": "no", "prompt": "x"}, {"prompt": []},
                   {"prompt": [word] * 5000}, {"prompt": "x", "max_tokens": 10**9}, {"prompt": "x", "logprobs": 10**9},
                   {"prompt": "x", "prompt_embeds": "AAAA"}, {"prompt": "x", "bad_words": [""]},
                   {"prompt": "x", "logit_bias": {"9" * 30: 1}}, {"prompt": "x", "stop": [1]},
                   {"prompt": [-1]}, {"prompt": "x", "structured_outputs": {"regex": "("}},
                   {"prompt": "x", "structured_outputs": {"json": {"$ref": "#/nowhere"}}},
                   {"prompt": "x", "structured_outputs": {"json": {"type": "object", "if": {}}}},
                   {"prompt": "x", "structured_outputs": {"grammar": "start: ("}},
                   {"prompt": "x", "response_format": {"type": "structural_tag", "format": {"type": "none"}}}]
    chats = [{"messages": []}, {"messages": [{"role": "user", "content": 5}]}, {"messages": USER, "tools": [{"type": "x"}]},
             {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{bad"}}]}]},
             {"messages": USER, "chat_template": "{{ 1 / 0 }}"}, {"messages": USER, "tool_choice": "auto", "tools": TOOLS},
             {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}]
    texts = []
    for path, bodies in (("/v1/completions", completions), (CHAT, chats), ("/v1/responses", [{}, {"input": 5}]),
                         ("/v1/messages", [{}, {"messages": 5}]), ("/tokenize", [{}, {"prompt": 5}]),
                         ("/detokenize", [{"tokens": ["a"]}, {"tokens": [10**12]}])):
        for body in bodies:
            response = server.post(path, body)
            assert 400 <= response.status_code < 500, (path, body, response.text)
            texts.append(response.text)
    for path in ("/v1/nothing", "/../../etc/passwd", "/%00", "/v1/completions?x=%ff"):
        texts.append(requests.get(server.url + path).text)
    texts.append(requests.post(server.url + CHAT, b'{"messages": "\xff', headers={"Content-Type": "application/json"}).text)
    for text in texts:
        assert not INSIDE.search(text), text


def test_tokenizing_while_the_server_ends(make_server):
    """What does not wait for the engine, too, is answered or not taken, and the end is a clean one."""
    server = make_server()
    statuses, end = [], threading.Event()

    def work(path, body):
        while not end.is_set():
            try:
                statuses.append(requests.post(server.url + path, json=body, timeout=60).status_code)
            except requests.exceptions.ConnectionError:
                return

    threads = [threading.Thread(target=work, args=args) for args in
               [("/tokenize", {"prompt": "words and more " * 200})] * 4 + [("/detokenize", {"tokens": [70] * 500})] * 4 +
               [("/tokenize", {"messages": USER * 20})] * 4]
    for thread in threads:
        thread.start()
    while len(statuses) < 200:
        assert server.process.poll() is None, server.output()
        time.sleep(0.01)
    assert server.stop(signal.SIGTERM) == 0
    end.set()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503}, set(statuses)


# --- Clients that are not run here: what they send, and what they read of the answer ---------------

SAMPLED = {"max_tokens": 4, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "seed": 1, "ignore_eos": True}
BODIES = {
    "Dify's check of a key": (CHAT, {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 5, "stream": False}),
    "Open WebUI": (CHAT, {"messages": USER, "stream": True, "stream_options": {"include_usage": True}, "chat_id": "1",
                          "session_id": "2", "features": {"web_search": False}, "variables": {}, "max_tokens": 4}),
    "evalscope": (CHAT, {"messages": USER, "stream": True, "stream_options": {"include_usage": True}, **SAMPLED}),
    "AISBench, text": (CHAT, {"messages": USER, "stream": True, "stream_options": {"include_usage": True},
                              "repetition_penalty": 1.03, **SAMPLED}),
    "AISBench, perplexity": ("/v1/completions", {"prompt": "some words", "max_tokens": 1, "prompt_logprobs": 0}),
    "AISBench, token ids": (CHAT, {"messages": USER, "stream": True, "return_token_ids": True, "logprobs": True,
                                   "return_tokens_as_token_ids": True, **SAMPLED}),
    "guidellm, text": ("/v1/completions", {"prompt": "x", "max_tokens": 4, "stop": None, "ignore_eos": True, "stream": True,
                                           "stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    "LangChain": (CHAT, {"messages": USER, "max_completion_tokens": 4, "n": 1, "stream": True, "parallel_tool_calls": None,
                         "stream_options": {"include_usage": True}}),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_of_clients(server, name):
    path, body = BODIES[name]
    body = {"model": requests.get(server.url + "/v1/models").json()["data"][0]["id"], **body}
    if not body.get("stream"):
        answer = server.post(path, body)
        assert answer.status_code == 200, answer.text
        choice = answer.json()["choices"][0]
        if path == CHAT:
            assert choice["message"]["role"] == "assistant" and isinstance(choice["message"]["content"], str)
        if "prompt_logprobs" in body:
            entries = choice["prompt_logprobs"]
            assert entries[0] is None and all(len(entry) == 1 for entry in entries[1:])
        assert answer.json()["usage"]["total_tokens"] > 0
        return
    chunks = stream(server, path, body)
    assert all(isinstance(c["delta"], dict) for chunk in chunks for c in chunk["choices"] if path == CHAT)
    if body.get("stream_options"):
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
    if body.get("return_token_ids"):
        ids = [t for chunk in chunks for c in chunk["choices"] for t in c.get("token_ids") or []]
        names = [e["token"] for chunk in chunks for c in chunk["choices"] for e in (c.get("logprobs") or {}).get("content") or []]
        assert len(ids) == 4 and names == [f"token_id:{t}" for t in ids]


def test_probes_and_the_query_of_claude_code(server):
    body = {"model": NAME, "max_tokens": 2, "messages": USER, "metadata": {"user_id": "u"},
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]}
    answer = server.post("/v1/messages?beta=true", body, headers={
        "x-api-key": "none", "anthropic-version": "2023-06-01", "anthropic-beta": "some-beta-2025-01-01"})
    assert answer.status_code == 200 and answer.json()["type"] == "message", answer.text
    counted = {name: body[name] for name in ("model", "messages", "system")}
    assert server.post("/v1/messages/count_tokens?beta=true", counted).json()["input_tokens"] == (
        answer.json()["usage"]["input_tokens"])
    for path in ("/", "/health", "/v1/models"):
        assert requests.head(server.url + path).status_code == requests.get(server.url + path).status_code == 200
    later = {**body, "messages": [*USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}, *USER]}
    assert server.post("/v1/messages", later).status_code == 200
