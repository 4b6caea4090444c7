"""LlamaIndex's OpenAILike: chat, streams, tools, structured output, an agent."""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
import pydantic

from check import MODEL, PERSON, URL, equal, run

PLAIN, THINK, SUNNY = "Just an answer, no tag at all.", "The answer is 42.", "It is sunny in Paris."


def llm(**more):
    return OpenAILike(model=MODEL, api_base=URL + "/v1", api_key="none", is_chat_model=True,
                      is_function_calling_model=True, max_retries=0, context_window=262144, **more)


class Person(pydantic.BaseModel):
    """A person."""
    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def check_chat():
    """OpenAILike: chat, stream_chat, complete, stream_complete"""
    message = ChatMessage(role="user", content="Now @think")
    equal(llm().chat([message]).message.content, THINK)
    chunks = list(llm().stream_chat([message]))
    equal("".join(c.delta or "" for c in chunks), THINK)
    equal(chunks[-1].message.content, THINK)
    equal(llm().complete("Now @plain").text, PLAIN)
    equal(list(llm().stream_complete("Now @plain"))[-1].text, PLAIN)


async def check_async():
    """achat, astream_chat"""
    message = ChatMessage(role="user", content="Now @plain")
    equal((await llm().achat([message])).message.content, PLAIN)
    equal("".join([c.delta or "" async for c in await llm().astream_chat([message])]), PLAIN)


def check_completions():
    """OpenAILike(is_chat_model=False) over /v1/completions: complete, stream_complete"""
    model = OpenAILike(model=MODEL, api_base=URL + "/v1", api_key="none", is_chat_model=False, max_tokens=100)
    text = "<think>\nFirst I weigh thing 1.\n</think>" + PLAIN
    equal(model.complete("<|start_1|>").text, text)
    equal(list(model.stream_complete("<|start_1|>"))[-1].text, text)


def check_tools():
    """chat_with_tools whole and streamed, allow_parallel_tool_calls; predict_and_call"""
    tools = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(add)]
    expected = [("add", {"a": 1, "b": 2}), ("add", {"a": 30, "b": 40})]
    model = llm()
    for many in (True, False):
        asked = {"user_msg": "Now @two", "allow_parallel_tool_calls": many}
        for answer in (model.chat_with_tools(tools, **asked), list(model.stream_chat_with_tools(tools, **asked))[-1]):
            equal([(c.tool_name, c.tool_kwargs) for c in model.get_tool_calls_from_response(answer)],
                  expected if many else expected[:1])
    equal(str(model.predict_and_call(tools[:1], user_msg="Now @weather").response), "sunny in Paris")


def check_structured():
    """as_structured_llm: json_schema (should_use_structured_outputs) and by a tool"""
    for more, scene in (({"should_use_structured_outputs": True}, "json"), ({}, "Person")):
        equal(llm(**more).as_structured_llm(Person).complete(f"Now @{scene}").raw, Person(**PERSON))


async def check_agent():
    """FunctionAgent: a tool, its result, the answer; streaming on and off"""
    for streaming in (True, False):
        agent = FunctionAgent(tools=[get_weather], llm=llm(), streaming=streaming)
        equal(str(await agent.run("Now @weather")), SUNNY)


if __name__ == "__main__":
    run("llama-index-llms-openai-like", globals())
