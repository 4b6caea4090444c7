"""The processes that render chat templates, seen from a running server."""
import os
import pathlib
import signal
import threading
import time

import httpx
import pytest

from cli_support import TINY, dummy_server, run

# Takes all the time that a template may, and little memory.
SLOW = ("{% set s = 'a' * 4000000 %}{% for i in range(90000) %}{% for j in range(90000) %}"
        "{% if s.replace('a', 'b') == 'c' %}{% endif %}{% endfor %}{% endfor %}")
DOUBLING = "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
FLAGS = ("--trust-request-chat-template", "--served-model-name", "m")


def workers(server):
    """Process ids of the server's children that have not ended."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == server.process.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def chat(server, template=None):
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    if template is not None:
        body["chat_template"] = template
    return httpx.post(f"{server.url}/chat/completions", json=body, timeout=60)


def test_a_chat_needs_no_reserve_of_memory():
    """With an address space that has no room for more than the server itself."""
    with dummy_server(*FLAGS, "--kv-cache-memory-bytes", "16M",
                      under=("prlimit", f"--as={3 << 30}")) as server:
        server.wait_ready()
        assert chat(server).status_code == 200
        assert chat(server, DOUBLING).status_code == 400
        assert chat(server).status_code == 200


@pytest.mark.parametrize("template,message", [
    (SLOW, "took more than the 3.0 s of processor time that it may"),
    (DOUBLING, "used more than the 64 MiB of memory that it may"),
    ("{% for i in range(10**9) %}x{% endfor %}", "range"),
    ("{{ '%1000000000d' | format(1) }}", "chat template"),
    ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "recursion")])
def test_a_hostile_template_is_the_clients_fault(template, message):
    with dummy_server(*FLAGS) as server:
        server.wait_ready()
        answer = chat(server, template)
        assert answer.status_code == 400, answer.text
        text = answer.json()["error"]["message"]
        assert message in text and "\n" not in text
        assert chat(server).status_code == 200


def test_a_worker_that_is_killed_costs_one_request():
    with dummy_server(*FLAGS) as server:
        server.wait_ready()
        assert chat(server).status_code == 200
        answers = []
        ask = threading.Thread(target=lambda: answers.append(chat(server, SLOW)))
        ask.start()
        time.sleep(0.5)
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)
        ask.join()
        assert answers[0].status_code == 503, answers[0].text
        assert "signal 9" in answers[0].json()["error"]["message"]
        assert chat(server).status_code == 200


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_server(sig, ranks):
    shared = set(os.listdir("/dev/shm"))
    with dummy_server(*FLAGS, "-tp", ranks) as server:
        server.wait_ready()
        assert chat(server).status_code == 200
        children = workers(server)
        assert children
        server.stop(sig)
    deadline = time.monotonic() + 20

    def is_there(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    while any(map(is_there, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = set(os.listdir("/dev/shm")) - shared
    assert not [name for name in left if str(server.process.pid) in name or "tiercel" in name]


def test_a_workers_command_is_not_for_users():
    result = run("--help")
    assert "template-worker" not in result.stdout
    assert run("template-worker").returncode == 1  # there is no socket


def test_the_models_template_is_checked_at_start(tmp_path):
    broken = tmp_path / "t.jinja"
    broken.write_text("{% if %}")
    result = run("serve", TINY, "--load-format", "dummy", "--port", "0", "--chat-template", broken)
    assert result.returncode == 2
    assert "chat template" in result.stderr.splitlines()[-1]
