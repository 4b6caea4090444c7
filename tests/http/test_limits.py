"""Bodies that ask for too much: refused, or answered, without much memory and without harm."""

import json
import threading
import time

import pytest
import requests

from tiny_model import NAME

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MB = 1 << 20


def memory(server, field="VmRSS"):
    """Bytes of the server's process now, or at their highest."""
    with open(f"/proc/{server.process.pid}/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError(field)


def reset_peak(server):
    with open(f"/proc/{server.process.pid}/clear_refs", "w") as refs:
        refs.write("5")


def cpu_seconds(server):
    with open(f"/proc/{server.process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def repeated(text, size):
    return text * (size // len(text) + 1)


# name: (path, body)
HUGE = {
    "n of a large stop string": (COMPLETIONS, lambda: json.dumps(
        {"model": NAME, "prompt": "x", "n": 512, "temperature": 1, "stop": "y" * (4 * MB)})),
    "a larger stop string": (COMPLETIONS, lambda: json.dumps(
        {"model": NAME, "prompt": "x", "n": 128, "temperature": 1, "stop": "y" * (20 * MB)})),
    "text to tokenize": ("/tokenize", lambda: json.dumps({"prompt": repeated("word ", 30 * MB)})),
    "tools that are none": (CHAT, lambda: json.dumps(
        {"model": NAME, "messages": [{"role": "user", "content": "x"}], "tools": [0] * 1_000_000})),
    "messages that are none": (CHAT, lambda: json.dumps(
        {"model": NAME, "messages": [0] * 1_000_000})),
    "zeros": (COMPLETIONS, lambda: "[" + "0," * (15 * MB) + "0]"),
    "empty arrays": (COMPLETIONS, lambda: "[" + "[]," * (10 * MB) + "0]"),
    "brackets": (COMPLETIONS, lambda: "[" * (30 * MB)),
    "keys": (COMPLETIONS, lambda: "{" + ",".join(f'"{i}":0' for i in range(1_000_000)) + "}"),
    "an open string": (COMPLETIONS, lambda: '{"prompt":"' + "x" * (30 * MB)),
    "a long number": (COMPLETIONS, lambda: '{"prompt":' + "1" * (30 * MB) + "}"),
    "a long prompt": (COMPLETIONS, lambda: json.dumps({"prompt": "x" * (30 * MB)})),
    "a long message": (CHAT, lambda: json.dumps(
        {"messages": [{"role": "user", "content": "x" * (30 * MB)}]})),
    "a long name": (CHAT, lambda: json.dumps(
        {"model": "x" * (30 * MB), "messages": [{"role": "user", "content": "x"}]})),
    "tokens": (COMPLETIONS, lambda: json.dumps({"prompt": [5] * 1_000_000})),
    "tokens to detokenize": ("/detokenize", lambda: json.dumps({"tokens": [5] * 1_000_000})),
    "prompts": (COMPLETIONS, lambda: json.dumps({"prompt": ["x"] * 100_000})),
    "bad words": (COMPLETIONS, lambda: json.dumps(
        {"prompt": "x", "bad_words": ["word " * 1000] * 1000})),
    "a schema of kwargs": (CHAT, lambda: json.dumps(
        {"messages": [{"role": "user", "content": "x"}],
         "chat_template_kwargs": {str(i): i for i in range(60_000)}})),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_bodies_are_refused_cheaply(server, name):
    path, make = HUGE[name]
    body = make().encode()
    reset_peak(server)
    before = memory(server)
    cpu = cpu_seconds(server)
    response = requests.post(server.url + path, data=body, timeout=60,
                             headers={"Content-Type": "application/json"})
    cpu = cpu_seconds(server) - cpu
    grown = memory(server, "VmHWM") - before
    print(f"{name}: {len(body) / MB:.0f} MB, {response.status_code}, {cpu:.2f} s of CPU, "
          f"{grown / MB:.0f} MB more memory at most")
    assert 400 <= response.status_code < 500, response.text[:500]
    assert len(response.text) < 10_000
    error = response.json()["error"]
    assert error["code"] == response.status_code and error["message"]
    # The body itself, its strings moved out of it, and little more.
    assert grown < 200 * MB
    assert server.complete("x", max_tokens=1)["usage"]["completion_tokens"] == 1


def test_full_queues_answer_503_with_retry_after(make_server):
    for flags, long_prompt in ((["--max-num-queued-reqs", "1"], "x"),
                               (["--max-num-queued-tokens", "20"], "x " * 15)):
        server = make_server("--max-model-len", "2048", "--max-num-seqs", "1", *flags)
        # One sample after the other, so that it runs until its client goes.
        running = {"model": NAME, "prompt": "x", "max_tokens": 2000, "ignore_eos": True,
                   "stream": True, "n": 64, "temperature": 1}
        with requests.post(server.url + COMPLETIONS, json=running, stream=True, timeout=60) as first:
            lines = first.iter_lines()  # kept: its end would end the connection
            next(lines)
            # One of the three finds room in the queue.
            asked = [threading.Thread(target=lambda: answers.append(server.post(
                COMPLETIONS, {"model": NAME, "prompt": long_prompt, "max_tokens": 1})))
                for _ in range(3)]
            answers = []
            for thread in asked:
                thread.start()
            end = time.monotonic() + 30
            while len(answers) < 2:
                assert time.monotonic() < end
                time.sleep(0.01)
            for refused in answers:
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["Retry-After"]) >= 1
                error = refused.json()["error"]
                assert error["type"] == "ServiceUnavailableError" and error["code"] == 503
        for thread in asked:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
        # Once the queue is empty, requests are taken again.
        end = time.monotonic() + 20
        while server.post(COMPLETIONS, {"model": NAME, "prompt": "x", "max_tokens": 1}).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        server.stop()


def test_answers_name_the_first_served_model(make_server):
    server = make_server("--served-model-name", "first", "second")
    for name in ("first", "second"):
        body = {"model": name, "prompt": "x", "max_tokens": 1}
        assert server.post(COMPLETIONS, body).json()["model"] == "first"
        assert '"model":"first"' in server.post(COMPLETIONS, {**body, "stream": True}).text
        chat = {"model": name, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        assert server.post(CHAT, chat).json()["model"] == "first"
