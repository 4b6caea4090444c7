"""pydantic-ai: agents over OpenAI's chat and Responses."""

import pydantic
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from check import MODEL, PERSON, URL, equal, run


def models():
    # Anew for each check: a client belongs to the event loop that it was first used in.
    provider = OpenAIProvider(base_url=URL + "/v1", api_key="none")
    yield OpenAIChatModel(MODEL, provider=provider)
    yield OpenAIResponsesModel(MODEL, provider=provider)


class Person(pydantic.BaseModel):
    name: str
    age: int


async def check_agent():
    """an agent that calls a tool: chat, Responses"""
    for model in models():
        agent = Agent(model)

        @agent.tool_plain
        def get_weather(city: str) -> str:
            return f"sunny in {city}"
        equal((await agent.run("Now @weather")).output, "It is sunny in Paris.")


async def check_typed_output():
    """output_type, by a tool that must be called (chat)"""
    equal((await Agent(next(models()), output_type=Person).run("Now @final_result")).output, Person(**PERSON))


async def check_stream():
    """run_stream: chat, Responses"""
    for model in models():
        async with Agent(model).run_stream("Now @plain") as result:
            equal(await result.get_output(), "Just an answer, no tag at all.")


if __name__ == "__main__":
    run("pydantic-ai-slim", globals())
