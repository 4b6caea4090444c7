"""LangChain's ChatOpenAI: invoke, stream, tools, structured output, an agent."""

import langchain.agents
import langchain_core.tools
import langchain_openai
import pydantic

from check import MODEL, PERSON, URL, equal, run

chat = langchain_openai.ChatOpenAI(base_url=URL + "/v1", api_key="none", model=MODEL, max_retries=0)


class Person(pydantic.BaseModel):
    """A person."""
    name: str
    age: int


@langchain_core.tools.tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@langchain_core.tools.tool
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def check_invoke():
    """invoke, batch, stream with usage"""
    equal(chat.invoke("Now @plain").content, "Just an answer, no tag at all.")
    equal([m.content for m in chat.batch(["Now @plain", "Now @think"])],
          ["Just an answer, no tag at all.", "The answer is 42."])
    whole = None
    for chunk in chat.stream("Now @plain", stream_usage=True):
        whole = chunk if whole is None else whole + chunk
    equal(whole.content, "Just an answer, no tag at all.")
    assert whole.usage_metadata["output_tokens"] > 0


def check_tools():
    """bind_tools: calls whole and streamed, several, tool_choice any and by name"""
    tools = chat.bind_tools([get_weather, add])
    expected = [("add", {"a": 1, "b": 2}), ("add", {"a": 30, "b": 40})]
    equal([(c["name"], c["args"]) for c in tools.invoke("Now @two").tool_calls], expected)
    whole = None
    for chunk in tools.stream("Now @two"):
        whole = chunk if whole is None else whole + chunk
    equal([(c["name"], c["args"]) for c in whole.tool_calls], expected)
    for choice in ("any", "get_weather"):
        forced = chat.bind_tools([get_weather], tool_choice=choice).invoke("Now @weather")
        equal([c["args"] for c in forced.tool_calls], [{"city": "Paris"}])


def check_structured():
    """with_structured_output: json_schema, function_calling, json_mode"""
    for method, scene in (("json_schema", "json"), ("function_calling", "Person"), ("json_mode", "json")):
        found = chat.with_structured_output(Person, method=method).invoke(f"Now @{scene} as JSON")
        equal(found, Person(**PERSON))


def check_agent():
    """create_agent: a tool is called, its result goes back, invoked and streamed"""
    agent = langchain.agents.create_agent(chat, tools=[get_weather])
    given = {"messages": [{"role": "user", "content": "Now @weather"}]}
    messages = agent.invoke(given)["messages"]
    equal([m.type for m in messages], ["human", "ai", "tool", "ai"])
    equal(messages[-1].content, "It is sunny in Paris.")
    for state in agent.stream(given, stream_mode="values"):
        last = state["messages"][-1]
    equal(last.content, "It is sunny in Paris.")


def check_responses():
    """ChatOpenAI(use_responses_api=True): invoke, stream, an agent"""
    chat = langchain_openai.ChatOpenAI(base_url=URL + "/v1", api_key="none", model=MODEL, max_retries=0,
                                       use_responses_api=True)
    equal(chat.invoke("Now @plain").text, "Just an answer, no tag at all.")
    equal("".join(c.text for c in chat.stream("Now @plain")), "Just an answer, no tag at all.")
    agent = langchain.agents.create_agent(chat, tools=[get_weather])
    messages = agent.invoke({"messages": [{"role": "user", "content": "Now @weather"}]})["messages"]
    equal(messages[-1].text, "It is sunny in Paris.")


if __name__ == "__main__":
    run("langchain-openai", globals())
