"""Starts the real program on a tiny random model, once for all tests that share its flags."""

import pytest

from replay_model import make
from replay_texts import TEXTS
from serving import Server


@pytest.fixture(scope="session")
def server():
    instance = Server("--max-model-len", "2048", "--max-num-seqs", "16", "--max-num-batched-tokens",
                      "256", "--enable-prompt-tokens-details", "--enable-request-id-headers",
                      "--allowed-origins", '["*"]', "--generation-config", "vllm")
    yield instance
    instance.stop()


@pytest.fixture(scope="session")
def client(server):
    return server.client()


@pytest.fixture
def make_server():
    """Starts servers with flags of a test's own; they end with the test."""
    started = []

    def make(*flags, **options):
        started.append(Server(*flags, **options))
        return started[-1]

    yield make
    for instance in started:
        if instance.process.poll() is None:
            instance.stop()


@pytest.fixture(scope="session")
def make_replay_server(tmp_path_factory):
    """Servers that say TEXTS[name] to the message start(place of the name), and tell thought and tool calls apart."""
    folder = tmp_path_factory.mktemp("replay")
    make(folder, list(TEXTS.values()))
    template = folder / "last.jinja"
    template.write_text("{{ messages[-1].content }}")
    started = []

    def make_one(*flags, **options):
        started.append(Server("--load-format", "auto", "--chat-template", str(template), "--reasoning-parser",
                              "qwen3", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
                              "--enable-prompt-tokens-details", *flags, model=folder, **options))
        return started[-1]

    yield make_one
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def replay_server(make_replay_server):
    return make_replay_server()
