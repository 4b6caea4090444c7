"""Writes goldens.json: what the sampler must make of small rows of logits, in plain Python.

    python make_goldens.py

The rules are those that vLLM documents (github.com/vllm-project/vllm, main of November 2026):
  - the order of the steps: the docstring of class Sampler in vllm/v1/sample/sampler.py;
  - bad_words (the last token of a word whose other tokens end the output): ops/bad_words.py there;
  - min_tokens masks all_stop_token_ids, which are stop_token_ids and every eos id, also with
    ignore_eos: update_from_generation_config in vllm/sampling_params.py;
  - penalties (repetition over prompt and output, frequency and presence over the output alone):
    apply_penalties in vllm/model_executor/layers/utils.py;
  - min_p masks what is less likely than min_p times the most likely: MinPLogitsProcessor in
    vllm/v1/sample/logits_processor/builtin.py;
  - top_k masks what is below the k-th logit, so that ties survive; top_p sorts ascending and masks
    while the sum of probabilities is at most 1 - p, the last token never: apply_top_k_top_p_pytorch in
    vllm/v1/sample/ops/topk_topp_sampler.py. Its sort does not say how equal logits lie; here the
    smaller id counts as the more likely one, as in the kernel of topk_topp_triton.py;
  - a token's rank is how many have at least its value, the most likely tokens' ranks are 1, 2, …:
    ops/logprobs.py and gather_logprobs in sampler.py; of a prompt, values are as of the raw modes:
    logprobs_mode in vllm/config/model.py.
Boundaries lie on exact ties or far from any token, so that rounding decides nothing.
"""
import json
import math
import pathlib
import random

NEVER = -math.inf


def softmax(x):
    largest = max(x)
    weights = [math.exp(v - largest) for v in x]
    total = math.fsum(weights)
    return [w / total for w in weights]


def log_softmax(x):
    largest = max(x)
    log_sum = math.log(math.fsum(math.exp(v - largest) for v in x))
    return [v - largest - log_sum for v in x]


def apply_processors(x, p, prompt, output, eos):
    x = list(x)
    if "allowed_token_ids" in p:
        x = [v if i in p["allowed_token_ids"] else NEVER for i, v in enumerate(x)]
    for word in p.get("bad_words", []):
        prefix = word[:-1]
        if not prefix or output[-len(prefix):] == prefix:
            x[word[-1]] = NEVER
    if len(output) < p.get("min_tokens", 0):
        for token in set(p.get("stop_token_ids", [])) | set(eos):
            x[token] = NEVER
    for token, bias in p.get("logit_bias", []):
        x[token] += bias
    repetition = p.get("repetition_penalty", 1.0)
    for i in range(len(x)):
        if i in prompt or i in output:
            x[i] = x[i] / repetition if x[i] > 0 else x[i] * repetition
        x[i] -= p.get("frequency_penalty", 0.0) * output.count(i)
        x[i] -= p.get("presence_penalty", 0.0) * (i in output)
    return x


def apply_filters(x, p):
    x = [v / p["temperature"] for v in x]
    if p.get("min_p", 0) > 0:
        probabilities = softmax(x)
        least = max(probabilities) * p["min_p"]
        x = [v if q >= least else NEVER for v, q in zip(x, probabilities)]
    k = p.get("top_k", 0)
    if 0 < k < len(x):
        kth = sorted(x)[len(x) - k]
        x = [v if v >= kth else NEVER for v in x]
    if p.get("top_p", 1) < 1:
        ascending = sorted(range(len(x)), key=lambda i: (x[i], -i))
        probabilities = softmax(x)
        total = 0.0
        for i in ascending[:-1]:
            total += probabilities[i]
            if total <= 1 - p["top_p"]:
                x[i] = NEVER
    return x


def case(name, logits, params, prompt=(), output=(), eos=()):
    params = {"temperature": 1.0, **params}
    processed = apply_processors(logits, params, list(prompt), list(output), list(eos))
    if params["temperature"] == 0:
        probabilities = [0.0] * len(logits)
        probabilities[processed.index(max(processed))] = 1.0
    else:
        processed = apply_filters(processed, params)
        probabilities = softmax(processed)
    found = {
        "name": name,
        "logits": list(logits),
        "params": params,
        "prompt": list(prompt),
        "output": list(output),
        "eos": list(eos),
        "probabilities": [[i, round(q, 9)] for i, q in enumerate(probabilities) if q > 0],
    }
    if len(logits) > 100:
        return found
    values = {
        "raw_logits": list(logits),
        "raw_logprobs": log_softmax(logits),
        "processed_logits": processed,
        "processed_logprobs": log_softmax(processed),
    }
    for mode, x in values.items():
        found[mode] = [None if v == NEVER else round(v, 9) for v in x]
        found[mode + "_ranks"] = [sum(w >= v for w in x) for v in x]
    return found


ROW = [1.0, 3.0, -2.0, 0.5, 3.0, 2.0, -1.0, 2.5, 0.0, 1.5]
TIES = [2.0, 1.0, 2.0, 0.0, 2.0, 1.0, 1.0, -3.0]

