"""What the scripted model says to the clients, and the chat template that chooses it.

A scene is asked for by its name with an @ in a user's message. Its first text answers that message; each
assistant message after it leads to the next text, so that a client which runs a tool gets what follows.
The prompt is that of the model's own template; one token behind it, which names the text, decides.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))

from replay_model import make, start  # noqa: E402

JSON = '{"name": "Ada", "age": 36}'


def thought(i):
    """What stands before each text, as Qwen3 does; no two are equal."""
    return f"First I weigh thing {i}."


def call(function, **arguments):
    return ('<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'
            % (function, json.dumps(arguments, ensure_ascii=False)))


SCENES = {
    "plain": ["Just an answer, no tag at all."],
    "think": ["The answer is 42."],
    "weather": [call("get_weather", city="Paris"), "It is sunny in Paris."],
    "two": [call("add", a=1, b=2) + "\n" + call("add", a=30, b=40), "The sums are 3 and 70."],
    "json": [JSON],
    # Forced calls, by the names that the clients give to a schema.
    "Person": [call("Person", name="Ada", age=36)],
    "final_result": [call("final_result", name="Ada", age=36)],
    # smolagents: an agent ends by a tool of its own, or writes a program.
    "smol": [call("get_weather", city="Paris"), call("final_answer", answer="It is sunny.")],
    "program": ['I ask for the weather.\n<code>\nprint("It is " + get_weather(city="Paris"))\n</code>',
                'Now I know.\n<code>\nfinal_answer("It is sunny.")\n</code>'],
    # Tools of the coding agents.
    "codex": [call("exec_command", cmd="echo marker-$((20+3))"), "The command printed its marker."],
    "claude": [call("Bash", command="echo marker-$((20+3))", description="Prints a marker"),
               "The shell printed its marker."],
    "qwen": [call("run_shell_command", command="echo marker-$((20+3))", is_background=False),
             "The terminal printed its marker."],
}
OTHERWISE = "A title of few words"  # to what asks for no scene, such as an agent's request for a title

CHOICE = """
{%- set at = namespace(scene='', turn=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- for scene in scenes %}
            {%- if '@' + scene in message.content %}
                {%- set at.scene = scene %}
                {%- set at.turn = 0 %}
            {%- endif %}
        {%- endfor %}
    {%- elif message.role == 'assistant' %}
        {%- set at.turn = at.turn + 1 %}
    {%- endif %}
{%- endfor %}
{%- set texts = scenes.get(at.scene, [0]) %}
{{- '<|start_' ~ texts[[at.turn, texts|length - 1]|min] ~ '|>' }}
"""


def write_model(folder, longest=262144):
    """Writes the scripted checkpoint into a new `folder`; returns the path of its template."""
    folder.mkdir()
    texts, places = [OTHERWISE], {}
    for name, said in SCENES.items():
        places[name] = list(range(len(texts), len(texts) + len(said)))
        texts += said
    make(folder, [[f"<think>\n{thought(i)}\n</think>", text] for i, text in enumerate(texts)])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": longest}))
    own = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    template = folder / "scenes.jinja"
    assert start(7) == "<|start_7|>"
    template.write_text(own + "{%- set scenes = " + json.dumps(places) + " %}" + CHOICE)
    return template
