"""/v1/messages with the real anthropic client and a model that says given texts."""

import json

import anthropic
import pytest
import requests

from replay_model import start
from replay_texts import TEXTS, WEATHER
from tiny_model import NAME

TOOLS = [{"name": name, "description": "d", "input_schema": {"type": "object", "properties": {}}}
         for name in ("get_weather", "first", "second", "lookup", "long_one")]
NO_THOUGHT = {"thinking": {"type": "disabled"}}


@pytest.fixture
def client(replay_server):
    return anthropic.Anthropic(base_url=replay_server.url, api_key="none", max_retries=0)


def fields(name, **more):
    """Of a request. The model is certain of its words: no temperature changes them."""
    return {"model": NAME, "max_tokens": 200,
            "messages": [{"role": "user", "content": start(list(TEXTS).index(name))}], **more}


def blocks(message):
    """[(type, text or (name, input))] of a message."""
    return [(b.type, b.thinking if b.type == "thinking" else b.text if b.type == "text"
             else (b.name, b.input)) for b in message.content]


def answer(client, name, **more):
    """(blocks, stop_reason, stop_sequence), the same streamed and not."""
    message = client.messages.create(**fields(name, **more))
    assert message.role == "assistant" and message.id.startswith("msg_")
    with client.messages.stream(**fields(name, **more)) as stream:
        streamed = stream.get_final_message()
    assert blocks(streamed) == blocks(message)
    assert (streamed.stop_reason, streamed.stop_sequence) == (message.stop_reason,
                                                              message.stop_sequence)
    assert streamed.usage.output_tokens == message.usage.output_tokens > 0
    return blocks(message), message.stop_reason, message.stop_sequence


def test_text(client):
    assert answer(client, "plain", **NO_THOUGHT) == ([("text", TEXTS["plain"])], "end_turn", None)


def test_thinking(client):
    for thinking in ({}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}):
        assert answer(client, "thought", **thinking) == (
            [("thinking", "\nFirst I weigh it.\n"), ("text", "The answer is 42.")], "end_turn", None)


def test_tool_use(client):
    assert answer(client, "call", tools=TOOLS, **NO_THOUGHT) == (
        [("text", "Let me look.\n"), ("tool_use", ("get_weather", json.loads(WEATHER)))],
        "tool_use", None)
    assert answer(client, "thinks_and_calls", tools=TOOLS) == (
        [("thinking", "\nA tool would do.\n"), ("tool_use", ("lookup", {"q": "价格"}))],
        "tool_use", None)
    one = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    calls = [("tool_use", ("first", {})), ("tool_use", ("second", {"n": float("inf")}))]
    assert answer(client, "calls", tools=TOOLS, **NO_THOUGHT, **one)[0] == calls[:1]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "second"}])
def test_tools_that_must_be_called(client, choice):
    tools = [{"name": name, "input_schema": {"type": "object", "properties": {"city": {"enum": ["Rome"]}},
                                             "required": ["city"], "additionalProperties": False}}
             for name in ("first", "second")]
    content, stop, _ = answer(client, "plain", tools=tools, max_tokens=900, extra_body={"temperature": 0}, **NO_THOUGHT,
                              tool_choice={**choice, "disable_parallel_tool_use": True})
    assert stop == "tool_use" and len(content) == 1
    kind, (name, given) = content[0]
    assert kind == "tool_use" and given == {"city": "Rome"} and name in ("second", choice.get("name", "first"))


def test_thought_within_its_budget(client):
    content, stop, _ = answer(client, "endless", max_tokens=40, extra_body={"temperature": 0},
                              thinking={"type": "enabled", "budget_tokens": 5})
    assert content[0][0] == "thinking" and "\nI go on and on".startswith(content[0][1])
    assert len(content) == 2 and stop in ("max_tokens", "end_turn")


