"""What is offered to operators: sleep, the tokenizer's configuration."""

import concurrent.futures
import json
import threading
import time

import openai
import pytest
import requests

from tiny_model import MODEL, NAME

DEV = {"VLLM_SERVER_DEV_MODE": "1"}


def resident(server):
    for line in open(f"/proc/{server.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10


def is_sleeping(server):
    return requests.get(server.url + "/is_sleeping", timeout=10).json()["is_sleeping"]


def test_sleep_gives_the_cache_back_and_wakes_as_it_was(make_server):
    server = make_server("--enable-sleep-mode", env=DEV)
    prompt = [3 + i % 900 for i in range(20000)]
    before = server.complete(prompt, max_tokens=4)["choices"][0]["text"]
    full = resident(server)
    assert server.post("/sleep", None).json() == {"status": "sleeping", "level": "1"}
    # The cache's 20,000 tokens took 1 KiB for each of 2 layers, of k and v alike.
    assert resident(server) < full - (20000 * 2 * 1024) // 2
    assert is_sleeping(server)
    states = {k for k, v in server.metrics().items() if k.startswith("vllm:engine_sleep_state") and v == 1}
    assert len(states) == 1 and 'sleep_state="weights_offloaded"' in states.pop()
    refused = server.post("/v1/completions", {"prompt": "x"})
    assert refused.status_code == 503 and "asleep" in refused.json()["error"]["message"]
    assert requests.get(server.url + "/health", timeout=10).status_code == 200
    woken = requests.post(server.url + "/wake_up?tags=weights&tags=kv%5Fcache", timeout=10).json()
    assert woken == {"status": "awake", "tags": ["weights", "kv_cache"]}
    assert not is_sleeping(server)
    assert server.complete(prompt, max_tokens=4)["choices"][0]["text"] == before


@pytest.mark.parametrize("mode", ["abort", "wait"])
def test_sleep_ends_what_runs_or_waits_for_it(make_server, mode):
    server = make_server("--enable-sleep-mode", env=DEV)
    length = 3000 if mode == "wait" else 20000
    body = {"prompt": "x", "max_tokens": length, "ignore_eos": True, "temperature": 0}
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(server.post, "/v1/completions", body) for _ in range(3)]
        end = time.monotonic() + 30
        while server.metric("vllm:num_requests_running") < 3 and time.monotonic() < end:
            time.sleep(0.02)
        assert server.post(f"/sleep?level=1&mode={mode}", None).status_code == 200
        assert server.metric("vllm:num_requests_running") == 0
        answers = [job.result().json() for job in jobs]
    lengths = [a["usage"]["completion_tokens"] for a in answers]
    reasons = {a["choices"][0]["finish_reason"] for a in answers}
    if mode == "wait":
        assert lengths == [length] * 3
    else:
        assert reasons == {"abort"} and max(lengths) < length


def test_sleep_again_and_again_under_load(make_server):
    server = make_server("--enable-sleep-mode", env=DEV)
    expected = server.complete("abc", max_tokens=20)["choices"][0]["text"]
    stop = threading.Event()
    said, codes = [], []

    def ask():
        session = requests.Session()
        while not stop.is_set():
            answer = session.post(server.url + "/v1/completions", timeout=60,
                                  json={"prompt": "abc", "max_tokens": 20, "temperature": 0})
            codes.append(answer.status_code)
            if answer.status_code == 200:
                said.append(answer.json()["choices"][0])
            else:
                time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(30):
        assert server.post(f"/sleep?mode={'wait' if i % 2 else 'abort'}", None).status_code == 200
        assert server.post("/wake_up", None).status_code == 200
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert {choice["text"] for choice in said if choice["finish_reason"] == "length"} == {expected}
    assert set(codes) <= {200, 503}


@pytest.mark.parametrize("query, part", [("level=2", "level must be 1"), ("mode=later", "'abort' or 'wait'")])
def test_other_sleep_is_refused(make_server, query, part):
    server = make_server("--enable-sleep-mode", env=DEV)
    response = server.post("/sleep?" + query, None)
    assert response.status_code == 400 and part in response.json()["error"]["message"]


