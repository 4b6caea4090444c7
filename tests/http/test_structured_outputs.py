"""Structured outputs with the real openai client: the answers of a random model, every token of which is
about equally likely, obey what was asked; jsonschema and re decide."""

import json
import os
import random
import re
import resource

import jsonschema
import openai
import pydantic
import pytest

from replay_model import start
from replay_texts import TEXTS
from tiny_model import NAME

SCHEMA = {"type": "object", "additionalProperties": False, "required": ["name", "kind"],
          "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 8},
                         "kind": {"enum": ["é", "中文", 3, None]},
                         "sizes": {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 500},
                                   "maxItems": 3}}}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("first", "second")]
COMPACT = {"disable_any_whitespace": True}


def chat(client, **fields):
    fields.setdefault("max_tokens", 600)
    return client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "x"}], **fields)


def random_schema(rng, depth=3):
    """A schema of what is offered, with bounds that keep a random model's answer short."""
    kind = rng.choice(["string", "integer", "number", "boolean", "null", "enum", "const", "anyOf"] +
                      (["object", "array"] * 3 if depth else []))
    if kind == "enum":
        return {"enum": rng.sample(["a", "b\"c", "中", 1, 2.5, None, True, [1], {"k": "v"}], rng.randint(1, 4))}
    if kind == "const":
        return {"const": rng.choice(["x", 7, {"a": [None]}, "\\"])}
    if kind == "anyOf":
        return {"anyOf": [random_schema(rng, 0) for _ in range(2)]}
    if kind == "string":
        return rng.choice([{"type": "string", "minLength": 1, "maxLength": rng.randint(1, 6)},
                           {"type": "string", "pattern": "^[a-c]{2,4}(x|yz)$"},
                           {"type": "string", "format": rng.choice(["date", "uuid", "ipv4"])}])
    if kind == "integer":
        low = rng.randint(-1000, 1000)
        return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 300)}
    if kind == "number":
        return {"type": "number", "minimum": 0, "maximum": rng.randint(1, 9), "multipleOf": 0.5}
    if kind == "array":
        low = rng.randint(0, 2)
        return {"type": "array", "items": random_schema(rng, depth - 1), "minItems": low, "maxItems": low + 2}
    if kind == "object":
        names = rng.sample(["a", "b", "long name", "é", "q\"t"], rng.randint(0, 4))
        return {"type": "object", "properties": {n: random_schema(rng, depth - 1) for n in names},
                "required": [n for n in names if rng.random() < 0.6], "additionalProperties": False}
    return {"type": kind}


def test_random_schemas(server):
    """Also at random temperatures, with several samples; a `length` alone excuses an answer."""
    rng = random.Random(11)
    ended = 0
    count = int(os.environ.get("SCHEMAS", "150"))
    for i in range(count):
        schema = random_schema(rng)
        answer = server.post("/v1/completions", {
            "model": NAME, "prompt": f"{i}", "max_tokens": 400, "n": 1 + 2 * (i % 3 > 0), "seed": i,
            "temperature": i % 3, "top_p": rng.choice([1, 0.9]),
            "structured_outputs": {"json": schema, **(COMPACT if i % 2 else {})}})
        assert answer.status_code == 200, (schema, answer.text)
        for choice in answer.json()["choices"]:
            if choice["finish_reason"] == "length":
                continue
            ended += 1
            jsonschema.validate(json.loads(choice["text"]), schema,
                                format_checker=jsonschema.FormatChecker())
    assert ended > 1.8 * count


def test_openai_client_parses_models(client):
    class Size(pydantic.BaseModel):
        width: int = pydantic.Field(ge=1, le=9)
        unit: str = pydantic.Field(pattern="^(cm|in)$")

    answer = client.chat.completions.parse(model=NAME, messages=[{"role": "user", "content": "x"}],
                                           response_format=Size, max_tokens=600)
    assert 1 <= answer.choices[0].message.parsed.width <= 9
    with client.chat.completions.stream(model=NAME, messages=[{"role": "user", "content": "x"}],
                                        response_format=Size, max_tokens=600) as stream:
        assert stream.get_final_completion().choices[0].message.parsed.unit in ("cm", "in")


def test_kinds(server):
    def text(**constraint):
        answer = server.post("/v1/completions", {"model": NAME, "prompt": "x", "max_tokens": 300,
                                                 "structured_outputs": constraint})
        assert answer.status_code == 200, answer.text
        choice = answer.json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        return choice["text"]

    for _ in range(5):
        assert text(choice=["yes", "no", "中\n"]) in ("yes", "no", "中\n")
        assert re.fullmatch(r"[a-f]{2,8}@(x|y)\.com", text(regex=r"[a-f]{2,8}@(x|y)\.com"))
        assert re.fullmatch(r"[01]+(-[01]+)?", text(grammar="root ::= b (\"-\" b)?\nb ::= [01] | [01] [01]"))
        assert re.fullmatch(r"\(*x\)*", text(grammar="start: \"(\" start \")\" | \"x\""))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "second"}}])
def test_tools_that_must_be_called(client, stream, choice):
    """Without --tool-call-parser, as in vLLM."""
    for seed in range(3):
        fields = dict(tools=TOOLS, tool_choice=choice, seed=seed, parallel_tool_calls=False, max_tokens=1500)
        if stream:
            calls, content, finish = {}, "", None
            for chunk in chat(client, stream=True, **fields):
                for c in chunk.choices:
                    content += c.delta.content or ""
                    finish = c.finish_reason or finish
                    for piece in c.delta.tool_calls or []:
                        name, arguments = calls.get(piece.index, ("", ""))
                        calls[piece.index] = (name + (piece.function.name or ""),
                                              arguments + (piece.function.arguments or ""))
            calls = list(calls.values())
        else:
            answer = chat(client, **fields).choices[0]
            calls = [(c.function.name, c.function.arguments) for c in answer.message.tool_calls]
            content, finish = answer.message.content or "", answer.finish_reason
        assert content == "" and len(calls) == 1
        assert finish == ("tool_calls" if choice == "required" else "stop")
        assert calls[0][0] in (("first", "second") if choice == "required" else ("second",))
        jsonschema.validate(json.loads(calls[0][1]), SCHEMA)


