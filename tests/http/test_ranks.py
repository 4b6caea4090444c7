"""Tensor parallelism: servers of several ranks against one of one rank, and against themselves."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiny_model import NAME


def prompts(count, most, seed):
    rng = random.Random(seed)
    return [[rng.randrange(900) for _ in range(rng.randint(1, most))] for _ in range(count)]


def answer(server, prompt, **fields):
    choices = server.complete(prompt, max_tokens=6, logprobs=3, ignore_eos=True, return_tokens_as_token_ids=True,
                              **fields)["choices"]
    return [(c["logprobs"]["tokens"], c["logprobs"]["token_logprobs"], c["logprobs"]["top_logprobs"]) for c in choices]


def nearly_equal(left, right):
    """Greedy: the same tokens but for near-ties, the same log-probabilities but for rounding."""
    for (tokens, logprobs, _), (others, other_logprobs, tops) in zip(left, right):
        for token, logprob, other, other_logprob, top in zip(tokens, logprobs, others, other_logprobs, tops):
            assert abs(logprob - other_logprob) < 0.05
            if token != other:
                assert abs(top.get(token, -99) - other_logprob) < 0.05
                break  # from here on they have different prefixes


@pytest.mark.parametrize("flags", [("-tp", "2"), ("-tp", "4"), ("-tp", "2", "--kv-cache-dtype", "int8"),
                                   ("-tp", "2", "--kv-cache-dtype", "fp8"),
                                   ("-tp", "2", "--quantization", "int8", "--enforce-eager")])
def test_ranks_answer_as_one_rank_does_and_never_as_the_batch_is(make_server, flags):
    one, ranks = make_server(*flags[2:]), make_server(*flags)
    asked = prompts(12, 300, 1)
    alone = [answer(ranks, prompt) for prompt in asked]
    for prompt, found in zip(asked, alone):
        nearly_equal(found, answer(one, prompt))
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda prompt: answer(ranks, prompt), asked * 2))
    assert together == alone * 2  # bit for bit, with and without what the prefix cache has
    sampled = answer(ranks, asked[0], n=3, temperature=1, seed=5)
    assert sampled == answer(ranks, asked[0], n=3, temperature=1, seed=5)
    assert len({str(tokens) for tokens, _, _ in sampled}) > 1
    echoed = ranks.complete(asked[1], max_tokens=1, echo=True, logprobs=1)["choices"][0]["logprobs"]
    assert len(echoed["token_logprobs"]) == len(asked[1]) + 1
    ranks.wait_for_metric("vllm:num_requests_running", 0)


def test_flashcomm_changes_no_bit(make_server):
    plain = make_server("-tp", "2")
    flash = make_server("-tp", "2", "--additional-config",
                        json.dumps({"enable_flashcomm1": True, "sp_threshold": 20}))
    assert "FlashComm: in steps of more than 20 tokens" in flash.output()
    for prompt in prompts(6, 2500, 2) + [list(range(19)), list(range(20)), list(range(21))]:
        assert answer(flash, prompt) == answer(plain, prompt)
        assert flash.complete(prompt[:50], max_tokens=1, prompt_logprobs=1)["choices"][0]["prompt_logprobs"] == \
            plain.complete(prompt[:50], max_tokens=1, prompt_logprobs=1)["choices"][0]["prompt_logprobs"]


def test_vectors_of_ranks(make_server):
    one, ranks = (make_server("--runner", "pooling", *flags) for flags in ((), ("-tp", "2")))
    texts = ["a", "some more words", "x " * 100]

    def vectors(server):
        return [item["embedding"] for item in
                server.post("/v1/embeddings", {"model": NAME, "input": texts}).json()["data"]]

    for left, right in zip(vectors(one), vectors(ranks)):
        assert sum((a - b) ** 2 for a, b in zip(left, right)) ** 0.5 < 0.02


def test_ranks_that_do_not_divide_the_heads_are_refused(make_server):
    with pytest.raises(RuntimeError, match=r"must be divisible by tensor parallel size \(3\)"):
        make_server("-tp", "3")