CASES = [
    case("plain", ROW, {}),
    case("greedy takes the first of equal", ROW, {"temperature": 0}),
    case("temperature", ROW, {"temperature": 0.5}),
    # Each step before the next: a later one sees what the earlier left.
    case("allowed", ROW, {"allowed_token_ids": [2, 5, 9]}),
    case("allowed, then bias: a bias brings no token back", ROW,
         {"allowed_token_ids": [2, 5], "logit_bias": [[1, 100.0], [2, 4.5]]}),
    case("bad words of one token and after their prefix", ROW,
         {"bad_words": [[1], [5, 4], [6, 5, 7], [5, 5, 9]]}, output=[6, 5]),
    case("bad words look at the output alone", ROW, {"bad_words": [[5, 4]]}, prompt=[5]),
    case("bad words, then bias", ROW, {"bad_words": [[4]], "logit_bias": [[4, 50.0]]}),
    case("min_tokens: stop and eos ids", ROW, {"min_tokens": 2, "stop_token_ids": [1, 6]},
         output=[0], eos=[4, 7]),
    case("min_tokens reached", ROW, {"min_tokens": 1, "stop_token_ids": [1]}, output=[0], eos=[4]),
    case("min_tokens with ignore_eos: eos ids too", ROW,
         {"min_tokens": 2, "ignore_eos": True, "stop_token_ids": [1]}, output=[0], eos=[4, 7]),
    case("min_tokens, greedy", ROW, {"min_tokens": 1, "temperature": 0}, eos=[1, 4]),
    case("min_tokens, then bias", ROW, {"min_tokens": 1, "logit_bias": [[4, 9.0], [7, 9.0]]}, eos=[4]),
    case("bias, then penalty of what it made positive", ROW,
         {"logit_bias": [[2, 6.0]], "repetition_penalty": 2.0}, prompt=[2]),
    case("bias, then penalty of what it made negative", ROW,
         {"logit_bias": [[1, -4.0]], "repetition_penalty": 2.0}, output=[1]),
    # Penalties over the prompt.
    case("repetition: prompt and output", ROW, {"repetition_penalty": 1.5}, prompt=[1, 2, 2], output=[5, 6]),
    case("repetition below one favors them", ROW, {"repetition_penalty": 0.5}, prompt=[1, 2], output=[5]),
    case("frequency: output alone, by count", ROW, {"frequency_penalty": 0.75}, prompt=[1, 1, 4],
         output=[4, 4, 5]),
    case("presence: output alone, once", ROW, {"presence_penalty": 1.25}, prompt=[1], output=[4, 4, 5]),
    case("all penalties, one token in both", ROW,
         {"repetition_penalty": 2.0, "frequency_penalty": -0.5, "presence_penalty": 1.0},
         prompt=[1, 7], output=[7, 7, 2]),
    case("penalties make ties", [3.0, 1.0, 2.0, 1.5], {"repetition_penalty": 2.0, "top_k": 2},
         prompt=[0], output=[]),
    case("penalty, then temperature", ROW, {"frequency_penalty": 1.0, "temperature": 0.25}, output=[1]),
    # Filters.
    case("top_k", ROW, {"top_k": 4}),
    case("top_k: ties at the k-th survive", ROW, {"top_k": 1}),
    case("top_k: three tie for two places", TIES, {"top_k": 2}),
    case("top_k: ties below the first group", TIES, {"top_k": 4}),
    case("top_k: everything ties", [0.5] * 6, {"top_k": 2}),
    case("top_k as large as the vocabulary", ROW, {"top_k": 10}),
    case("top_k of masked rows", ROW, {"top_k": 5, "allowed_token_ids": [2, 3]}),
    case("top_p", ROW, {"top_p": 0.8}),
    case("top_p: the first alone", [5.0, 1.0, 0.0], {"top_p": 0.3}),
    case("top_p: half of equal tokens", [1.0] * 4, {"top_p": 0.5}),
    case("top_p: cut within a tie", TIES, {"top_p": 0.5}),
    case("top_p nearly one", ROW, {"top_p": 0.9999}),
    case("min_p", ROW, {"min_p": 0.2}),
    case("min_p one: the most likely and its ties", TIES, {"min_p": 1.0}),
    case("min_p after the temperature", ROW, {"min_p": 0.2, "temperature": 2.0}),
    case("min_p, then top_k", ROW, {"min_p": 0.3, "top_k": 8}),
    case("top_k within min_p", ROW, {"min_p": 0.05, "top_k": 3}),
    case("min_p, then top_p of what is left", ROW, {"min_p": 0.3, "top_p": 0.7}),
    case("top_k, then top_p of what is left", ROW, {"top_k": 3, "top_p": 0.6}),
    case("top_p of ties that top_k spared", TIES, {"top_k": 1, "top_p": 0.6}),
    case("temperature before top_p", ROW, {"temperature": 2.0, "top_p": 0.5}),
    case("everything", ROW,
         {"allowed_token_ids": [0, 1, 3, 4, 5, 7, 8, 9], "bad_words": [[5, 7]], "min_tokens": 3,
          "logit_bias": [[3, 2.0]], "repetition_penalty": 1.25, "frequency_penalty": 0.25,
          "presence_penalty": 0.5, "temperature": 0.75, "min_p": 0.02, "top_k": 5, "top_p": 0.9,
          "stop_token_ids": [9]},
         prompt=[3, 8], output=[0, 5], eos=[1]),
]

# Longer than a draw's chunk of 1024 and than a vector, no multiple of either, and full of ties.
_random = random.Random(1)
LONG = [_random.randrange(-24, 25) / 4 for _ in range(1437)]
CASES += [
    case("long", LONG, {}),
    case("long, top_k", LONG, {"top_k": 50, "temperature": 0.5}),
    case("long, short nucleus", LONG, {"top_p": 0.21, "temperature": 0.5}),
    case("long, wide nucleus", LONG, {"top_p": 0.93}),
    case("long, min_p", LONG, {"min_p": 0.13}),
    case("long, min_p and top_p", LONG, {"min_p": 0.031, "top_p": 0.777}),
]


def main():
    path = pathlib.Path(__file__).with_name("goldens.json")
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in CASES)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
