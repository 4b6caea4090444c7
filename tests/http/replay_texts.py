"""What the replay model says (replay_model.py), by name."""

WEATHER = '{"city": "北京 \\"x\\"", "days": [1, 2], "deep": {"a": null}}'


def call(name, arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


TEXTS = {
    "plain": "Just an answer, no tag at all.",
    "thought": "<think>\nFirst I weigh it.\n</think>\n\nThe answer is 42.",
    "opened": "so it is in the prompt</think>\n\nDone here.",
    "no_think": "<think>\n\n</think>\n\nShort reply.",
    "endless": "<think>\nI go on and on without an end",
    "call": "Let me look.\n" + call("get_weather", WEATHER),
    "calls": call("first", "{}") + "\n" + call("second", '{"n": 1e400}'),
    "thinks_and_calls": "<think>\nA tool would do.\n</think>\n\n" + call("lookup", '{"q": "价格"}'),
    "broken": "<tool_call>\nthis is no JSON\n</tool_call> and so on",
    "cut": "Hm. " + call("long_one", '{"text": "' + " ".join(f"word{i}" for i in range(40)) + '"}'),
    "tool_stop": "almost a <tool ENDHERE and more",
}
