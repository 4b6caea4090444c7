"""A request gives the same tokens, log-probabilities and words for errors as over HTTP."""

import pytest
from tiercel import BeamSearchParams, SamplingParams, StructuredOutputsParams

from tiny_model import NAME

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "yy"]}, "b": {"type": "boolean"}},
          "required": ["a", "b"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Of a place.", "parameters": {
    "type": "object", "properties": {"place": {"type": "string"}}}}}]

# SamplingParams, and the same as fields of a body where it is spelled differently there.
CASES = {
    "greedy": ({"temperature": 0}, {}),
    "seeded": ({"temperature": 1, "seed": 7, "top_k": 30, "top_p": 0.9, "min_p": 0.01}, {}),
    "samples": ({"n": 3, "temperature": 1, "seed": 11}, {}),
    "penalties": ({"temperature": 0, "presence_penalty": 1, "frequency_penalty": 0.5,
                   "repetition_penalty": 1.3}, {}),
    "stop string": ({"temperature": 0, "stop": [" is is"], "max_tokens": 32}, {}),
    "stop kept": ({"temperature": 0, "stop": " is is", "include_stop_str_in_output": True}, {}),
    "bias": ({"temperature": 0, "logit_bias": {"480": 50}}, {}),
    "allowed": ({"temperature": 0, "allowed_token_ids": [300, 301], "bad_words": ["el"]}, {}),
    "whole length": ({"temperature": 0, "ignore_eos": True, "max_tokens": 40, "min_tokens": 5}, {}),
    "json": ({"temperature": 0, "max_tokens": 64, "structured_outputs": StructuredOutputsParams(json=SCHEMA)},
             {"structured_outputs": {"json": SCHEMA}}),
    "guided choice": ({"temperature": 1, "seed": 2, "guided_decoding": StructuredOutputsParams(
        choice=["yes", "no"])}, {"structured_outputs": {"choice": ["yes", "no"]}, "guided_decoding": None}),
    "regex": ({"temperature": 1, "seed": 5, "structured_outputs": StructuredOutputsParams(regex="[0-9]{4}")},
              {"structured_outputs": {"regex": "[0-9]{4}"}}),
}


def as_body(params, fields):
    body = {"max_tokens": 16, **params, **fields}
    return {name: value for name, value in body.items() if value is not None}


@pytest.mark.parametrize("prompt", ["Hello, my name is", [39, 301, 385, 11, 847]], ids=["text", "ids"])
@pytest.mark.parametrize("name", CASES)
def test_completions(llm, server, name, prompt):
    params, fields = CASES[name]
    (output,) = llm.generate(prompt, SamplingParams(**params, logprobs=3), use_tqdm=False)
    answer = server.complete(prompt, **as_body(params, fields), logprobs=3, return_token_ids=True)
    assert output.finished and len(output.outputs) == len(answer["choices"])
    for mine, theirs in zip(output.outputs, sorted(answer["choices"], key=lambda c: c["index"])):
        assert (mine.index, mine.text, mine.token_ids) == (theirs["index"], theirs["text"], theirs["token_ids"])
        assert (mine.finish_reason, mine.stop_reason) == (theirs["finish_reason"], theirs["stop_reason"])
        chosen = [entries[token].logprob for entries, token in zip(mine.logprobs, mine.token_ids)]
        assert chosen == pytest.approx(theirs["logprobs"]["token_logprobs"], rel=1e-6)
        assert mine.cumulative_logprob == pytest.approx(sum(theirs["logprobs"]["token_logprobs"]), rel=1e-5)
        for entries, token in zip(mine.logprobs, mine.token_ids):
            assert next(iter(entries)) == token
            best = [entry for i, entry in entries.items() if i != token or entry.rank <= 3]
            assert sorted(entry.rank for entry in best) == [1, 2, 3]


def test_logprobs_of_the_prompt(llm, server):
    prompt = "Hello, my name is"
    (output,) = llm.generate(prompt, SamplingParams(temperature=0, prompt_logprobs=2, max_tokens=1), use_tqdm=False)
    theirs = server.complete(prompt, prompt_logprobs=2, max_tokens=1)["choices"][0]["prompt_logprobs"]
    assert output.prompt_logprobs[0] is None and theirs[0] is None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids) == len(theirs)
    for mine, entries in zip(output.prompt_logprobs[1:], theirs[1:]):
        assert {str(i): (e.rank, pytest.approx(e.logprob, rel=1e-6)) for i, e in mine.items()} == {
            i: (e["rank"], e["logprob"]) for i, e in entries.items()}


