"""LiteLLM with the providers hosted_vllm and openai."""

import json

import litellm

from check import MODEL, URL, equal, run

litellm.suppress_debug_info = True
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
PROVIDERS = ("hosted_vllm", "openai")


def complete(provider, scene, **more):
    return litellm.completion(f"{provider}/{MODEL}", [{"role": "user", "content": f"Now @{scene}"}],
                              api_base=URL + "/v1", api_key="none", max_retries=0, **more)


def check_chat():
    """completion, whole and streamed, with reasoning_content (hosted_vllm/, openai/)"""
    for provider in PROVIDERS:
        message = complete(provider, "think").choices[0].message
        equal(message.content, "The answer is 42.")
        assert "I weigh" in message.reasoning_content
        chunks = list(complete(provider, "think", stream=True, stream_options={"include_usage": True}))
        built = litellm.stream_chunk_builder(chunks)
        equal(built.choices[0].message.content, "The answer is 42.")
        assert built.usage.completion_tokens > 0


def check_tools():
    """tools, whole and streamed (hosted_vllm/, openai/)"""
    for provider in PROVIDERS:
        whole = complete(provider, "weather", tools=[WEATHER])
        streamed = litellm.stream_chunk_builder(list(complete(provider, "weather", tools=[WEATHER], stream=True)))
        for answer in (whole, streamed):
            equal(json.loads(answer.choices[0].message.tool_calls[0].function.arguments), {"city": "Paris"})


def check_errors():
    """ContextWindowExceededError by class"""
    for provider in PROVIDERS:
        try:
            complete(provider, "plain" + " x" * 300000)
        except litellm.ContextWindowExceededError:
            continue
        raise AssertionError("no ContextWindowExceededError")


async def check_async():
    """acompletion, aresponses"""
    answer = await litellm.acompletion(f"hosted_vllm/{MODEL}", [{"role": "user", "content": "Now @plain"}],
                                       api_base=URL + "/v1", api_key="none")
    equal(answer.choices[0].message.content, "Just an answer, no tag at all.")
    answer = await litellm.aresponses(model=f"openai/{MODEL}", input="Now @plain", api_base=URL + "/v1",
                                      api_key="none")
    equal(answer.output_text, "Just an answer, no tag at all.")


if __name__ == "__main__":
    run("litellm", globals())