def test_ends(client):
    more = {"max_tokens": 4, **NO_THOUGHT}
    assert answer(client, "plain", **more)[1] == "max_tokens"
    assert answer(client, "plain", stop_sequences=["no tag"], **NO_THOUGHT) == (
        [("text", "Just an answer, ")], "stop_sequence", "no tag")
    cut = client.messages.create(**fields("cut", tools=TOOLS, **more | {"max_tokens": 40}))
    assert cut.stop_reason == "max_tokens"
    assert cut.content[-1].input["INVALID_JSON"].startswith('{"text": "word0')


def test_events_of_a_stream(replay_server):
    body = fields("thinks_and_calls", tools=TOOLS, stream=True)
    text = requests.post(replay_server.url + "/v1/messages", json=body, timeout=60).text
    events = []
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == "event: " + events[-1]["type"]
    assert "[DONE]" not in text
    kinds = [e["type"] for e in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    starts = [e["index"] for e in events if e["type"] == "content_block_start"]
    stops = [e["index"] for e in events if e["type"] == "content_block_stop"]
    assert starts == stops == [0, 1]
    assert events[0]["message"]["usage"]["output_tokens"] == 0
    assert events[-2]["usage"]["output_tokens"] > 0


def test_a_conversation_is_rendered_as_a_chat(server):
    """The prompt has as many tokens as that of the same conversation in OpenAI's words."""
    messages = {"model": NAME, "system": [{"type": "text", "text": "Be brief."}], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Weather?",
                                      "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I ask.", "signature": ""},
            {"type": "text", "text": "One moment."},
            {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Oslo"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
            {"type": "text", "text": "And now?"}]}],
        "tools": TOOLS, "tool_choice": {"type": "none"}}
    chat = {"model": NAME, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "One moment.", "reasoning": "I ask.", "tool_calls": [
            {"id": "t1", "type": "function",
             "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "And now?"}],
        "tools": [{"type": "function", "function": {
            "name": t["name"], "description": t["description"], "parameters": t["input_schema"]}}
            for t in TOOLS]}
    count = server.post("/v1/messages/count_tokens", messages).json()
    assert count == {"input_tokens": server.post("/tokenize", chat).json()["count"]}
    answered = server.post("/v1/messages", {**messages, "max_tokens": 1}).json()
    assert answered["usage"]["input_tokens"] == count["input_tokens"]


@pytest.mark.parametrize("change,message", [
    ({"max_tokens": None}, "max_tokens"), ({"messages": None}, "messages"),
    ({"messages": []}, "empty"), ({"messages": [{"role": "user"}]}, "content"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "text only"),
    ({"messages": [{"role": "user", "content": [5]}]}, "type"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
    ({"tools": TOOLS, "tool_choice": "auto"}, "tool_choice"), ({"temperature": 9}, "temperature"),
    ({"stop_sequences": [""]}, "empty string")])
@pytest.mark.parametrize("stream", [True, False])
def test_errors_have_anthropics_shape(replay_server, change, message, stream):
    body = {k: v for k, v in {**fields("plain"), "stream": stream, **change}.items() if v is not None}
    response = replay_server.post("/v1/messages", body)
    assert response.status_code == 400
    error = response.json()
    assert error["type"] == "error" and error["error"]["type"] == "invalid_request_error"
    assert message in error["error"]["message"]


def said(*blocks, role="user"):
    return {"messages": [{"role": "user", "content": "x"}, {"role": role, "content": list(blocks)}]}


# Each fault has the name and the place that it has in this body, whatever a chat calls it.
@pytest.mark.parametrize("change,begin", [
    ({"system": 5}, "system: expected a string or a list"), ({"system": {"type": "text"}}, "system: "),
    ({"system": [5]}, "system.0: "), ({"system": [{"type": "text", "text": "a"}, {"type": "image"}]}, "system.1: "),
    ({"system": [{"type": "text"}]}, "system.0.text: "),
    ({"system": "s", "messages": []}, "messages: must not be an empty list"),
    ({"system": "s", "messages": [5]}, "messages.0.role: "),
    ({"system": "s", "messages": [{"role": "user", "content": 5}]}, "messages.0.content: "),
    (said({"text": "a"}), "messages.1.content.0: "), (said({"type": "text", "text": 5}), "messages.1.content.0.text: "),
    (said({"type": "text", "text": "a"}, {"type": "audio"}), "messages.1.content.1: blocks of type 'audio'"),
    (said({"type": "tool_use", "name": 5}, role="assistant"), "messages.1.content.0: a tool_use"),
    (said({"type": "tool_use", "name": "f", "input": [1]}, role="assistant"), "messages.1.content.0.input: "),
    (said({"type": "tool_use", "name": "f", "input": "{}"}, role="assistant"), "messages.1.content.0.input: "),
    (said({"type": "tool_result", "tool_use_id": 5}), "messages.1.content.0: a tool_result"),
    (said({"type": "tool_result", "tool_use_id": "x" * 257}), "messages.1.content.0.tool_use_id: "),
    (said({"type": "tool_result", "tool_use_id": "x", "content": 5}), "messages.1.content.0.content: "),
    (said({"type": "tool_result", "tool_use_id": "x"}, {"type": "tool_result", "tool_use_id": "y", "content": [{}]}),
     "messages.1.content.1.content.0: "),
    ({"tools": [{"name": 5}]}, "tools.0.name: "), ({"tools": [5]}, "tools.0.name: "),
    ({"tools": [{"name": "f"}, {"name": "g", "input_schema": "{}"}]}, "tools.1.input_schema: "),
    ({"tools": [{"name": "f", "description": 5}]}, "tools.0.description: "),
    ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": 5}}, "tool_choice.name: "),
    ({"tools": TOOLS, "tool_choice": {"type": 5}}, "tool_choice: "),
    ({"tools": TOOLS, "tool_choice": {"type": "some"}}, "tool_choice: "),
    ({"thinking": 5}, "thinking: "), ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens: "),
    ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens: "),
    ({"stop_sequences": ["a", ""]}, "stop_sequences.1: ")])
def test_faults_have_the_names_of_the_body(replay_server, change, begin):
    body = {**fields("plain"), **change}
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        response = replay_server.post(path, body)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(begin), response.text


@pytest.mark.parametrize("name,value", [
    ("max_tokens", "x"), ("messages", 5), ("tools", 5), ("stop_sequences", 5), ("stop_sequences", [5]),
    ("stop_sequences", ["x"] * 65), ("stop_sequences", ["x" * 4097]), ("temperature", "x"), ("top_p", []), ("top_k", "x"),
    ("stream", 5), ("chat_template_kwargs", 5), ("model", 5)])
def test_types_of_fields(replay_server, name, value):
    error = replay_server.post("/v1/messages", {**fields("plain"), name: value}).json()["error"]
    assert error["type"] == "invalid_request_error" and f"'body', '{name}'" in error["message"]


def test_variables_of_the_template_stand_beside_thinking(server):
    """As in a chat: enable_thinking of the request's own wins over `thinking`."""
    def count(**more):
        return server.post("/v1/messages/count_tokens", {**fields("plain"), **more}).json()["input_tokens"]

    off = count(**NO_THOUGHT)
    assert off > count()
    assert count(**NO_THOUGHT, chat_template_kwargs={"other": 1}) == off
    assert count(**NO_THOUGHT, chat_template_kwargs={"enable_thinking": True}) == count()


def test_errors_of_the_client(client):
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**fields("plain"), "model": "other"})


def test_the_key_may_come_in_anthropics_header(make_server):
    server = make_server("--api-key", "secret")
    body = {"model": NAME, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    for key, status in (("secret", 200), ("wrong", 401), ("", 401)):
        assert server.post("/v1/messages", body, headers={"x-api-key": key}).status_code == status
    assert server.post("/v1/messages", body).status_code == 401