def test_the_same_alone_and_in_company(server, make_server):
    """Penalties, stops, minimal lengths, log-probabilities: equal tokens with and without asynchronous
    scheduling, alone and beside others."""
    bodies = []
    for i, constraint in enumerate([{"json": SCHEMA}, {"regex": "(ab|c|d{2}){3,30}"}, {"choice": ["aa", "ab"]},
                                    {"json": {"type": "array", "items": {"type": "string"}}}] * 3):
        bodies.append({"model": NAME, "prompt": f"p{i}", "max_tokens": 60, "seed": i, "temperature": 1.5,
                       "logprobs": 3, "structured_outputs": {**constraint, **(COMPACT if "json" in constraint else {})},
                       "return_token_ids": True,
                       **[{"presence_penalty": 1.5}, {"min_tokens": 20}, {"stop": ["d", "\""]}, {"ignore_eos": True}][i % 4]})
    plain = make_server("--max-model-len", "2048", "--no-async-scheduling", "--max-num-seqs", "3",
                        "--generation-config", "vllm")
    alone = [plain.post("/v1/completions", body).json()["choices"][0] for body in bodies]
    from concurrent.futures import ThreadPoolExecutor
    for target in (server, plain):
        with ThreadPoolExecutor(12) as pool:
            together = list(pool.map(lambda b: target.post("/v1/completions", b).json()["choices"][0], bodies))
        assert together == alone
    ends = [c["finish_reason"] for c in alone]
    assert "stop" in ends and "length" in ends  # ignore_eos goes on behind the end
    for choice in alone:
        for token, best in zip(choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]):
            assert token <= 0 and all(-9999 <= v <= 0 for v in best.values())


def test_thought_is_free_and_the_answer_is_not(replay_server):
    def ask(name, **fields):
        message = replay_server.client().chat.completions.create(
            model=NAME, temperature=0, messages=[{"role": "user", "content": start(list(TEXTS).index(name))}],
            **fields).choices[0].message
        return message.reasoning, message.content

    thought, said = ask("thought", extra_body={"structured_outputs": {"regex": "[A-Z]{5}[0-9]"}})
    assert thought == ask("thought")[0] and re.fullmatch("[A-Z]{5}[0-9]", said)
    thought, said = ask("endless", max_tokens=60, extra_body={"thinking_token_budget": 4,
                                                              "structured_outputs": {"choice": ["up", "down"]}})
    assert said in ("up", "down")
    tokens = replay_server.tokens("<think>" + thought)
    assert len(tokens) <= 6 and "\nI go".startswith(thought[:4])
    answer = replay_server.client().chat.completions.create(
        model=NAME, temperature=0, tools=TOOLS, tool_choice="required", max_tokens=2000,
        messages=[{"role": "user", "content": start(list(TEXTS).index("thought"))}]).choices[0]
    assert answer.message.reasoning == ask("thought")[0]
    for call in answer.message.tool_calls:
        if answer.finish_reason == "tool_calls":
            jsonschema.validate(json.loads(call.function.arguments), SCHEMA)


def test_refusals_name_the_fault(client):
    for fields, word in (({"response_format": {"type": "json_schema", "json_schema": {
                             "name": "n", "schema": {"type": "object", "if": {}}}}}, "if"),
                         ({"extra_body": {"structured_outputs": {"regex": "a(?=b)"}}}, "regex"),
                         ({"extra_body": {"structured_outputs": {"grammar": "root ::= ("}}}, "grammar"),
                         ({"extra_body": {"structured_outputs": {"json": {"$ref": "http://x.org/y"}}}}, "x.org")):
        with pytest.raises(openai.BadRequestError) as error:
            chat(client, **fields)
        assert word in error.value.message, error.value.message


def test_pattern_properties_end(server):
    """A known fault elsewhere: endless white space in place of properties by pattern."""
    schema = {"type": "object", "patternProperties": {"^a[0-9]$": {"type": "boolean"}},
              "additionalProperties": False, "minProperties": 1}
    answer = server.post("/v1/completions", {"model": NAME, "prompt": "x", "max_tokens": 400, "seed": 1,
                                             "structured_outputs": {"json": schema}})
    if answer.status_code == 400:
        assert "Properties" in answer.text
    else:
        jsonschema.validate(json.loads(answer.json()["choices"][0]["text"]), schema)


def test_no_room_to_compile_is_the_servers_fault(make_server):
    server = make_server()
    pid = server.process.pid

    def ask(pattern):
        return server.post("/v1/completions", {"prompt": "x", "max_tokens": 3,
                                               "structured_outputs": {"regex": pattern}})

    assert ask("[ab]+").status_code == 200
    unlimited = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(open(f"/proc/{pid}/statm").read().split()[0])
    # Room for all but the stack of a thread that compiles.
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + (200 << 20), unlimited[1]))
    refused = ask("[cd]+")
    assert refused.status_code == 503 and refused.headers["Retry-After"], refused.text
    assert ask("[ab]+").status_code == 200  # kept
    resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
    assert ask("[cd]+").status_code == 200
