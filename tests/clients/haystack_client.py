"""Haystack's OpenAIChatGenerator and OpenAIGenerator: whole, streamed, tools, structured output, an agent."""

import asyncio
import json
from typing import Annotated

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
import pydantic

from check import MODEL, PERSON, URL, equal, run

PLAIN, SUNNY = "Just an answer, no tag at all.", "It is sunny in Paris."


class Person(pydantic.BaseModel):
    name: str
    age: int


@tool
def get_weather(city: Annotated[str, "which"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def generator(**more):
    return OpenAIChatGenerator(api_key=Secret.from_token("none"), model=MODEL, api_base_url=URL + "/v1",
                               max_retries=0, **more)


def ask(scene, **more):
    return generator(**more).run([ChatMessage.from_user(f"Now @{scene}")])["replies"][0]


def check_chat():
    """OpenAIChatGenerator: run, streaming_callback, usage"""
    pieces = []
    streamed = ask("plain", streaming_callback=lambda c: pieces.append(c.content),
                   generation_kwargs={"stream_options": {"include_usage": True}})
    for answer in (ask("plain"), streamed):
        equal(answer.text, PLAIN)
        assert answer.meta["usage"]["completion_tokens"] > 0 and answer.meta["finish_reason"] == "stop", answer.meta
    equal("".join(pieces), PLAIN)


async def check_async():
    """run_async, several at once"""
    model = generator()
    answers = await asyncio.gather(*(model.run_async([ChatMessage.from_user("Now @plain")]) for _ in range(4)))
    equal({a["replies"][0].text for a in answers}, {PLAIN})


def check_tools():
    """tools: several calls, whole and streamed; tools_strict; tool_choice required"""
    expected = [("add", {"a": 1, "b": 2}), ("add", {"a": 30, "b": 40})]
    for more in ({}, {"streaming_callback": lambda _: None}, {"tools_strict": True}):
        answer = ask("two", tools=[get_weather, add], **more)
        equal([(c.tool_name, c.arguments) for c in answer.tool_calls], expected)
    forced = ask("weather", tools=[get_weather], generation_kwargs={"tool_choice": "required"})
    equal(forced.tool_calls[0].arguments, {"city": "Paris"})


def check_structured():
    """response_format: a pydantic model, a JSON schema"""
    schema = {"type": "json_schema", "json_schema": {"name": "Person", "strict": True,
                                                     "schema": {**Person.model_json_schema(),
                                                                "additionalProperties": False}}}
    for format_ in (Person, schema):
        equal(json.loads(ask("json", generation_kwargs={"response_format": format_}).text), PERSON)


def check_agent():
    """Agent: a tool, its result, the answer; whole and streamed"""
    for more in ({}, {"streaming_callback": lambda _: None}):
        agent = Agent(chat_generator=generator(), tools=[get_weather], **more)
        equal(agent.run([ChatMessage.from_user("Now @weather")])["messages"][-1].text, SUNNY)


if __name__ == "__main__":
    run("haystack-ai", globals())
