"""OpenAI's Responses with the real client: whole and streamed, thought, tools, structure; a model that says
given texts."""

import json

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
    for more, word in (({"previous_response_id": "resp_1"}, "previous_response_id"), ({"background": True}, "background"),
                       ({"input": [{"type": "image_generation_call"}]}, "image_generation_call"),
                       ({"input": None}, "input"), ({"top_logprobs": 2}, "top_logprobs"),
                       ({"input": [{"type": "function_call", "name": "f"}]}, "arguments")):
        reply = replay_server.post("/v1/responses", {"model": NAME, "input": "x", **more})
        assert reply.status_code == 400 and word in reply.json()["error"]["message"], reply.text
    assert requests.get(replay_server.url + "/v1/responses/resp_1", timeout=10).status_code == 404
    with pytest.raises(openai.NotFoundError):
        replay_server.client().responses.create(model="another", input="x")
