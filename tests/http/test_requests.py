"""Groups D, E, F, G: message forms, parameters, limits, errors, scoring, sampling."""

import math

import openai
import pytest
import requests

from tiny_model import NAME

CHAT = "/v1/chat/completions"


def chat(server, messages, **fields):
    return server.post(CHAT, {"model": NAME, "messages": messages, "max_tokens": 1, **fields})


def prompt_ids(server, messages, **fields):
    response = server.post("/tokenize", {"messages": messages, **fields})
    assert response.status_code == 200, response.text
    return response.json()["tokens"]


def test_message_forms(server):
    user = {"role": "user", "content": "q"}
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"},
                                          {"type": "text", "text": "b"}]}]
    assert prompt_ids(server, parts) == prompt_ids(server, [{"role": "user", "content": "a\nb"}])
    assert (prompt_ids(server, [{"role": "developer", "content": "s"}, user])
            == prompt_ids(server, [{"role": "system", "content": "s"}, user]))
    call = {"role": "assistant", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"ä\": 1}"}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "r"}
    forms = [prompt_ids(server, [user, {**call, **content}, result])
             for content in ({}, {"content": None}, {"content": ""})]
    assert forms[0] == forms[1] == forms[2]
    for reasoning in ("reasoning", "reasoning_content"):
        assert chat(server, [user, {**call, reasoning: "hm"}, result, user]).status_code == 200


def test_media_parts_are_refused(server):
    for url in ("http://169.254.169.254/", "http://a\\@127.0.0.1/", "file:///etc/passwd"):
        response = chat(server, [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}]}])
        assert response.status_code == 400 and "text only" in response.json()["error"]["message"]


def test_enable_thinking(server):
    messages = [{"role": "user", "content": "q"}]
    plain = prompt_ids(server, messages)
    off = prompt_ids(server, messages, chat_template_kwargs={"enable_thinking": False})
    assert off[:len(plain)] == plain and len(off) > len(plain)


@pytest.mark.parametrize("fields,expected", [
    ({"max_completion_tokens": 5}, 5), ({"max_completion_tokens": 5, "max_tokens": 50}, 5),
    ({"max_tokens": 7}, 7)])
def test_max_tokens(server, fields, expected):
    answer = server.post(CHAT, {"model": NAME, "messages": [{"role": "user", "content": "x"}],
                                "ignore_eos": True, **fields}).json()
    assert answer["usage"]["completion_tokens"] == expected
    assert answer["choices"][0]["finish_reason"] == "length"


def test_context_limit(server):
    word = server.tokens("x")[0]
    for length in (2048, 2049, 20480):
        response = server.post("/v1/completions", {"model": NAME, "prompt": [word] * length})
        assert response.status_code == 400
        message = response.json()["error"]["message"]
        assert "maximum context length is 2048 tokens" in message and str(length) in message
    answer = server.complete([word] * 2040, max_tokens=2000, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 8  # clamped to the room
    answer = server.complete([word] * 3000, max_tokens=1, truncate_prompt_tokens=10)
    assert answer["usage"]["prompt_tokens"] == 10
    assert requests.get(server.url + "/health").status_code == 200


@pytest.mark.parametrize("prompt", ["", [], [[]], [""], [-1], [10**6], [2**40], None, 5, {}])
def test_bad_prompts(server, prompt):
    response = server.post("/v1/completions", {"model": NAME, "prompt": prompt})
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == 400


@pytest.mark.parametrize("field,accepted", [
    ("n", ["5"]), ("max_tokens", ["5"]), ("min_tokens", [0]), ("top_k", [-1, 0, 2**31, "5"]),
    ("logprobs", [0, "5"]), ("seed", [-1, 0, 2**31, "5"]), ("prompt_logprobs", [0, "5"]),
    ("priority", [0]), ("truncate_prompt_tokens", [-1, "5"])])
def test_extreme_integers(server, field, accepted):
    for value in (-1, 0, 2**31, 2**63, "NaN", "5", 1.5, [], {}):
        body = {"model": NAME, "prompt": "x", "max_tokens": 1, field: value}
        response = server.post("/v1/completions", body)
        assert response.status_code == (200 if value in accepted else 400), (field, value)
        if response.status_code == 400:
            # 0 for truncate_prompt_tokens leaves nothing of the prompt.
            named = "prompt" if (field, value) == ("truncate_prompt_tokens", 0) else field
            assert response.json()["error"]["param"] == named, (field, value)
    raw = f'{{"model":"{NAME}","prompt":"x","{field}":1e400}}'
    response = requests.post(server.url + "/v1/completions", raw,
                             headers={"Content-Type": "application/json"})
    assert response.status_code == 400


def test_logprob_limits(server):
    for fields in ({"prompt_logprobs": -1}, {"prompt_logprobs": 151936}, {"logprobs": 1000},
                   {"logprobs": -5}):
        assert server.post("/v1/completions",
                           {"model": NAME, "prompt": "x", **fields}).status_code == 400, fields


def test_errors_have_the_client_s_types(client, server):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="nothing", prompt="x")
    assert error.value.body["message"] == "The model `nothing` does not exist."
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=NAME, prompt="x", temperature=-1)
    for path, method, status in (("/v1/nothing", "GET", 404), ("/v1/completions", "GET", 405),
                                 ("/health", "DELETE", 405)):
        response = requests.request(method, server.url + path)
        assert response.status_code == status
        assert response.json()["error"]["code"] == status
    assert requests.get(server.url + "//v1/models/").status_code == 200
    bad = requests.post(server.url + CHAT, "{", headers={"Content-Type": "application/json"})
    assert bad.status_code == 400 and "error" in bad.json()
    assert requests.post(server.url + CHAT, "a=b").status_code == 400


