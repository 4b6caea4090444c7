"""smolagents: its model over chat completions, an agent that calls tools, one that writes code."""

from smolagents import CodeAgent, OpenAIServerModel, ToolCallingAgent, tool

from check import MODEL, URL, equal, run

PLAIN = "Just an answer, no tag at all."


def model(**more):
    return OpenAIServerModel(model_id=MODEL, api_base=URL + "/v1", api_key="none", **more)


@tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: Which.
    """
    return f"sunny in {city}"


def user(scene):
    return [{"role": "user", "content": [{"type": "text", "text": f"Now @{scene}"}]}]


def check_model():
    """OpenAIServerModel: generate, generate_stream, tools_to_call_from"""
    equal(model().generate(user("plain")).content, PLAIN)
    deltas = list(model().generate_stream(user("plain")))
    equal("".join(d.content or "" for d in deltas), PLAIN)
    assert any(d.token_usage and d.token_usage.output_tokens > 0 for d in deltas), deltas
    call = model().generate(user("weather"), tools_to_call_from=[get_weather]).tool_calls[0]
    equal((call.function.name, call.function.arguments), ("get_weather", '{"city": "Paris"}'))


def check_tool_agent():
    """ToolCallingAgent (tool_choice required, a stop string): a tool, then its final_answer; whole and streamed"""
    for stream in (False, True):
        agent = ToolCallingAgent(tools=[get_weather], model=model(), stream_outputs=stream, max_steps=3)
        equal(agent.run("Now @smol"), "It is sunny.")
        assert "sunny in Paris" in str(agent.memory.steps[1].observations), agent.memory.steps[1]


def check_code_agent():
    """CodeAgent (a stop string behind the code): two steps, whole and streamed"""
    for stream in (False, True):
        agent = CodeAgent(tools=[get_weather], model=model(), stream_outputs=stream, max_steps=3)
        equal(agent.run("Now @program"), "It is sunny.")
        assert "It is sunny in Paris" in agent.memory.steps[1].observations, agent.memory.steps[1]


if __name__ == "__main__":
    run("smolagents", globals())