def test_each_prompt_has_its_own_parameters_and_place(llm, server):
    prompts = [f"Number {i}" for i in range(40)]  # more than run at once
    params = [SamplingParams(temperature=0, max_tokens=1 + i % 5, seed=i) for i in range(40)]
    outputs = llm.generate(prompts, params, use_tqdm=False)
    assert [o.prompt for o in outputs] == prompts
    assert len({o.request_id for o in outputs}) == 40
    for prompt, p, output in zip(prompts, params, outputs):
        theirs = server.complete(prompt, max_tokens=p.max_tokens)["choices"][0]["text"]
        assert output.outputs[0].text == theirs


@pytest.mark.parametrize("chat, fields", [
    ({}, {}),
    ({"tools": TOOLS}, {"tool_choice": "none"}),
    ({"chat_template_kwargs": {"enable_thinking": False}}, {}),
    ({"add_generation_prompt": False}, {}),
], ids=["plain", "tools", "kwargs", "no generation prompt"])
def test_chats(llm, server, chat, fields):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is the weather?"}]
    (output,) = llm.chat(messages, SamplingParams(temperature=0, max_tokens=12), use_tqdm=False, **chat)
    answer = server.post("/v1/chat/completions", {
        "model": NAME, "messages": messages, "temperature": 0, "max_tokens": 12, "return_token_ids": True,
        **chat, **fields}).json()
    assert output.outputs[0].token_ids == answer["choices"][0]["token_ids"]
    assert output.outputs[0].text == answer["choices"][0]["message"]["content"]
    assert output.prompt_token_ids == answer["prompt_token_ids"]
    assert ("weather" in output.prompt.split("How is")[0]) == ("tools" in chat)


def test_a_chat_goes_on_with_its_last_message(llm, server):
    messages = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It is"}]
    (output,) = llm.chat(messages, SamplingParams(temperature=0, max_tokens=4), use_tqdm=False,
                         add_generation_prompt=False, continue_final_message=True)
    assert output.prompt.endswith("It is")
    conversations = llm.chat([messages[:1], messages[:1]], SamplingParams(temperature=0, max_tokens=4), use_tqdm=False)
    assert [o.outputs[0].text for o in conversations] == [conversations[0].outputs[0].text] * 2


def test_a_template_of_the_call(llm):
    (output,) = llm.chat([{"role": "user", "content": "x"}], SamplingParams(max_tokens=1), use_tqdm=False,
                         chat_template="<{{ messages[0].content }}>")
    assert output.prompt == "<x>"


def test_beams(llm, server):
    (found,) = llm.beam_search("Hello", BeamSearchParams(beam_width=3, max_tokens=5))
    answer = server.complete("Hello", use_beam_search=True, n=3, max_tokens=5, return_token_ids=True)
    prompt = server.tokens("Hello")
    assert [s.tokens for s in found.sequences] == [prompt + c["token_ids"] for c in answer["choices"]]
    assert [s.text for s in found.sequences] == ["Hello" + c["text"] for c in answer["choices"]]
    scores = [s.cum_logprob for s in found.sequences]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("prompt, params, fields", [
    ("Hello", {"temperature": -1}, {}),
    ("Hello", {"top_p": 2}, {}),
    ("Hello", {"n": 0}, {}),
    ("Hello", {"logprobs": 21}, {}),
    ("Hello", {"min_tokens": 20}, {}),
    ("Hello", {"allowed_token_ids": [10 ** 6]}, {}),
    ("Hello", {"logprob_token_ids": [1]}, {}),
    ("Hello", {"structured_outputs": StructuredOutputsParams(json='{"type": 3}')},
     {"structured_outputs": {"json": '{"type": 3}'}}),
    ("", {}, {}),
    ([5] * 2048, {}, {}),
    ([10 ** 6], {}, {}),
], ids=["temperature", "top_p", "n", "logprobs", "min_tokens", "allowed", "not offered", "schema", "empty", "long",
        "no token"])
def test_errors_have_the_servers_words(llm, server, prompt, params, fields):
    with pytest.raises(ValueError) as raised:
        llm.generate(prompt, SamplingParams(**params), use_tqdm=False)
    answer = server.post("/v1/completions", {"model": NAME, "prompt": prompt, **as_body(params, fields)})
    # The message is the answer's, but for what only a server was told.
    assert answer.status_code == 400, answer.text
    assert str(raised.value) == answer.json()["error"]["message"]
