"""lm-eval with local-completions and local-chat-completions."""

import json
import os
import tempfile

home = tempfile.TemporaryDirectory()  # a data set that is kept would hide that its file has changed
os.environ["HF_HOME"] = home.name

from check import MODEL, RANDOM_FOLDER, RANDOM_URL, URL, equal, run  # noqa: E402
from lm_eval_scores import SCORES, evaluate, scores  # noqa: E402

EXPECTED = json.loads(SCORES.read_text())


def compare(found):
    """The program computes in BF16, which rounds a value of 10 to the next 1/16: 0.1 and 1 % allow for that."""
    for task, rows in EXPECTED.items():
        equal([greedy for _, greedy in found[task]], [greedy for _, greedy in rows])
        off = [(a, b) for (a, _), (b, _) in zip(found[task], rows) if abs(a - b) > 0.1 + 0.01 * abs(b)]
        equal(off, [])


def ask(batch_size=1, **more):
    args = {"model": "random", "base_url": RANDOM_URL + "/v1/completions", "tokenizer": RANDOM_FOLDER,
            "tokenizer_backend": "huggingface", **more}
    return scores("local-completions", batch_size=batch_size, model_args=args)


def check_scores():
    """local-completions: log-likelihoods (choices, rolling) those of its backend hf in FP32 within BF16's rounding,
    is_greedy equal; tokenized_requests True and False, one by one, in batches of 8, 4 of these at once, with the
    server's own tokenizer: the same to the last digit"""
    one = ask(tokenized_requests=True)
    compare(one)
    for more in ({"batch_size": 8, "tokenized_requests": True}, {"batch_size": 8, "tokenized_requests": False},
                 {"batch_size": 8, "tokenized_requests": True, "num_concurrent": 4},
                 {"tokenized_requests": False, "num_concurrent": 4},
                 {"tokenizer": None, "tokenizer_backend": "auto"}):  # auto: asks /tokenizer_info, /tokenize
        equal(ask(**more), one)


def check_generated():
    """local-completions: generate_until in batches, a stop string"""
    found = evaluate("local-completions", ["local_generated"], batch_size=2, model_args={
        "model": MODEL, "base_url": URL + "/v1/completions", "tokenizer_backend": "none"})
    equal(found["results"]["local_generated"]["exact_match,none"], 1.0)


def check_chat():
    """local-chat-completions: generate_until with the chat template, also 4 at once"""
    for at_once in (1, 4):
        found = evaluate("local-chat-completions", ["local_chat"], apply_chat_template=True, model_args={
            "model": MODEL, "base_url": URL + "/v1/chat/completions", "num_concurrent": at_once})
        equal(found["results"]["local_chat"]["exact_match,none"], 1.0)


if __name__ == "__main__":
    run("lm-eval", globals())