def test_sleep_is_not_there_unless_asked_for(make_server, server):
    assert server.post("/sleep", None).status_code == 404
    assert make_server(env=DEV).post("/sleep", None).status_code == 404
    without = make_server("--enable-sleep-mode")
    assert without.post("/sleep", None).status_code == 404
    assert "--enable-sleep-mode has no effect" in without.output()


def test_tokenizer_info(make_server, server):
    assert requests.get(server.url + "/tokenizer_info", timeout=10).status_code == 404
    config = json.loads((MODEL / "tokenizer_config.json").read_text())
    shown = requests.get(make_server("--enable-tokenizer-info-endpoint").url + "/tokenizer_info", timeout=10).json()
    assert shown == config
    other = make_server("--enable-tokenizer-info-endpoint", "--chat-template", "{{ messages[0].content }}")
    shown = requests.get(other.url + "/tokenizer_info", timeout=10).json()
    assert shown == {**config, "chat_template": "{{ messages[0].content }}"}
    with pytest.raises(openai.BadRequestError):
        other.client().chat.completions.create(model=NAME, messages=[])


BEAMS = {"n": 4, "use_beam_search": True, "ignore_eos": True, "temperature": 0}


def begun(server):
    """A search has taken its first steps."""
    end = time.monotonic() + 20
    while server.metric("vllm:generation_tokens_total") < 20:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_search_that_was_let_in_goes_on(make_server):
    """Its steps are no new requests: neither sleep, nor a full queue, nor the server's end turns them away."""
    plain = make_server()
    expected = plain.complete("Hello", max_tokens=200, **BEAMS)["choices"]
    server = make_server("--enable-sleep-mode", "--max-num-queued-reqs", "2", "--shutdown-timeout", "60", env=DEV)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        search = pool.submit(server.complete, "Hello", max_tokens=200, **BEAMS)
        begun(server)
        assert server.post("/sleep?mode=wait", None).json()["status"] == "sleeping"
        assert search.result(20)["choices"] == expected
        assert server.post("/wake_up", None).status_code == 200
        before = server.metric("vllm:generation_tokens_total")
        search = pool.submit(server.complete, "Hello", max_tokens=200, **BEAMS)
        while server.metric("vllm:generation_tokens_total") < before + 20:
            time.sleep(0.01)
        server.process.terminate()
        assert search.result(60)["choices"] == expected
    assert server.process.wait(20) == 0


def test_a_search_ends_with_what_aborts_all(make_server):
    server = make_server("--enable-sleep-mode", env=DEV)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        search = pool.submit(server.post, "/v1/completions", {"model": NAME, "prompt": "Hello", "max_tokens": 2000, **BEAMS})
        begun(server)
        assert server.post("/sleep?mode=abort", None).status_code == 200
        search.result(20)
    assert server.post("/wake_up", None).status_code == 200
    assert server.complete("Hello", max_tokens=2)["choices"]


def test_waking_up_answers_who_waits_for_sleep(make_server):
    server = make_server("--enable-sleep-mode", env=DEV)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(server.complete, "Hello", max_tokens=1500, ignore_eos=True)
        while server.metric("vllm:num_requests_running") == 0:
            time.sleep(0.01)
        asleep = pool.submit(server.post, "/sleep?mode=wait", None)
        while not is_sleeping(server):
            time.sleep(0.01)
        assert server.post("/wake_up", None).status_code == 200
        answer = asleep.result(10)
        assert answer.status_code == 503 and "woken before" in answer.json()["error"]["message"]
        assert not is_sleeping(server)
        # A long body needs the thread that the sleeper had.
        assert server.complete([3 + i % 900 for i in range(20000)], max_tokens=1)["choices"]
        assert running.result(60)["usage"]["completion_tokens"] == 1500
