"""The anthropic package: messages, its streaming helper, tools, thinking, count_tokens."""

import anthropic

from check import MODEL, URL, equal, run

client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
TOOL = {"name": "get_weather", "description": "The weather of a city.", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def fields(scene, **more):
    return {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": f"Now @{scene}"}], **more}


def text(message):
    return "".join(b.text for b in message.content if b.type == "text")


def check_messages():
    """messages.create, and messages.stream with get_final_message"""
    equal(text(client.messages.create(**fields("plain"))), "Just an answer, no tag at all.")
    with client.messages.stream(**fields("plain")) as stream:
        equal("".join(stream.text_stream), "Just an answer, no tag at all.")
        equal(stream.get_final_message().stop_reason, "end_turn")


def check_thinking():
    """thinking blocks, whole and streamed"""
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    whole = client.messages.create(**fields("think", **more))
    equal([b.type for b in whole.content], ["thinking", "text"])
    with client.messages.stream(**fields("think", **more)) as stream:
        thought = "".join(e.thinking for e in stream if e.type == "thinking")
    equal(thought, whole.content[0].thinking)


def check_tools():
    """a tool_use block, its tool_result, the answer; whole and streamed"""
    for streamed in (False, True):
        messages = fields("weather")["messages"]
        for _ in range(2):
            more = fields("weather", tools=[TOOL]) | {"messages": messages}
            if streamed:
                with client.messages.stream(**more) as stream:
                    message = stream.get_final_message()
            else:
                message = client.messages.create(**more)
            uses = [b for b in message.content if b.type == "tool_use"]
            if uses:
                equal(uses[0].input, {"city": "Paris"})
                messages = messages + [{"role": "assistant", "content": message.content},
                                       {"role": "user", "content": [{"type": "tool_result", "content": "sunny",
                                                                     "tool_use_id": uses[0].id}]}]
        equal(text(message), "It is sunny in Paris.")


def check_count():
    """messages.count_tokens equals usage.input_tokens"""
    request = fields("plain")
    counted = client.messages.count_tokens(model=MODEL, messages=request["messages"]).input_tokens
    equal(client.messages.create(**request).usage.input_tokens, counted)


async def check_async():
    """AsyncAnthropic: messages.stream"""
    aclient = anthropic.AsyncAnthropic(base_url=URL, api_key="none", max_retries=0)
    async with aclient.messages.stream(**fields("plain")) as stream:
        equal(text(await stream.get_final_message()), "Just an answer, no tag at all.")


if __name__ == "__main__":
    run("anthropic", globals())
