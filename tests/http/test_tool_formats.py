"""Tool calls in the forms of other models, with the real openai client and a model that says given texts."""

import json

import pytest

from serving import Server
from replay_model import make, start
from tiny_model import NAME

SCHEMA = {"type": "object", "properties": {
    "city": {"type": "string"}, "days": {"type": "integer"}, "now": {"type": "boolean"},
    "more": {"type": "array"}, "note": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "mixed": {"type": ["string", "number"]}}}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("get_weather", "other")]
ARGUMENTS = {"city": "北京 \"x\"\nline", "days": 3, "now": True, "more": [1, {"a": None}], "note": None, "mixed": 2.5}

XML = """<tool_call>
<function=get_weather>
<parameter=city>
北京 "x"
line
</parameter>
<parameter=days>
3
</parameter>
<parameter=now>
True
</parameter>
<parameter=more>
[1, {"a": null}]
</parameter>
<parameter=note>
null
</parameter>
<parameter=mixed>
2.5
</parameter>
</function>
</tool_call>"""
# parser: (an answer with one call, one with two, one with none)
FORMS = {
    "qwen3_coder": ("I look. " + XML, XML + "\n<tool_call>\n<function=other>\n</function>\n</tool_call>",
                    "just <b>text</b>"),
    "llama3_json": (json.dumps({"name": "get_weather", "parameters": ARGUMENTS}, ensure_ascii=False),
                    json.dumps({"name": "get_weather", "parameters": ARGUMENTS}) + '; {"name": "other", "parameters": {}}',
                    '{"just": "an object"}'),
    "pythonic": ("""[get_weather(city='北京 "x"\\nline', days=3, now=True, more=[1, {'a': None}], note=None, mixed=2.5)]""",
                 """[get_weather(city="北京 \\"x\\"\\nline", days=3, now=True, more=[1, {"a": None}], note=None, mixed=2.5), other()]""",
                 "[1, 2, 3]"),
}


@pytest.fixture(scope="module", params=FORMS)
def form(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    make(folder, list(FORMS[request.param]))
    template = folder / "last.jinja"
    template.write_text("{{ messages[-1].content }}")
    server = Server("--load-format", "auto", "--chat-template", str(template), "--enable-auto-tool-choice",
                    "--tool-call-parser", request.param, model=folder)
    yield server, FORMS[request.param]
    server.stop()


def ask(server, index, **fields):
    return server.client().chat.completions.create(
        model=NAME, temperature=0, tools=TOOLS, messages=[{"role": "user", "content": start(index)}], **fields)


@pytest.mark.parametrize("index, names", [(0, ["get_weather"]), (1, ["get_weather", "other"]), (2, [])])
def test_calls_are_found_whole_and_streamed(form, index, names):
    server, texts = form
    choice = ask(server, index).choices[0]
    calls = choice.message.tool_calls or []
    assert [c.function.name for c in calls] == names
    assert [json.loads(c.function.arguments) for c in calls] == [ARGUMENTS, {}][:len(names)]
    assert choice.finish_reason == ("tool_calls" if names else "stop")
    if not names:
        assert choice.message.content == texts[2]
    content, streamed = "", []
    for chunk in ask(server, index, stream=True):
        delta = chunk.choices[0].delta
        content += delta.content or ""
        for piece in delta.tool_calls or []:
            if piece.index == len(streamed):
                streamed.append([piece.function.name, ""])
            streamed[piece.index][1] += piece.function.arguments or ""
    assert [[c.function.name, c.function.arguments] for c in calls] == streamed
    assert content == (choice.message.content or "")


def test_forced_calls_have_the_form_that_forces_them(form):
    server, _ = form
    choice = ask(server, 2, tool_choice="required", max_tokens=400).choices[0]
    assert choice.message.tool_calls[0].function.name in ("get_weather", "other")
