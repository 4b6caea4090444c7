"""Reasoning and tool calls, with the real openai client and a model that says given texts."""

import json

import openai
import pytest

from replay_model import start
from replay_texts import TEXTS, WEATHER
from tiny_model import NAME

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
         for name in ("get_weather", "first", "second", "lookup", "long_one")]


@pytest.fixture
def server(replay_server):
    return replay_server


def ask(server, name, stream=False, **fields):
    return server.client().chat.completions.create(
        model=NAME, temperature=0, stream=stream,
        messages=[{"role": "user", "content": start(list(TEXTS).index(name))}], **fields)


def answer(server, name, **fields):
    """(reasoning, content, [(name, arguments)], finish_reason), the same streamed and not."""
    choice = ask(server, name, **fields).choices[0]
    message = choice.message
    whole = (message.reasoning, message.content,
             [(c.function.name, c.function.arguments) for c in message.tool_calls or []],
             choice.finish_reason)
    assert message.reasoning_content == message.reasoning
    reasoning, content, calls, ids, finish = "", "", [], [], None
    for chunk in ask(server, name, stream=True, **fields):
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
            for piece in choice.delta.tool_calls or []:
                if piece.id:
                    assert piece.index == len(calls) and piece.type == "function"
                    calls.append([piece.function.name, ""])
                    ids.append(piece.id)
                else:  # its name and type are told once
                    assert piece.type is None and piece.function.name is None
                calls[piece.index][1] += piece.function.arguments or ""
            finish = choice.finish_reason or finish
    assert len(set(ids)) == len(ids) and all(i.startswith("chatcmpl-tool-") for i in ids)
    streamed = (reasoning or None, content or None, [tuple(c) for c in calls], finish)
    assert streamed == whole
    return whole


def test_reasoning_stands_apart(server):
    assert answer(server, "thought") == ("\nFirst I weigh it.\n", "The answer is 42.", [], "stop")
    assert answer(server, "opened") == ("so it is in the prompt", "Done here.", [], "stop")
    assert answer(server, "no_think") == (None, "Short reply.", [], "stop")
    assert answer(server, "endless") == ("\nI go on and on without an end", None, [], "stop")


def test_without_thinking_all_is_content(server):
    off = {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
    assert answer(server, "plain", **off) == (None, TEXTS["plain"], [], "stop")
    assert answer(server, "plain", reasoning_effort="none") == (None, TEXTS["plain"], [], "stop")


def test_reasoning_may_be_left_out(server):
    result = answer(server, "thought", extra_body={"include_reasoning": False})
    assert result == (None, "The answer is 42.", [], "stop")


def test_reasoning_tokens_are_counted(server):
    usage = ask(server, "thought").usage
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert ask(server, "plain", reasoning_effort="none").usage.completion_tokens_details.reasoning_tokens == 0


def test_tool_calls(server):
    off = {"reasoning_effort": "none", "tools": TOOLS}
    assert answer(server, "call", **off) == (None, "Let me look.\n", [("get_weather", WEATHER)],
                                             "tool_calls")
    assert answer(server, "calls", **off) == (
        None, None, [("first", "{}"), ("second", '{"n": 1e400}')], "tool_calls")
    assert answer(server, "calls", parallel_tool_calls=False, **off) == (
        None, None, [("first", "{}")], "tool_calls")
    assert answer(server, "plain", **off) == (None, TEXTS["plain"], [], "stop")
    assert answer(server, "broken", **off) == (None, TEXTS["broken"], [], "stop")


def test_thought_and_a_call(server):
    assert answer(server, "thinks_and_calls", tools=TOOLS) == (
        "\nA tool would do.\n", None, [("lookup", '{"q": "价格"}')], "tool_calls")


def test_a_call_that_is_cut_by_its_length(server):
    _, content, calls, finish = answer(server, "cut", max_tokens=40, reasoning_effort="none", tools=TOOLS)
    assert content == "Hm. " and finish == "length"
    assert calls[0][0] == "long_one" and calls[0][1].startswith('{"text": "word0 word1')


def test_what_was_held_back_comes_at_a_stop_string(server):
    assert answer(server, "tool_stop", stop="ENDHERE", reasoning_effort="none", tools=TOOLS) == (
        None, "almost a <tool ", [], "stop")
    assert answer(server, "tool_stop", stop=" ENDHERE", reasoning_effort="none", tools=TOOLS) == (
        None, "almost a <tool", [], "stop")


def test_tool_choice_none_leaves_the_text_as_it_is(server):
    result = answer(server, "call", reasoning_effort="none", tools=TOOLS, tool_choice="none")
    assert result == (None, TEXTS["call"], [], "stop")


def test_streaming_helper_of_the_client(server):
    with server.client().chat.completions.stream(
            model=NAME, temperature=0, tools=TOOLS, reasoning_effort="none",
            messages=[{"role": "user", "content": start(list(TEXTS).index("call"))}]) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments) == json.loads(WEATHER)


def test_tools_without_a_parser_are_refused(make_server):
    with pytest.raises(openai.BadRequestError, match="--enable-auto-tool-choice"):
        make_server().client().chat.completions.create(
            model=NAME, tools=TOOLS, messages=[{"role": "user", "content": "x"}])
