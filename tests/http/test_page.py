"""The built-in page at /, in a real Chromium."""

import http.client
import http.server
import json
import select
import socket
import threading
import time

import pytest
import requests

from replay_model import make, start
from tiny_model import NAME

THOUGHT = "First **weigh** it, then\nsay it."
MARKDOWN = """## Rivers
The *Loire* is **1006 km** long, see https://example.org/loire for `more`.

1. Source
   - Mont Gerbier
2. Mouth

| river | km |
|-------|---:|
| Rhine | 1233 |

```python
print("# no heading <b>")
```

> quoted 价格 🙂"""
HOSTILE = ('<script>document.title = "owned"</script> <img src="https://evil.test/a.png" onerror=alert(1)>'
           ' [go](javascript:alert(2)) ![x](https://evil.test/pic.png) <svg onload=alert(3)>'
           ' [bank.test](https://evil.test/login)\n\n<style>body{display:none}</style>')
ARGUMENTS = '{"city": "北京", "note": "<i onclick=alert(4)>"}'
SAID = {
    "markdown": f"<think>\n{THOUGHT}\n</think>\n\n{MARKDOWN}",
    "hostile": f"<think>\n<img src=y onerror=alert(5)> thinking\n</think>\n\n{HOSTILE}",
    "call": f'<think>\nA tool.\n</think>\n\n<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "result": "<think>\nGood.\n</think>\n\nIt rains.",
}
TOOLS = '[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]'


def say(name):
    """The message that is answered with SAID[name]."""
    return start(list(SAID).index(name))


def until(page, condition, step=lambda: None):
    """Playwright's own wait_for_function would need what the page's policy forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        step()
        page.wait_for_timeout(20)


def cut(line):
    """An event as several: a delta of several tokens, which came at once, in pieces of 4 characters."""
    data = line.removeprefix(b"data:").strip()
    event = {} if data == b"[DONE]" else json.loads(data)
    for choice in event.get("choices", []):
        for field in ("content", "reasoning"):
            text = choice["delta"].get(field) or ""
            choice["delta"].pop("reasoning_content", None)
            for at in range(0, len(text) - 4, 4):
                delta = {"index": 0, "delta": {field: text[at:at + 4]}, "finish_reason": None}
                yield b"data: " + json.dumps({**event, "choices": [delta]}).encode() + b"\n\n"
                choice["delta"][field] = text[at + 4:]
    yield b"data: " + (json.dumps(event).encode() if event else data) + b"\n\n"


class Proxy:
    """Offers a server under /app, and lets the events of its streams through as it is told."""

    def __init__(self, port):
        self.port = port
        self.is_open = True
        self.permits = threading.Semaphore(0)
        self.is_waiting = threading.Event()  # an event of a stream waits for a permit
        self.gone = threading.Event()  # a client left within a stream
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                proxy.forward(self)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/app"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forward(self, handler):
        if not handler.path.startswith("/app"):
            handler.send_error(404)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.port)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        upstream.request(handler.command, handler.path.removeprefix("/app") or "/", body, dict(handler.headers))
        answer = upstream.getresponse()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.end_headers()
        if "event-stream" not in answer.getheader("Content-Type", ""):
            handler.wfile.write(answer.read())
        else:
            try:
                for line in answer:
                    for event in cut(line) if line.startswith(b"data:") else ():
                        self.wait_for_permit(handler.connection)
                        handler.wfile.write(event)
            except ConnectionError:
                self.gone.set()
        upstream.close()

    def release_until(self, page, condition):
        until(page, condition, self.release)

    def release(self):
        """Lets one event through. None is given ahead: those would pass together, and what the page shows only
        between them would never be seen."""
        if self.is_waiting.is_set():
            self.is_waiting.clear()
            self.permits.release()

    def wait_for_permit(self, client):
        if not self.is_open:
            self.is_waiting.set()
        while not self.is_open and not self.permits.acquire(timeout=0.05):
            if select.select([client], [], [], 0)[0] and not client.recv(1, socket.MSG_PEEK):
                raise ConnectionError


@pytest.fixture(scope="module")
def server(make_module_server):
    return make_module_server()


@pytest.fixture(scope="module")
def make_module_server(tmp_path_factory):
    from serving import Server
    folder = tmp_path_factory.mktemp("page")
    make(folder, list(SAID.values()))
    template = folder / "last.jinja"
    template.write_text("{{ messages[-1].content }}")
    started = []

    def make_one(*flags):
        started.append(Server("--load-format", "auto", "--chat-template", str(template), "--reasoning-parser",
                              "qwen3", "--enable-auto-tool-choice", "--tool-call-parser", "hermes", *flags,
                              model=folder))
        return started[-1]

    yield make_one
    for instance in started:
        instance.stop()


@pytest.fixture
def visit(visit):
    """The page has found the server's model, or asks for a key."""
    def go(url, **options):
        page = visit(url, **options)
        until(page, "document.querySelector('#model').value || document.querySelector('dialog').open")
        return page
    return go


