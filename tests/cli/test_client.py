"""`chat` and `complete` against servers that do not end."""
import json
import resource

import pytest

from cli_support import run
from standin_hub import HttpThread, reply

ENDLESS = {
    "a line without an end": b"data: " + b"a" * 1_000_000,
    "an event without an end": b"data: " + b"a" * 1_000_000 + b"\n",
    "events without an end": b'data: {"choices":[{"text":"","x":"' + b"a" * 500_000 + b'"}]}\n\n',
}


@pytest.mark.parametrize("piece", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_without_an_end_is_left(piece):
    def handle(request):
        if request.path.endswith("/models"):
            return reply(request, 200, json.dumps({"data": [{"id": "m"}]}).encode())
        request.rfile.read(int(request.headers["Content-Length"]))
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        try:
            for index in range(2000):
                request.wfile.write(piece.removeprefix(b"data: ")
                                    if index and b"\n" not in piece else piece)
        except OSError:
            pass

    server = HttpThread(handle)
    try:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        result = run("complete", "-q", "x", "--url", server.url + "/v1")
        after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    finally:
        server.close()
    assert result.returncode == 1
    assert "without an end" in result.stderr and len(result.stderr.splitlines()) == 1
    assert after <= max(before, 400_000)  # KiB


def test_a_model_list_without_an_end_is_left():
    server = HttpThread(lambda request: reply(request, 200, b" " * (65 << 20)))
    try:
        result = run("complete", "-q", "x", "--url", server.url + "/v1")
    finally:
        server.close()
    assert result.returncode == 1 and "larger than" in result.stderr
