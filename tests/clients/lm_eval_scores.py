"""lm-eval: log-likelihoods by local-completions equal those of its backend hf on the same model."""

import os

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from check import URL, run

FOLDER = os.environ["MODEL_FOLDER"]  # of the model that the server has, with its tokenizer
API = {"base_url": URL + "/v1/completions", "model": "scored", "tokenizer": FOLDER, "num_concurrent": 1,
       "max_length": 2048}
PAIRS = [("The capital of France is", " Paris"), ("1 + 1 =", " 2"), ("价格", "是多少？ 42"), ("a", " b" * 40),
         ("def add(a, b):\n    return", " a + b\n")]


def instances(kind, arguments):
    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


def api():
    return get_model("local-completions")(**API)


def hf():
    return get_model("hf")(pretrained=FOLDER, device="cpu", dtype="float32", batch_size=1)


def check_loglikelihood():
    """local-completions: loglikelihood of 5 pairs within 0.05 of backend hf (float32); equal is_greedy"""
    for (found, greedy), (expected, greedy_too) in zip(api().loglikelihood(instances("loglikelihood", PAIRS)),
                                                      hf().loglikelihood(instances("loglikelihood", PAIRS))):
        print(found, expected, greedy, greedy_too, file=__import__("sys").stderr)
        assert abs(found - expected) < 0.05 + 1e-3 * abs(expected) and greedy == greedy_too, (found, expected)


def check_rolling():
    """local-completions: loglikelihood_rolling of a text longer than the window, as backend hf"""
    text = [(" ".join(f"word{i} is {i * i}" for i in range(300)),)]
    found = api().loglikelihood_rolling(instances("loglikelihood_rolling", text))[0]
    model = get_model("hf")(pretrained=FOLDER, device="cpu", dtype="float32", batch_size=1, max_length=2048)
    expected = model.loglikelihood_rolling(instances("loglikelihood_rolling", text))[0]
    print(found, expected, file=__import__("sys").stderr)
    assert abs(found - expected) < 1e-3 * abs(expected), (found, expected)


def check_generate():
    """local-completions and local-chat-completions: generate_until ends at its stop string"""
    more = [("Hello", {"until": ["\n"], "max_gen_toks": 16, "temperature": 0})]
    assert isinstance(api().generate_until(instances("generate_until", more))[0], str)
    chat = get_model("local-chat-completions")(**API | {"base_url": URL + "/v1/chat/completions"})
    import json
    from lm_eval.models.api_models import JsonChatStr
    ask = [(JsonChatStr(json.dumps([{"role": "user", "content": "Hello"}])), more[0][1])]
    assert isinstance(chat.generate_until(instances("generate_until", ask))[0], str)


if __name__ == "__main__":
    run("lm-eval", globals())