def finish(page):
    page.wait_for_selector(".assistant:last-child[aria-busy=false]")
    return page.locator(".assistant").last


def ask(page, name):
    page.keyboard.type(say(name))
    page.keyboard.press("Enter")
    return finish(page)


def test_head_policy_and_cache(server):
    answer = requests.get(server.url + "/")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert "unsafe" not in policy and "*" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    head = requests.head(server.url + "/")
    assert head.status_code == 200 and not head.content
    assert head.headers["Content-Length"] == str(len(answer.content))
    tag = answer.headers["ETag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = requests.get(server.url + "/", headers={"If-None-Match": known})
        assert again.status_code == 304 and not again.content and again.headers["ETag"] == tag
        assert "Content-Length" not in again.headers
    assert requests.get(server.url + "/", headers={"If-None-Match": '"other"'}).status_code == 200
    assert requests.post(server.url + "/").status_code == 405


def test_the_page_names_no_other_place(server):
    text = requests.get(server.url + "/").text
    assert "innerHTML" not in text and "eval(" not in text and "@import" not in text
    namespaces = ("http://www.w3.org/2000/svg",)
    for namespace in namespaces:
        text = text.replace(namespace, "")
    assert "://" not in text.replace("https?:\\/\\/", "")


def test_turned_off(make_server, tmp_path):
    assert requests.get(make_server("--no-ui").url + "/").status_code == 404
    config = tmp_path / "config.yaml"
    config.write_text("ui: false\n")
    assert requests.get(make_server("--config", str(config)).url + "/").status_code == 404


def test_chat_by_keyboard(server, visit):
    proxy = Proxy(server.port)
    page = visit(proxy.url + "/")
    assert page.evaluate("document.activeElement.id") == "prompt"
    proxy.is_open = False
    page.keyboard.type(say("markdown"))
    page.keyboard.press("Enter")
    assert page.locator(".user").inner_text() == say("markdown")
    # Half of it: the thought, which is open while it comes, and the first of the answer.
    proxy.release_until(page, "document.querySelector('.thought[open]:not([hidden])')?.innerText.includes('First')")
    assert not page.locator(".answer").inner_text()
    proxy.release_until(page, "document.querySelector('.answer').innerText")
    half = page.locator(".answer").inner_text()
    assert page.locator("#stop").is_visible() and "quoted" not in half
    proxy.is_open = True
    answer = finish(page)
    assert page.locator("#stop").is_hidden() and page.evaluate("document.activeElement.id") == "prompt"
    text = answer.locator(".answer")
    assert text.locator("h3").inner_text() == "Rivers"
    assert text.locator("strong").inner_text() == "1006 km" and text.locator("em").inner_text() == "Loire"
    assert text.locator("ol > li").count() == 2 and text.locator("ol ul li").inner_text() == "Mont Gerbier"
    assert text.locator("td").all_inner_texts() == ["Rhine", "1233"]
    assert text.locator("pre").inner_text() == 'print("# no heading <b>")'
    assert text.locator("blockquote").inner_text() == "quoted 价格 🙂"
    assert text.locator("a").get_attribute("href") == "https://example.org/loire"
    # The thought is apart, closed when it has ended, and opens by keyboard.
    thought = answer.locator(".thought")
    assert "Thought for" in thought.locator("summary").inner_text()
    assert thought.locator(".text").is_hidden()
    thought.locator("summary").focus()
    page.keyboard.press("Enter")
    assert thought.locator(".text").inner_text() == THOUGHT.replace("**", "")
    assert "tok/s" in answer.locator(".foot").inner_text()


def test_thought_is_told_apart_without_a_parser_of_the_server(make_module_server, visit):
    page = visit(make_module_server("--reasoning-parser", "").url + "/")
    answer = ask(page, "markdown")
    assert answer.locator("h3").inner_text() == "Rivers" and "think>" not in answer.inner_text()
    answer.locator("summary").click()
    assert answer.locator(".thought .text").inner_text() == THOUGHT.replace("**", "")


def test_under_a_prefix_without_a_slash(server, visit):
    page = visit(Proxy(server.port).url)
    assert "It rains." in ask(page, "result").inner_text()


def test_root_path(make_module_server, visit):
    server = make_module_server("--root-path", "/app")
    page = visit(server.url + "/app/")
    assert "It rains." in ask(page, "result").inner_text()


def test_what_the_model_says_stays_text(server, visit):
    page = visit(server.url + "/")
    answer = ask(page, "hostile")
    # As it was said; what becomes a link has its address shown with it.
    shown = answer.locator(".answer").inner_text()
    for part in ('<script>document.title = "owned"</script>', "onerror=alert(1)>", "[go](javascript:alert(2))",
                 "<svg onload=alert(3)>", "bank.test (evil.test)", "<style>body{display:none}</style>"):
        assert part in shown, shown
    answer.locator("summary").click()
    assert "<img src=y onerror=alert(5)>" in answer.locator(".thought").inner_text()
    assert page.locator(".message :is(script, img, style, iframe, object, svg)").count() == 0
    assert page.title() == "Tiercel" and answer.is_visible()
    assert {a.get_attribute("href") for a in page.locator("#log a").all()} == {
        "https://evil.test/a.png", "https://evil.test/pic.png", "https://evil.test/login"}


def test_the_policy_stops_what_would_be_markup(server, visit):
    page = visit(server.url + "/", allowed=("Content Security Policy", "TrustedHTML", "TrustedScript"))
    assert page.evaluate("""() => {
      try { document.body.innerHTML = "<b>x</b>"; return "set"; } catch (error) { return error.name; }
    }""") == "TypeError"
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.append("document.title = 'owned'");
      document.body.append(script);
      document.body.append(Object.assign(new Image(), {src: "/version"}));
      return fetch("https://evil.test/").catch(() => 0);
    }""")
    assert page.title() == "Tiercel"


def test_no_text_takes_the_page_long(server, visit):
    """What would take a rendering that is not linear minutes takes it no more than seconds."""
    page = visit(server.url + "/")
    size = 100_000
    for piece in ("`", "``` ", "*", "*a **b ", "**a *b ", "_a", "~~~ ", "~~a", "[", "[a](http://", "http://.", "> ", "- ",
                  " - a\n", ">", "|", "|-|\n", "# ", "\\", "1. ", "- - ", "<b>", "***a", "\n\n", "```\n", "a\n-|-\n", "\t"):
        for text in (piece * (size // len(piece)), piece * (size // len(piece)) + "x"):
            begun = time.monotonic()
            shown = page.evaluate("""(text) => {
              const div = document.createElement("div");
              new TextView(div).update(text);
              return div.textContent.length;
            }""", text)
            assert shown <= 4 * size and time.monotonic() - begun < 20, piece


def test_stop_and_again(server, visit):
    proxy = Proxy(server.port)
    proxy.is_open = False
    page = visit(proxy.url + "/")
    page.keyboard.type(say("markdown"))
    page.keyboard.press("Enter")
    proxy.release_until(page, "document.querySelector('.answer')?.innerText")
    page.keyboard.press("Escape")
    answer = finish(page)
    assert "stopped" in answer.inner_text() and "quoted" not in answer.inner_text()
    assert proxy.gone.wait(10)
    proxy.is_open = True
    page.get_by_role("button", name="Regenerate").click()
    page.wait_for_selector(".answer blockquote")
    assert finish(page).is_visible() and page.locator(".assistant").count() == 1
    page.get_by_role("button", name="New chat").click()
    assert page.locator(".message").count() == 0 and page.locator("#empty").is_visible()


def test_tool_calls(server, visit):
    page = visit(server.url + "/")
    page.locator("#settings-button").click()
    page.locator("#tools").fill(TOOLS)
    page.locator("#prompt").focus()
    answer = ask(page, "call")
    call = answer.get_by_role("region", name="Tool call")
    assert call.locator("code").inner_text() == "get_weather"
    assert call.locator("pre").inner_text() == ARGUMENTS
    page.get_by_label("Result of get_weather").fill(say("result"))
    with page.expect_request("**/chat/completions") as sent:
        page.get_by_role("button", name="Send result").click()
    messages = sent.value.post_data_json["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": ARGUMENTS}
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"]
    page.wait_for_selector("text=It rains.")
    finish(page)


def test_settings_are_sent_and_kept(server, visit):
    page = visit(server.url + "/")
    page.locator("#settings-button").click()
    for name, value in {"system": "Be short.", "temperature": "0.5", "top_k": "3", "max_tokens": "4"}.items():
        page.locator(f"#{name}").fill(value)
    page.locator("#thinking").select_option("off")
    for _ in range(2):
        page.locator("#prompt").focus()
        with page.expect_request("**/chat/completions") as sent:
            answer = ask(page, "result")
        body = sent.value.post_data_json
        assert body["model"] == NAME and body["messages"][0] == {"role": "system", "content": "Be short."}
        assert (body["temperature"], body["top_k"], body["max_tokens"]) == (0.5, 3, 4)
        assert body["chat_template_kwargs"] == {"enable_thinking": False} and "top_p" not in body
        assert "greatest length" in answer.inner_text()
        page.reload()
        until(page, "document.querySelector('#model').value")
    page.locator("#settings-button").click()
    page.locator("#temperature").fill("7")
    page.locator("#prompt").focus()
    assert "temperature is out of its range" in ask(page, "result").get_by_role("alert").inner_text()
    page.locator("#reset").click()
    with page.expect_request("**/chat/completions") as sent:
        page.get_by_role("button", name="Try again").click()
    assert "temperature" not in sent.value.post_data_json
    finish(page)


def test_faults_are_told(server, visit):
    page = visit(server.url + "/", allowed=("400",))
    page.locator("#settings-button").click()
    page.locator("#max_tokens").fill("99999999")
    page.locator("#prompt").focus()
    assert "99999999" in ask(page, "result").get_by_role("alert").inner_text()


def test_key(make_module_server, visit):
    server = make_module_server("--api-key", "open sesame")
    page = visit(server.url + "/", allowed=("401",))
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#key-fault:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "key"
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#model').value")
    page.locator("#prompt").focus()
    assert "It rains." in ask(page, "result").inner_text()
    assert page.evaluate("JSON.stringify(localStorage)").find("sesame") < 0
    page.reload()  # not asked again
    until(page, "document.querySelector('#model').value")
    other = visit(server.url + "/", allowed=("401",))  # another tab: asked, and may say no
    other.keyboard.press("Escape")
    until(other, "document.querySelector('#state').textContent.includes('API key')")
    other.locator("#prompt").focus()
    other.keyboard.type("x")
    other.keyboard.press("Enter")
    other.wait_for_selector("dialog[open]")


def test_load(server, visit):
    page = visit(server.url + "/", viewport={"width": 1400, "height": 900})
    assert page.locator("#load").is_visible()
    gauge = page.get_by_role("group", name="Output tokens/s").locator("b")
    until(page, "document.querySelector('#gauges b').textContent === '0'")
    ask(page, "markdown")
    until(page, "/ ms|s$/.test(document.querySelector('#gauges dd').textContent)")
    assert float(gauge.inner_text()) >= 0
    page.locator("#load-button").click()
    assert page.locator("#load").is_hidden()


def test_phone(server, visit):
    page = visit(server.url + "/", viewport={"width": 375, "height": 667}, has_touch=True, is_mobile=True,
                 color_scheme="dark")
    fits = "document.scrollingElement.scrollWidth <= innerWidth && document.scrollingElement.scrollHeight <= innerHeight"
    assert page.locator("#load").is_hidden() and page.evaluate(fits)
    page.locator("#prompt").tap()
    page.keyboard.type(say("markdown"))
    page.keyboard.press("Enter")  # begins a line there
    assert page.locator(".message").count() == 0
    page.keyboard.press("Backspace")
    page.locator("#send").tap()
    assert "quoted" in finish(page).inner_text() and page.evaluate(fits)
    for name in ("load", "settings"):
        page.locator(f"#{name}-button").tap()
        box = page.locator(f"#{name}").bounding_box()
        assert (box["x"], box["width"]) == (0, 375) and page.evaluate(fits)
        page.keyboard.press("Escape")
        assert page.locator(f"#{name}").is_hidden()
        assert page.evaluate("document.activeElement.id") == f"{name}-button"


def test_everything_has_a_name(server, visit):
    page = visit(server.url + "/")
    for name in ("load", "settings"):
        page.locator(f"#{name}-button").click()
        assert page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea")]
          .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)""") == []
    assert page.locator("html").get_attribute("lang") == "en"
