"""Clients that talk with a real chat model: what it says cannot be known, that it makes sense can.

    pip install openai==3.57.0 langchain-openai==1.7.4 instructor==1.17.0
    tiercel serve MODEL --served-model-name real --enable-auto-tool-choice --tool-call-parser hermes
    SERVER_URL=http://127.0.0.1:8000 python tests/clients/real_model.py
"""

import importlib.metadata
import json
import os
import sys
import time
import traceback

import instructor
import langchain_core.tools
import langchain_openai
import openai
import pydantic

URL, MODEL = os.environ["SERVER_URL"], "real"
client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=600)
chat = langchain_openai.ChatOpenAI(base_url=URL + "/v1", api_key="none", model=MODEL, max_retries=0, temperature=0,
                                   timeout=600, max_tokens=200)
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Returns the current weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "The city's name"}},
                   "required": ["city"]}}}
ASKED = [{"role": "user", "content": "What is the weather in Paris right now? Use the tool."}]


class Person(pydantic.BaseModel):
    """A person."""
    name: str
    age: int


ADA = "Ada Lovelace is 36 years old. Extract the person as JSON with name and age."


def create(messages, **more):
    return client.chat.completions.create(model=MODEL, messages=messages, temperature=0, **more)


def user(text):
    return [{"role": "user", "content": text}]


def openai_chat():
    """chat: a question, a second turn; greedy streams add up to the whole answer"""
    turns = user("What is the capital of France? Answer in one word.")
    answer = create(turns, max_tokens=20)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop"
    turns += [answer.choices[0].message, *user("And of Germany?")]
    assert "Berlin" in create(turns, max_tokens=40).choices[0].message.content
    for asked in (user("Count from 1 to 12."), user("Schreibe einen Satz über Äpfel. 再用中文写一句话。 Add an emoji.")):
        whole = create(asked, max_tokens=80)
        chunks = list(create(asked, max_tokens=80, stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content, (text, whole)
        assert chunks[-1].usage == whole.usage, (chunks[-1], whole.usage)
        assert "\ufffd" not in text, text


def openai_tools():
    """tool_choice auto, required, named, streamed; the tool's result in an answer"""
    for choice in ("auto", "required", {"type": "function", "function": {"name": "get_weather"}}):
        whole = create(ASKED, tools=[WEATHER], tool_choice=choice, max_tokens=100).choices[0]
        call = whole.message.tool_calls[0].function
        assert call.name == "get_weather" and "Paris" in json.loads(call.arguments)["city"], (choice, whole)
        pieces = [c.choices[0].delta.tool_calls[0].function.arguments for c in create(
            ASKED, tools=[WEATHER], tool_choice=choice, max_tokens=100, stream=True)
            if c.choices and c.choices[0].delta.tool_calls]
        assert "".join(p or "" for p in pieces) == call.arguments, (pieces, call)
    first = create(ASKED, tools=[WEATHER], max_tokens=100).choices[0].message
    turns = [*ASKED, first, {"role": "tool", "tool_call_id": first.tool_calls[0].id,
                             "content": '{"temperature_celsius": 31, "sky": "cloudless"}'}]
    said = create(turns, max_tokens=100).choices[0].message.content  # with the tool a small model calls it for ever
    assert "31" in said, said


def openai_structured():
    """parse with a pydantic model, the stream helper, json_object; regex and choice by extra_body"""
    assert client.chat.completions.parse(model=MODEL, messages=user(ADA), response_format=Person, temperature=0) \
        .choices[0].message.parsed == Person(name="Ada Lovelace", age=36)
    with client.chat.completions.stream(model=MODEL, messages=user(ADA), response_format=Person,
                                        temperature=0) as stream:
        assert stream.until_done().get_final_completion().choices[0].message.parsed.age == 36
    assert json.loads(create(user(ADA), response_format={"type": "json_object"}, max_tokens=100)
                      .choices[0].message.content)
    for form, wanted in (({"regex": r"\d{1,3}"}, "36"), ({"choice": ["young", "36", "old"]}, "36")):
        said = create(user("How old is she? Ada Lovelace is 36 years old."), max_tokens=10,
                      extra_body={"structured_outputs": form}).choices[0].message.content
        assert said == wanted, said


def openai_responses():
    """responses: whole, streamed, parse, a function call"""
    whole = client.responses.create(model=MODEL, input="What is the capital of France?", temperature=0,
                                    max_output_tokens=40)
    assert "Paris" in whole.output_text, whole
    text = "".join(e.delta for e in client.responses.create(
        model=MODEL, input="What is the capital of France?", temperature=0, max_output_tokens=40, stream=True)
        if e.type == "response.output_text.delta")
    assert text == whole.output_text, (text, whole.output_text)
    assert client.responses.parse(model=MODEL, input=ADA, text_format=Person, temperature=0).output_parsed.age == 36
    called = client.responses.create(model=MODEL, input=ASKED[0]["content"], temperature=0, max_output_tokens=100,
                                     tools=[{"type": "function", **WEATHER["function"]}])
    assert [i.name for i in called.output if i.type == "function_call"] == ["get_weather"], called.output


@langchain_core.tools.tool
def get_weather(city: str) -> str:
    """Returns the current weather in a city."""
    return f"It is 31 degrees Celsius and cloudless in {city}."


def langchain_chat():
    """invoke, stream, bind_tools, with_structured_output by its three methods, a tool's result"""
    assert "Paris" in chat.invoke("What is the capital of France?", max_tokens=30).content
    assert "Paris" in "".join(c.content for c in chat.stream("What is the capital of France?", max_tokens=30))
    calls = chat.bind_tools([get_weather]).invoke(ASKED).tool_calls
    assert [c["name"] for c in calls] == ["get_weather"], calls
    for method in ("json_schema", "function_calling", "json_mode"):
        assert chat.with_structured_output(Person, method=method).invoke(ADA).age == 36, method
    first = chat.bind_tools([get_weather]).invoke(ASKED)
    said = chat.invoke([*ASKED, first, get_weather.invoke(first.tool_calls[0])], max_tokens=100).content
    assert "31" in said, said


def instructor_modes():
    """Mode.TOOLS, Mode.JSON, Mode.JSON_SCHEMA"""
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA):
        ask = instructor.from_openai(client, mode=mode).chat.completions.create
        found = ask(model=MODEL, response_model=Person, messages=user(ADA), temperature=0, max_retries=0)
        assert (found.name, found.age) == ("Ada Lovelace", 36), (mode, found)


def main():
    failed = False
    for package, check in (("openai", openai_chat), ("openai", openai_tools), ("openai", openai_structured),
                           ("openai", openai_responses), ("langchain-openai", langchain_chat),
                           ("instructor", instructor_modes)):
        error, start = None, time.monotonic()
        try:
            check()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            error = traceback.format_exc(limit=-1).strip().splitlines()[-1][:600]
            failed = True
        print(json.dumps({"client": package, "version": importlib.metadata.version(package), "what": check.__doc__,
                          "error": error, "s": round(time.monotonic() - start, 1)}), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
