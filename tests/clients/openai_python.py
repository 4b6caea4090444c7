"""The openai package: chat, completions, Responses, its parsers and streaming helpers."""

import asyncio
import json

import openai
import pydantic

from check import MODEL, PERSON, URL, equal, run

client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)


class Person(pydantic.BaseModel):
    name: str
    age: int


class Add(pydantic.BaseModel):
    a: int
    b: int


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def user(scene):
    return [{"role": "user", "content": f"Now @{scene}"}]


def check_models():
    """models.list"""
    equal([m.id for m in client.models.list()], [MODEL])


def check_chat():
    """chat.completions.create, whole and streamed with usage"""
    whole = client.chat.completions.create(model=MODEL, messages=user("plain"))
    text = "Just an answer, no tag at all."
    equal(whole.choices[0].message.content, text)
    streamed, usage = "", None
    for chunk in client.chat.completions.create(model=MODEL, messages=user("plain"), stream=True,
                                                stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        streamed += chunk.choices[0].delta.content or "" if chunk.choices else ""
    equal(streamed, text)
    equal(usage.completion_tokens, whole.usage.completion_tokens)
    assert whole._request_id, "no x-request-id"


async def check_async():
    """AsyncOpenAI: chat whole and streamed"""
    aclient = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)
    whole = await aclient.chat.completions.create(model=MODEL, messages=user("think"))
    equal(whole.choices[0].message.content, "The answer is 42.")
    streamed = ""
    async for chunk in await aclient.chat.completions.create(model=MODEL, messages=user("think"), stream=True):
        streamed += chunk.choices[0].delta.content or ""
    equal(streamed, "The answer is 42.")


def check_completions():
    """completions.create, whole, streamed, logprobs with echo"""
    whole = client.completions.create(model=MODEL, prompt="<|start_0|>", max_tokens=8, temperature=0)
    streamed = "".join(c.choices[0].text for c in client.completions.create(
        model=MODEL, prompt="<|start_0|>", max_tokens=8, temperature=0, stream=True))
    equal(streamed, whole.choices[0].text)
    echo = client.completions.create(model=MODEL, prompt="Hello", max_tokens=0, echo=True, logprobs=1)
    equal(echo.choices[0].text, "Hello")
    equal(echo.choices[0].logprobs.token_logprobs[0], None)


def check_parse():
    """chat.completions.parse with a pydantic model, and with a pydantic function tool"""
    parsed = client.chat.completions.parse(model=MODEL, messages=user("json"), response_format=Person)
    equal(parsed.choices[0].message.parsed, Person(**PERSON))
    tool = openai.pydantic_function_tool(Person)
    called = client.chat.completions.parse(model=MODEL, messages=user("Person"), tools=[tool])
    equal(called.choices[0].message.tool_calls[0].function.parsed_arguments, Person(**PERSON))


def check_stream_helper():
    """chat.completions.stream: events of content, tool arguments, the parsed end"""
    with client.chat.completions.stream(model=MODEL, messages=user("json"), response_format=Person) as stream:
        events = [e.type for e in stream]
        final = stream.get_final_completion()
    equal(final.choices[0].message.parsed, Person(**PERSON))
    assert "content.delta" in events and "content.done" in events, events
    with client.chat.completions.stream(model=MODEL, messages=user("two"),
                                        tools=[openai.pydantic_function_tool(Add, name="add")]) as stream:
        done = [e.arguments for e in stream if e.type == "tool_calls.function.arguments.done"]
    equal([json.loads(d) for d in done], [{"a": 1, "b": 2}, {"a": 30, "b": 40}])


def check_tools():
    """a loop of tool calls with a result, tool_choice auto, required and named"""
    messages = user("weather")
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    message = first.choices[0].message
    equal(first.choices[0].finish_reason, "tool_calls")
    equal(json.loads(message.tool_calls[0].function.arguments), {"city": "Paris"})
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    equal(last.choices[0].message.content, "It is sunny in Paris.")
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        forced = client.chat.completions.create(model=MODEL, messages=user("weather"), tools=[WEATHER],
                                                tool_choice=choice)
        equal(forced.choices[0].message.tool_calls[0].function.name, "get_weather")


def check_responses():
    """responses.create, streamed, parse, stream helper, a function call and its output"""
    whole = client.responses.create(model=MODEL, input="Now @think")
    equal(whole.output_text, "The answer is 42.")
    assert "I weigh" in whole.output[0].content[0].text, whole.output[0]
    text = ""
    for event in client.responses.create(model=MODEL, input="Now @think", stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
    equal(text, "The answer is 42.")
    parsed = client.responses.parse(model=MODEL, input="Now @json", text_format=Person)
    equal(parsed.output_parsed, Person(**PERSON))
    with client.responses.stream(model=MODEL, input="Now @json", text_format=Person) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_response().output_parsed, Person(**PERSON))
    tool = {"type": "function", "strict": True, **WEATHER["function"]}
    tool["parameters"] = {**tool["parameters"], "additionalProperties": False}
    items = [{"role": "user", "content": "Now @weather"}]
    called = client.responses.create(model=MODEL, input=items, tools=[tool])
    call = [i for i in called.output if i.type == "function_call"][0]
    items += called.output + [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    equal(client.responses.create(model=MODEL, input=items, tools=[tool]).output_text, "It is sunny in Paris.")


async def check_async_helpers():
    """AsyncOpenAI: chat.completions.stream, responses.stream, 16 requests at once"""
    aclient = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)
    async with aclient.chat.completions.stream(model=MODEL, messages=user("plain")) as stream:
        async for _ in stream:
            pass
        equal((await stream.get_final_completion()).choices[0].message.content, "Just an answer, no tag at all.")
    async with aclient.responses.stream(model=MODEL, input="Now @plain") as stream:
        async for _ in stream:
            pass
        equal((await stream.get_final_response()).output_text, "Just an answer, no tag at all.")
    many = await asyncio.gather(*(aclient.chat.completions.create(model=MODEL, messages=user("plain"))
                                  for _ in range(16)))
    equal({m.choices[0].message.content for m in many}, {"Just an answer, no tag at all."})


def check_errors():
    """errors by class: NotFoundError, BadRequestError"""
    for error, fields in ((openai.NotFoundError, {"model": "other"}),
                          (openai.BadRequestError, {"temperature": -1})):
        try:
            client.chat.completions.create(**{"model": MODEL, "messages": user("plain"), **fields})
        except error:
            continue
        raise AssertionError(f"{error.__name__} is not raised")


if __name__ == "__main__":
    run("openai", globals())
