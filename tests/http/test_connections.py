"""The port and its connections: when they are accepted, clients that go or do not read, hard ends."""

import json
import re
import signal
import socket
import subprocess
import time

import pytest
import requests

from tiny_model import BINARY, MODEL, NAME

LONG = {"model": NAME, "prompt": "x", "max_tokens": 20000, "ignore_eos": True, "stream": True}


def request_bytes(path, body):
    payload = json.dumps(body)
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n{payload}").encode()


def connect(server, receive_buffer=0):
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(60)
    client.connect(("127.0.0.1", server.port))
    return client


def receive_until(client, end):
    received = b""
    while end not in received:
        piece = client.recv(65536)
        if not piece:
            break
        received += piece
    return received


def wait_for_output(server, pattern, seconds=30):
    end = time.monotonic() + seconds
    while not re.search(pattern, server.output()):
        assert time.monotonic() < end, server.output()
        time.sleep(0.05)


def test_no_connection_is_accepted_before_the_model_is_there(make_server):
    """What a script waits for with `until curl …/v1/completions`: the first answer is a real one."""
    server = make_server(wait=False)
    while True:
        assert server.process.poll() is None, server.output()
        try:
            answer = requests.get(server.url + "/v1/models", timeout=10)
            break
        except requests.ConnectionError:
            time.sleep(0.002)
    assert answer.status_code == 200
    assert " 503 " not in server.output()


def test_the_port_is_taken_before_the_model_is_loaded(make_server):
    server = make_server(wait=False)
    wait_for_output(server, "non-default args")  # the first line, before anything is loaded
    second = subprocess.run([BINARY, "serve", str(MODEL), "--host", "127.0.0.1", "--port",
                             str(server.port)], capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and str(server.port) in second.stderr + second.stdout
    server.wait_until_healthy()


def test_early_health(make_server):
    server = make_server("--early-health", wait=False)
    statuses = []
    while not statuses or statuses[-1] != 200:
        assert server.process.poll() is None, server.output()
        try:
            statuses.append(requests.get(server.url + "/health", timeout=10).status_code)
        except requests.ConnectionError:
            assert not statuses  # once it has answered it goes on answering
            time.sleep(0.002)
    assert set(statuses) <= {503, 200}


def test_a_client_that_goes_with_done_was_served(make_server):
    server = make_server()
    success = server.metric("vllm:request_success_total")
    for _ in range(50):
        with connect(server) as client:
            client.sendall(request_bytes("/v1/completions", {**LONG, "max_tokens": 3}))
            assert b"data: [DONE]" in receive_until(client, b"data: [DONE]")
    end = time.monotonic() + 30
    lines = []
    while len(lines) < 50 and time.monotonic() < end:
        lines = [line for line in server.output().splitlines() if '"POST /v1/completions' in line]
    assert len(lines) == 50 and all(line.endswith('" 200 OK') for line in lines), lines
    assert server.metric("vllm:request_success_total") - success == 50
    aborted = [v for k, v in server.metrics().items()
               if k.startswith("vllm:request_success_total") and "abort" in k]
    assert sum(aborted) == 0
    # One that goes in the middle is logged with a name.
    with connect(server) as client:
        client.sendall(request_bytes("/v1/completions", LONG))
        receive_until(client, b"data: ")
    wait_for_output(server, '" 499 Client Closed Request')


def test_a_client_that_does_not_read_is_aborted(make_server):
    """Its answer would take some 40 MB."""
    server = make_server("--max-model-len", "20000", "--max-num-seqs", "16")
    with connect(server, receive_buffer=4096) as client:
        client.sendall(request_bytes("/v1/completions", {**LONG, "max_tokens": 19000, "n": 4,
                                                         "logprobs": 20}))
        server.wait_for_metric("vllm:num_requests_running", 4)
        wait_for_output(server, "aborted, its client does not read", seconds=200)
        server.wait_for_metric("vllm:num_requests_running", 0)
        assert server.metric("vllm:kv_cache_usage_perc") == 0
    aborted = [v for k, v in server.metrics().items()
               if k.startswith("vllm:request_success_total") and "abort" in k]
    assert sum(aborted) == 4


def test_killed_under_load_and_restarted_on_the_same_port(make_server):
    server = make_server()
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        client.sendall(request_bytes("/v1/completions", LONG))
    for client in clients:
        receive_until(client, b"data: ")
    server.process.kill()
    server.process.wait(10)
    second = make_server("--port", str(server.port), wait=False)  # the last --port counts
    second.port, second.url = server.port, server.url
    second.wait_until_healthy()
    assert second.complete("x", max_tokens=2)["choices"]
    for client in clients:
        client.close()


@pytest.mark.parametrize("grace", ["0", "60"])
def test_sigterm_with_streams(make_server, grace):
    """With grace they end by themselves, without it they are aborted; both ways tell the client."""
    server = make_server("--shutdown-timeout", grace, "--max-num-seqs", "20")
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        client.sendall(request_bytes("/v1/completions", {**LONG, "max_tokens": 200}))
    for client in clients:
        receive_until(client, b"data: ")
    server.process.send_signal(signal.SIGTERM)
    endings = [receive_until(client, b"data: [DONE]") for client in clients]
    assert all(ending.endswith(b"data: [DONE]\n\n0\r\n\r\n") or b"data: [DONE]" in ending
               for ending in endings)
    assert server.process.wait(60) == 0, server.output()
    for client in clients:
        client.close()


@pytest.mark.parametrize("grace", ["1e10", "1e300"])
def test_no_grace_is_too_long(make_server, grace):
    server = make_server("--shutdown-timeout", grace)
    client = connect(server)
    client.sendall(request_bytes("/v1/completions", {**LONG, "max_tokens": 200}))
    receive_until(client, b"data: ")
    server.process.send_signal(signal.SIGTERM)
    ending = receive_until(client, b"data: [DONE]")
    assert b'"finish_reason":"length"' in ending and b"data: [DONE]" in ending
    assert server.process.wait(60) == 0, server.output()


def test_grace_is_for_slow_readers_too(make_server):
    """What the engine has done is sent to its end, however slowly it is read."""
    server = make_server("--shutdown-timeout", "60", "--max-logprobs", "-1")
    client = connect(server, receive_buffer=65536)
    client.sendall(request_bytes("/v1/completions", {"model": NAME, "prompt": "a b c", "max_tokens": 400, "logprobs": 1000,
                                                     "temperature": 0, "ignore_eos": True}))
    server.wait_for_metric("vllm:generation_tokens_total", 400)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(4)  # twice what clients have without grace
    answer = receive_until(client, b"\0 there is none")
    head, body = answer.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert length > 1 << 21 and len(body) == length
    assert server.process.wait(60) == 0, server.output()
