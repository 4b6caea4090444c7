"""Starts the real program on a tiny random model, once for all tests that share its flags."""

import shutil

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


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is installed (scripts/install_deps.sh test)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as api:
        instance = api.chromium.launch(executable_path=program, args=["--no-sandbox", "--lang=en-US"])
        yield instance
        instance.close()


@pytest.fixture
def visit(browser):
    """Opens a page; at the end nothing may have gone wrong on it or left for another origin."""
    contexts, faults = [], []

    def go(url, allowed=(), **options):
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        origin = "/".join(url.split("/")[:3])
        page.on("console", lambda m: m.type in ("error", "warning") and not any(a in m.text for a in allowed)
                and faults.append(m.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: not r.url.startswith((origin + "/", "data:")) and faults.append(r.url))
        page.goto(url)
        return page

    yield go
    for context in contexts:
        context.close()
    assert faults == []
