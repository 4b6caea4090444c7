"""OpenAI's Responses with the real client: whole and streamed, thought, tools, structure; a model that says
given texts."""

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pydantic
import pytest
import requests

from replay_model import start
from replay_texts import TEXTS, WEATHER
from tiny_model import NAME

TOOLS = [{"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
         for name in ("get_weather", "first", "second", "lookup", "long_one")]
NO_THOUGHT = {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}


@pytest.fixture
def client(replay_server):
    return replay_server.client()


def fields(name, **more):
    return {"model": NAME, "input": start(list(TEXTS).index(name)), "max_output_tokens": 200, **more}


def items(response):
    """[(type, text or (name, arguments))] of a response."""
    out = []
    for item in response.output:
        if item.type == "function_call":
            assert item.call_id.startswith("call_") and item.id.startswith("fc_")
            out.append((item.type, (item.name, item.arguments)))
        else:
            out.append((item.type, "".join(part.text for part in item.content)))
    return out


def answer(client, name, **more):
    """(items, status, reason), the same streamed and not; the events fit together."""
    whole = client.responses.create(**fields(name, **more))
    assert whole.id.startswith("resp_") and whole.object == "response" and whole.model == NAME
    usage = whole.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    texts, opened, numbers, last = {}, {}, [], None
    for event in client.responses.create(**fields(name, **more), stream=True):
        numbers.append(event.sequence_number)
        last = event
        if event.type == "response.output_item.added":
            assert event.output_index == len(opened) and event.item.status == "in_progress"
            opened[event.output_index] = event.item.id
            texts[event.item.id] = ""
        elif event.type.endswith(".delta"):
            assert opened[event.output_index] == event.item_id
            texts[event.item_id] += event.delta
        elif event.type in ("response.output_text.done", "response.reasoning_text.done"):
            assert event.text == texts[event.item_id]
        elif event.type == "response.function_call_arguments.done":
            assert event.arguments == texts[event.item_id]
        elif event.type == "response.output_item.done":
            assert event.item.id == opened[event.output_index]
    assert numbers == list(range(len(numbers)))
    assert last.type == "response." + whole.status
    assert items(last.response) == items(whole) and last.response.usage.output_tokens == usage.output_tokens
    assert [i.status for i in last.response.output] == [i.status for i in whole.output]
    assert list(texts.values()) == [t if isinstance(t, str) else t[1] for _, t in items(whole)]
    reason = whole.incomplete_details.reason if whole.incomplete_details else None
    return items(whole), whole.status, reason


def test_text_and_thought(client):
    assert answer(client, "plain", **NO_THOUGHT) == ([("message", TEXTS["plain"])], "completed", None)
    assert answer(client, "thought") == (
        [("reasoning", "\nFirst I weigh it.\n"), ("message", "The answer is 42.")], "completed", None)
    response = client.responses.create(**fields("thought", reasoning={"effort": "low"}, instructions="Be brief.",
                                                metadata={"a": "b"}, store=False))
    assert response.output_text == "The answer is 42."
    assert response.instructions == "Be brief." and response.metadata == {"a": "b"} and response.store is False
    assert response.usage.output_tokens_details.reasoning_tokens > 3


def test_function_calls(client):
    assert answer(client, "thinks_and_calls", tools=TOOLS)[0] == [
        ("reasoning", "\nA tool would do.\n"), ("function_call", ("lookup", '{"q": "价格"}'))]
    assert answer(client, "call", tools=TOOLS, **NO_THOUGHT) == (
        [("message", "Let me look.\n"), ("function_call", ("get_weather", WEATHER))], "completed", None)
    assert answer(client, "calls", tools=TOOLS, **NO_THOUGHT)[0] == [
        ("function_call", ("first", "{}")), ("function_call", ("second", '{"n": 1e400}'))]


def test_ends(client):
    assert answer(client, "plain", **NO_THOUGHT | {"max_output_tokens": 4})[1:] == (
        "incomplete", "max_output_tokens")
    _, status, _ = answer(client, "cut", tools=TOOLS, **NO_THOUGHT | {"max_output_tokens": 40})
    assert status == "incomplete"


def test_structure(client):
    class Size(pydantic.BaseModel):
        width: int = pydantic.Field(ge=1, le=9)

    parsed = client.responses.parse(model=NAME, input="x", text_format=Size, max_output_tokens=400,
                                    temperature=0, **NO_THOUGHT)
    assert 1 <= parsed.output_parsed.width <= 9
    one = [{**TOOLS[1], "parameters": {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"],
                                       "additionalProperties": False}}]
    for choice in ("required", {"type": "function", "name": "first"}):
        called = client.responses.create(**fields("plain", tools=one, tool_choice=choice, temperature=0,
                                                  parallel_tool_calls=False, **NO_THOUGHT) |
                                         {"max_output_tokens": 600})
        assert items(called)[0][1][0] == "first" and json.loads(items(called)[0][1][1]) == {"a": "b"}


def test_a_conversation_goes_on(make_server, tmp_path):
    """The items of earlier answers become the messages that the chat has: equal prompts."""
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x": 1}'}
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"},
            {"role": "assistant", "reasoning": "hm", "content": "let me",
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
            {"role": "assistant", "content": "b"}, {"role": "user", "content": "c\nd"}]
    given = [{"role": "user", "content": "a"},
             {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
             {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me"}]}, call,
             {"type": "function_call_output", "call_id": "c1", "output": "done"},
             {"role": "assistant", "content": "b"},
             {"role": "user", "content": [{"type": "input_text", "text": "c"}, {"type": "input_text", "text": "d"}]}]
    template = tmp_path / "all.jinja"
    template.write_text("{% for m in messages %}<{{ m.role }}|{{ m.content }}|{{ m.reasoning }}|"
                        "{{ m.tool_calls | tojson if m.tool_calls else m.tool_call_id }}>{% endfor %}")
    server = make_server("--chat-template", str(template), "--generation-config", "vllm")
    more = {"model": NAME, "temperature": 0}
    responses = server.post("/v1/responses", {"input": given, "instructions": "Be brief.", "max_output_tokens": 16,
                                              **more}).json()
    chats = server.post("/v1/chat/completions", {"messages": chat, "max_tokens": 16, **more}).json()
    assert responses["usage"]["input_tokens"] == chats["usage"]["prompt_tokens"] > 100
    assert responses["output"][0]["content"][0]["text"] == chats["choices"][0]["message"]["content"]


def test_what_is_not_offered_is_said(replay_server):
    for more, word in (({"background": True}, "VLLM_ENABLE_RESPONSES_API_STORE"),
                       ({"background": True, "store": False}, "store"), ({"conversation": "c"}, "conversation"),
                       ({"include": ["all"]}, "include"), ({"truncation": "some"}, "truncation"),
                       ({"text": {"verbosity": "chatty"}}, "verbosity"), ({"max_tool_calls": "x"}, "max_tool_calls"),
                       ({"input": [{"type": "image_generation_call"}]}, "image_generation_call"),
                       ({"input": None}, "input"), ({"input": 5}, "input"),
                       ({"include": ["message.output_text.logprobs"], "top_logprobs": 21}, "logprobs"),
                       ({"input": [{"type": "function_call", "name": "f"}]}, "arguments")):
        reply = replay_server.post("/v1/responses", {"model": NAME, "input": "x", **more})
        assert reply.status_code == 400 and word in reply.json()["error"]["message"], reply.text
    with pytest.raises(openai.NotFoundError):
        replay_server.client().responses.create(model="another", input="x")


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize("body, param", [
    ({"max_output_tokens": "max_tokens"}, "max_output_tokens"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 10**9}, "max_output_tokens"),
    ({"instructions": 5}, "instructions"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user", "content": 5}]}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
    ({"text": {"format": {"type": "weird"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "nope"}}}}, "text.format"),
    ({"reasoning": {"effort": "wrong"}}, "reasoning.effort"),
    ({"tools": [FUNCTION, {**FUNCTION, "name": 5}]}, "tools.1.name"),
    ({"tools": [{**FUNCTION, "parameters": 5}]}, "tools.0.parameters"),
    ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
    ({"tools": [FUNCTION], "tool_choice": "wrong"}, "tool_choice"),
    ({"top_logprobs": 50, "include": ["message.output_text.logprobs"]}, "top_logprobs"),
])
def test_faults_have_the_names_of_this_protocol(replay_server, body, param):
    """Its body becomes a chat's: what is wrong is told by the names that the client wrote."""
    reply = replay_server.post("/v1/responses", {"input": "a", **body})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    told = error["message"].replace('"max_tokens"', "")  # less the value that it repeats
    for name in ["max_tokens", "messages", "response_format", "reasoning_effort"]:
        assert not re.search(rf"\b{name}\b", told), told
    assert param.split(".")[0] in told or param == "input", told


def test_without_the_store_nothing_is_kept(replay_server):
    client = replay_server.client()
    response = client.responses.create(**fields("plain", **NO_THOUGHT))
    assert response.store is False
    for ask in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{response.id}' not found"):
            ask(response.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{response.id}' not found"):
        client.responses.create(**fields("plain", previous_response_id=response.id))


def entries(logprobs):
    return [(e.token, e.logprob, [(t.token, t.logprob) for t in e.top_logprobs]) for e in logprobs]


def test_logprobs_are_those_of_a_chat(client):
    more = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "temperature": 0}
    whole = client.responses.create(**fields("plain", **more, **NO_THOUGHT))
    chat = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": fields("plain")["input"]}], max_tokens=200, temperature=0,
        logprobs=True, top_logprobs=2, **NO_THOUGHT)
    expected = entries(chat.choices[0].logprobs.content)
    assert entries(whole.output[0].content[0].logprobs) == expected and len(expected) > 5
    for name in ("plain", "thought"):
        thinks = {} if name == "thought" else NO_THOUGHT
        whole = client.responses.create(**fields(name, **more, **thinks))
        shown, done = [], None
        for event in client.responses.create(**fields(name, **more, **thinks), stream=True):
            if event.type == "response.output_text.delta":
                shown += entries(event.logprobs)
            elif event.type == "response.output_text.done":
                done = entries(event.logprobs)
        last = entries(whole.output[-1].content[0].logprobs)
        assert shown == done == last
        assert "".join(token for token, _, _ in last).lstrip("\n").startswith(whole.output_text)


@pytest.fixture(scope="module")
def keeping(make_replay_server):
    return make_replay_server("--enable-sleep-mode", env={
        "VLLM_ENABLE_RESPONSES_API_STORE": "1", "VLLM_SERVER_DEV_MODE": "1"})


def test_a_kept_response_is_found_and_deleted(keeping):
    client = keeping.client()
    first = client.responses.create(**fields("plain", instructions="Be brief.", **NO_THOUGHT))
    assert client.responses.retrieve(first.id) == first and first.store is True
    with client.responses.stream(**fields("thought")) as stream:
        streamed = stream.get_final_response()
    assert client.responses.retrieve(streamed.id).output_text == "The answer is 42."
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(first.id)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.retrieve(first.id, stream=True)
    client.responses.delete(first.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(first.id)
    unkept = client.responses.create(**fields("plain", store=False))
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_an_earlier_response_comes_before_the_input(make_server, tmp_path):
    """The prompt is that of a chat with the whole conversation; instructions are of their own response alone."""
    template = tmp_path / "all.jinja"
    template.write_text("{% for m in messages %}<{{ m.role }}|{{ m.content }}|"
                        "{{ m.tool_calls | tojson if m.tool_calls else m.tool_call_id }}>{% endfor %}")
    server = make_server("--chat-template", str(template), "--generation-config", "vllm",
                         env={"VLLM_ENABLE_RESPONSES_API_STORE": "1"})
    client = server.client()
    more = {"model": NAME, "temperature": 0, "max_output_tokens": 8}
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    turns = [{"input": "a", "instructions": "Be brief."}, {"input": [call, output]},
             {"input": "b", "instructions": "Be long."}]
    called = {"role": "assistant", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    given = [[{"role": "user", "content": "a"}], [called, {"role": "tool", "tool_call_id": "c1", "content": "done"}],
             [{"role": "user", "content": "b"}]]
    messages, previous = [], None
    for turn, items_given in zip(turns, given):
        response = client.responses.create(**more, **turn, previous_response_id=previous)
        assert response.previous_response_id == previous
        assert response.instructions == turn.get("instructions")
        if previous is not None and items_given[0] is called:  # a call joins the answer that it stands behind
            called["content"] = messages.pop()["content"]
        messages += items_given
        system = [{"role": "system", "content": turn["instructions"]}] if "instructions" in turn else []
        chat = server.post("/v1/chat/completions", {
            "messages": system + messages, "model": NAME, "temperature": 0, "max_tokens": 8}).json()
        assert response.usage.input_tokens == chat["usage"]["prompt_tokens"]
        assert response.output_text == chat["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": response.output_text})
        previous = response.id
    reply = server.post("/v1/responses", {"input": [{"role": "user", "content": "c"}, {"type": "item_reference"}],
                                          "previous_response_id": previous, **more})
    assert reply.status_code == 400 and "input.1:" in reply.json()["error"]["message"]


# With ignore_eos the model goes on behind its text.
LONG = {"max_output_tokens": 30000,
        "extra_body": {"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}}}


def wait_for(client, response):
    end = time.monotonic() + 30
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < end
        time.sleep(0.02)
        response = client.responses.retrieve(response.id)
    return response


def test_in_the_background(keeping):
    client = keeping.client()
    begun = client.responses.create(**fields("plain", background=True, **NO_THOUGHT))
    assert begun.status == "queued" and begun.output == [] and begun.background is True
    ended = wait_for(client, begun)
    assert ended.status == "completed" and ended.output_text == TEXTS["plain"] and ended.usage.output_tokens > 3
    next_one = client.responses.create(**fields("thought", previous_response_id=begun.id))
    assert next_one.output_text == "The answer is 42."
    cut = client.responses.create(**fields("plain", background=True) | {"max_output_tokens": 3})
    assert wait_for(client, cut).status == "incomplete"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        client.responses.cancel(begun.id)


def test_what_runs_is_cancelled_or_deleted(keeping):
    client = keeping.client()
    begun = client.responses.create(**fields("plain", background=True) | LONG)
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        client.responses.create(**fields("plain", previous_response_id=begun.id))
    while client.responses.retrieve(begun.id).status == "queued":
        time.sleep(0.01)
    assert client.responses.retrieve(begun.id).status == "in_progress"
    assert client.responses.cancel(begun.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        client.responses.cancel(begun.id)
    assert client.responses.retrieve(begun.id).status == "cancelled"
    client.responses.delete(client.responses.create(**fields("plain", background=True) | LONG).id)
    keeping.wait_for_metric("vllm:num_requests_running", 0)
    # A stream of one that is cancelled ends with an error.
    events = client.responses.create(**fields("plain", background=True, stream=True) | LONG)
    first = next(events)
    client.responses.cancel(first.response.id)
    rest = list(events)
    assert rest[-1].type == "error" and "cancelled" in rest[-1].message
    assert [event.sequence_number for event in [first, *rest]] == list(range(1 + len(rest)))
    keeping.wait_for_metric("vllm:num_requests_running", 0)


def test_a_stream_in_the_background_goes_on_without_its_client(keeping):
    client = keeping.client()
    with client.responses.create(**fields("thought", background=True, stream=True)) as events:
        begun = next(events)
    assert begun.type == "response.created"
    ended = wait_for(client, begun.response)
    assert items(ended) == [("reasoning", "\nFirst I weigh it.\n"), ("message", "The answer is 42.")]
    events = list(client.responses.retrieve(ended.id, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed" and events[-1].response == ended
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == ended.output_text
    for after in (0, 3, len(events) - 2, len(events) - 1, len(events) + 5):
        assert list(client.responses.retrieve(ended.id, stream=True, starting_after=after)) == events[after + 1:]
    for query in ("stream=maybe", "stream=true&starting_after=x", "stream=true&starting_after=-2"):
        assert requests.get(f"{keeping.url}/v1/responses/{ended.id}?{query}", timeout=10).status_code == 400


def test_those_who_watch_one_response_see_the_same(keeping):
    client = keeping.client()
    more = LONG | {"max_output_tokens": 600}
    events = client.responses.create(**fields("plain", background=True, stream=True) | more)
    first = next(events)
    with ThreadPoolExecutor(4) as pool:
        watched = [pool.submit(lambda: list(client.responses.retrieve(first.response.id, stream=True)))
                   for _ in range(4)]
        all_events = [first, *events]
        assert len(all_events) > 100
        for future in watched:
            assert future.result() == all_events
    assert client.responses.retrieve(first.response.id) == all_events[-1].response


def test_one_that_grows_too_large_fails(keeping):
    """With twenty entries a token it has 16 MiB before it has all its tokens."""
    client = keeping.client()
    events = list(client.responses.create(**fields("plain", background=True, stream=True, top_logprobs=20,
                                                   include=["message.output_text.logprobs"]) | LONG))
    assert events[-1].type == "error" and "no room" in events[-1].message
    failed = client.responses.retrieve(events[0].response.id)
    assert failed.status == "failed" and "no room" in failed.error.message
    keeping.wait_for_metric("vllm:num_requests_running", 0)


def test_sleep_ends_what_is_in_the_background(keeping):
    client = keeping.client()
    begun = client.responses.create(**fields("plain", background=True) | LONG)
    assert keeping.post("/sleep?mode=abort", None).status_code == 200
    try:
        ended = wait_for(client, begun)
        assert ended.status == "failed" and ended.error.code == "server_error" and "aborted" in ended.error.message
        with pytest.raises(openai.InternalServerError):  # 503
            client.responses.create(**fields("plain", background=True))
    finally:
        assert keeping.post("/wake_up", None).status_code == 200


@pytest.mark.parametrize("grace", ["0", "60"])
def test_the_server_ends_with_what_is_in_the_background(make_replay_server, grace):
    server = make_replay_server("--shutdown-timeout", grace, env={"VLLM_ENABLE_RESPONSES_API_STORE": "1"})
    client = server.client()
    waits = grace != "0"
    long = LONG | {"max_output_tokens": 1000 if waits else 30000}
    client.responses.create(**fields("plain", background=True) | long)
    events = client.responses.create(**fields("plain", background=True, stream=True) | long)
    next(events)
    server.process.send_signal(signal.SIGTERM)
    assert list(events)[-1].type == ("response.incomplete" if waits else "response.failed")
    assert server.process.wait(20) == 0


def test_the_key_is_asked_for(make_replay_server):
    server = make_replay_server("--api-key", "secret", env={"VLLM_ENABLE_RESPONSES_API_STORE": "1"})
    response = server.client(api_key="secret").responses.create(**fields("plain"))
    url = f"{server.url}/v1/responses/{response.id}"
    for method, path in (("GET", url), ("DELETE", url), ("POST", url + "/cancel")):
        assert requests.request(method, path, timeout=10).status_code == 401
    assert server.client(api_key="secret").responses.retrieve(response.id) == response


def test_unknown_ids(keeping):
    for name in ("resp_1", "x", "%00", "resp_" + "9" * 4000, "..%2f", "%E2%82%AC"):
        for method, behind in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            reply = requests.request(method, f"{keeping.url}/v1/responses/{name}{behind}", timeout=10)
            assert reply.status_code == 404, (name, method, reply.text)
    error = requests.get(keeping.url + "/v1/responses/resp_1", timeout=10).json()["error"]
    assert error == {"message": "Response with id 'resp_1' not found.", "type": "invalid_request_error",
                     "param": "response_id", "code": 404}
    reply = requests.put(keeping.url + "/v1/responses/resp_1", timeout=10)
    assert reply.status_code == 405 and reply.headers["Allow"] == "GET, DELETE"


def test_one_id_twice(keeping):
    headers = {"X-Request-Id": "mine:1"}
    client = keeping.client(default_headers=headers)
    first = client.responses.create(**fields("plain", **NO_THOUGHT))
    assert first.id == "resp_mine:1"
    second = client.responses.create(**fields("thought", background=True) | LONG)
    with pytest.raises(openai.BadRequestError, match="still running"):
        client.responses.create(**fields("plain", background=True))
    client.responses.create(**fields("plain"))  # answered, not kept
    assert client.responses.cancel("resp_mine:1").id == second.id
    assert client.responses.retrieve("resp_mine:1").status == "cancelled"