def test_template_errors_are_the_user_s(server):
    for messages in ([], [{"role": "user"}, 5]):
        assert chat(server, messages).status_code == 400


def test_unknown_fields_are_ignored(server):
    answer = server.complete("x", max_tokens=1, surely_unknown={"a": [1]})
    assert answer["choices"][0] == server.complete("x", max_tokens=1)["choices"][0]


def test_the_body_may_name_the_request(server):
    answer = server.complete("x", max_tokens=1, request_id="mine")
    assert answer["id"] == "cmpl-mine"


def test_scoring(server):
    ids = server.tokens("The quick brown fox")
    only = server.complete(ids, echo=True, logprobs=1, max_tokens=0)
    more = server.complete(ids, echo=True, logprobs=1, max_tokens=1)
    scores = only["choices"][0]["logprobs"]
    for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert len(scores[key]) == len(ids)
        assert len(more["choices"][0]["logprobs"][key]) == len(ids) + 1
    assert scores["token_logprobs"][0] is None and scores["top_logprobs"][0] is None
    assert all(math.isfinite(x) and x <= 0 for x in scores["token_logprobs"][1:])
    assert only["usage"]["completion_tokens"] == 0
    text = only["choices"][0]["text"]
    assert text == "The quick brown fox"
    assert all(text[o:].startswith(t) for o, t in zip(scores["text_offset"], scores["tokens"]))
    # Twice the same, whatever the prefix cache holds now.
    again = server.complete(ids, echo=True, logprobs=1, max_tokens=0)
    assert again["choices"][0]["logprobs"] == scores


def test_batches_keep_their_order(server):
    prompts = [server.tokens(t) for t in ("one two", "three", "four five six")]
    answer = server.complete(prompts, max_tokens=3, echo=True, ignore_eos=True)
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2]
    for ids, choice in zip(prompts, answer["choices"]):
        alone = server.complete(ids, max_tokens=3, echo=True, ignore_eos=True)
        assert choice["text"] == alone["choices"][0]["text"]


def test_masked_logprobs_are_json(server):
    answer = server.complete("x", max_tokens=3, logprobs=5, top_k=1, echo=True, temperature=1.0,
                             ignore_eos=True, allowed_token_ids=server.tokens("a"))
    scores = answer["choices"][0]["logprobs"]
    assert scores["tokens"] == ["x", "a", "a", "a"]
    assert all(math.isfinite(v) for v in scores["token_logprobs"][1:])
    assert all(math.isfinite(v) for top in scores["top_logprobs"][1:] for v in top.values())


def test_greedy_is_the_same_alone_and_in_company(server):
    alone = server.complete("Hello there", max_tokens=24, ignore_eos=True)["choices"][0]["text"]
    together = server.complete(["Hello there"] * 8 + ["other text"] * 4, max_tokens=24,
                               ignore_eos=True)
    assert all(c["text"] == alone for c in together["choices"][:8])


def test_seeds_repeat(server):
    def sample(seed):
        answer = server.complete("x", temperature=1.0, seed=seed, max_tokens=16, ignore_eos=True)
        return answer["choices"][0]["text"]

    assert len({sample(11) for _ in range(3)}) == 1
    assert sample(12) != sample(11)


def test_token_rules(server):
    letter_a, letter_b = server.tokens("a")[0], server.tokens("b")[0]
    text = server.complete("x", max_tokens=4, ignore_eos=True,
                           logit_bias={str(letter_a): 100})["choices"][0]["text"]
    assert text == "aaaa"
    stopped = server.complete("x", max_tokens=4, stop_token_ids=[letter_b],
                              allowed_token_ids=[letter_b])["choices"][0]
    assert (stopped["text"], stopped["finish_reason"], stopped["stop_reason"]) == (
        "", "stop", letter_b)
    held = server.complete("x", max_tokens=6, min_tokens=6, stop=["a"],
                           allowed_token_ids=[letter_a])["choices"][0]
    assert len(held["text"]) >= 5


def test_not_offered_is_said(server):
    body = {"model": NAME, "prompt": "x"}
    for fields, status in (({"use_beam_search": True}, 501), ({"suffix": "s"}, 400),
                           ({"prompt_embeds": "AAAA"}, 400),
                           ({"structured_outputs": {"regex": "a"}}, 501),
                           ({"response_format": {"type": "json_object"}}, 501)):
        assert server.post("/v1/completions", {**body, **fields}).status_code == status, fields
