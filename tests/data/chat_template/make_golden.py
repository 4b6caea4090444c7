"""Writes qwen3.jinja and qwen3_golden.jsonl: 200 random conversations as transformers renders them.

    python make_golden.py TOKENIZER_DIR

TOKENIZER_DIR holds Qwen3's tokenizer.json and tokenizer_config.json. Each line of the golden file
is {"values": the template's variables, "text": the rendering, "ids": its tokens}.
"""

import json
import pathlib
import random
import sys

from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).parent
WORDS = ["hello", "world", "<b>&amp;</b>", "it's", '"quoted"', "客单价", "Привет", "🌶️👩‍👩‍👧", "naïve",
         "x < y && y > z", "a\tb", "line\nbreak", "  spaces  ", "𝛼²", "</think>", "back\\slash", "日本語",
         "<tool_response>", "</tool_response>", "{% raw %}", "{{ x }}", "\r\n", "e\u0301", "1234567890"]


def text(rng, most=8):
    return " ".join(rng.choice(WORDS[:20] if rng.random() < 0.9 else WORDS)
                    for _ in range(rng.randint(1, most)))


def value(rng, depth=0):
    kind = rng.randrange(9 if depth < 3 else 7)
    if kind == 0:
        return rng.choice([0, -1, 7, 2**53 + 1, 10**18, -(2**63)])
    if kind == 1:
        return rng.choice([0.0, -0.5, 1.0, 3.14159, 1e-7, 1e16, 123456789.125, 1e22, 0.1, 5e-324])
    if kind == 2:
        return rng.choice([True, False])
    if kind == 3:
        return None
    if kind < 7:
        return text(rng, 3)
    if kind == 7:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["b", "a", "Ключ", "k<>", "z'"]) + str(i): value(rng, depth + 1)
            for i in range(rng.randrange(4))}


def arguments(rng):
    made = {f"arg{i}" if rng.random() < 0.8 else f"参数{i}": value(rng) for i in range(rng.randrange(4))}
    return made if rng.random() < 0.7 else json.dumps(made, ensure_ascii=rng.random() < 0.5)


def tool(rng):
    return {"type": "function", "function": {
        "name": f"tool_{rng.randrange(9)}", "description": text(rng),
        "parameters": {"type": "object", "properties": {
            "q": {"type": "string", "description": text(rng), "default": value(rng)}}, "required": ["q"]}}}


def assistant(rng):
    message = {"role": "assistant", "content": text(rng)}
    if rng.random() < 0.3:
        message["content"] = f"<think>\n{text(rng)}\n</think>\n\n{text(rng)}"
    elif rng.random() < 0.3:
        message["reasoning_content"] = rng.choice([text(rng), "", None])
    return message


def conversation(rng):
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": text(rng)})
    for _ in range(rng.randint(1, 4)):
        messages.append({"role": "user", "content": text(rng, 300 if rng.random() < 0.02 else 12)})
        if rng.random() < 0.5:
            call = assistant(rng)
            if rng.random() < 0.5:
                call["content"] = ""
            calls = rng.randint(1, 3)
            call["tool_calls"] = []
            for i in range(calls):
                function = {"name": f"tool_{rng.randrange(9)}", "arguments": arguments(rng)}
                call["tool_calls"].append(
                    {"type": "function", "id": f"call_{i}", "function": function}
                    if rng.random() < 0.8 else function)
            messages.append(call)
            messages += [{"role": "tool", "content": text(rng)} for _ in range(calls)]
        if rng.random() < 0.7:
            messages.append(assistant(rng))
    values = {"messages": messages, "add_generation_prompt": rng.random() < 0.6}
    if rng.random() < 0.4:
        values["tools"] = [tool(rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.6:
        values["enable_thinking"] = rng.random() < 0.5
    return values


def main():
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    (HERE / "qwen3.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    rng = random.Random(20251125)
    with open(HERE / "qwen3_golden.jsonl", "w", encoding="utf-8") as out:
        for _ in range(200):
            values = conversation(rng)
            rendered = tokenizer.apply_chat_template(
                values["messages"], tools=values.get("tools"), tokenize=False,
                add_generation_prompt=values["add_generation_prompt"],
                **{k: v for k, v in values.items() if k == "enable_thinking"})
            ids = tokenizer(rendered, add_special_tokens=False).input_ids
            out.write(json.dumps({"values": values, "text": rendered, "ids": ids},
                                 ensure_ascii=False, separators=(",", ":")) + "\n")


main()
