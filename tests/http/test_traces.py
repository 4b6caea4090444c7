"""Traces: spans of requests at a collector, by OpenTelemetry's protocol over HTTP with JSON bodies."""

import http.server
import json
import re
import threading
import time

import pytest
import requests

from tiny_model import NAME

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TIMES = ["time_in_queue", "time_to_first_token", "time_in_model_prefill", "time_in_model_decode",
         "time_in_model_inference"]


class Collector:
    """Keeps what is posted; answers with `status`, after `delay` seconds."""

    def __init__(self, port=0, status=200, delay=0):
        self.posts, self.status, self.delay = [], status, delay
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.posts.append((self.path, dict(self.headers), json.loads(body)))
                time.sleep(collector.delay)
                self.send_response(collector.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def spans(self):
        return [span for _, _, body in list(self.posts) for resource in body["resourceSpans"]
                for scope in resource["scopeSpans"] for span in scope["spans"]]

    def wait(self, count, seconds=15):
        end = time.monotonic() + seconds
        while len(self.spans()) < count and time.monotonic() < end:
            time.sleep(0.02)
        assert len(self.spans()) == count
        return self.spans()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def collector():
    instance = Collector()
    yield instance
    instance.close()


def values(attributes):
    """{key: value}, each of exactly one kind, as the protocol's JSON writes it."""
    result = {}
    for attribute in attributes:
        assert set(attribute) == {"key", "value"} and len(attribute["value"]) == 1
        (kind, value), = attribute["value"].items()
        if kind == "intValue":
            assert re.fullmatch(r"-?\d+", value)  # a string
            value = int(value)
        else:
            assert isinstance(value, {"stringValue": str, "doubleValue": (int, float)}[kind])
        assert attribute["key"] not in result
        result[attribute["key"]] = value
    return result


def check_span(span):
    """The shape of every span; its attributes."""
    assert set(span) <= {"traceId", "spanId", "parentSpanId", "traceState", "name", "kind", "startTimeUnixNano",
                         "endTimeUnixNano", "attributes", "status"}
    assert re.fullmatch("[0-9a-f]{32}", span["traceId"]) and int(span["traceId"], 16)
    assert re.fullmatch("[0-9a-f]{16}", span["spanId"]) and int(span["spanId"], 16)
    assert span["name"] == "llm_request" and span["kind"] == 2
    start, end = span["startTimeUnixNano"], span["endTimeUnixNano"]
    assert isinstance(start, str) and isinstance(end, str)
    now = time.time_ns()
    assert now - 60 * 10**9 < int(start) <= int(end) <= now
    attributes = values(span["attributes"])
    assert attributes["gen_ai.latency.e2e"] == pytest.approx((int(end) - int(start)) / 1e9, abs=1e-6)
    return attributes


def test_a_span_has_vllms_names_and_the_protocols_shape(make_server, collector):
    server = make_server("--otlp-traces-endpoint", collector.url,
                         env={"OTEL_SERVICE_NAME": "my-service", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20t"})
    answer = server.complete(max_tokens=5, temperature=0.5, top_p=0.9, n=2, ignore_eos=True)
    span, = collector.wait(1)
    path, headers, body = collector.posts[0]
    assert path == "/v1/traces" and headers["Content-Type"] == "application/json" and headers["api-key"] == "s t"
    assert values(body["resourceSpans"][0]["resource"]["attributes"]) == {"service.name": "my-service"}
    attributes = check_span(span)
    assert "parentSpanId" not in span and span["status"] == {}
    assert attributes.pop("gen_ai.request.id").startswith(answer["id"])
    assert attributes.pop("gen_ai.request.max_tokens") == 5
    assert attributes.pop("gen_ai.request.temperature") == 0.5
    assert attributes.pop("gen_ai.request.top_p") == pytest.approx(0.9)
    assert attributes.pop("gen_ai.request.n") == 2
    assert attributes.pop("gen_ai.usage.prompt_tokens") == answer["usage"]["prompt_tokens"]
    assert attributes.pop("gen_ai.usage.completion_tokens") == answer["usage"]["completion_tokens"] == 10
    e2e = attributes.pop("gen_ai.latency.e2e")
    queue, first, prefill, decode, inference = [attributes.pop("gen_ai.latency." + name) for name in TIMES]
    assert attributes == {}
    assert 0 <= queue and 0 < prefill and 0 <= decode and queue + prefill <= first <= e2e
    assert inference == pytest.approx(prefill + decode, abs=1e-6) and first + decode == pytest.approx(e2e, abs=1e-6)
    server.wait_for_metric("tiercel:trace_spans_exported_total", 1)
    assert server.metric("tiercel:trace_spans_dropped_total") == 0


def test_parents_kinds_and_failures(make_server, collector):
    server = make_server("--max-model-len", "512",
                         env={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url + "/v1/traces"})
    def post(path, body, context=None, state=None):
        headers = {"traceparent": context} if context else {}
        headers |= {"tracestate": state} if state else {}
        return requests.post(server.url + path, json={"model": NAME, **body}, headers=headers, timeout=60)

    # The client's trace, streamed or not, in every protocol.
    bodies = [("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}),
              ("/v1/completions", {"prompt": "a", "max_tokens": 2, "stream": True}),
              ("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}),
              ("/v1/responses", {"input": "a", "max_output_tokens": 2})]
    for path, body in bodies:
        assert post(path, body, f"00-{TRACE}-{PARENT}-01", "vendor=1").status_code == 200
    for span in collector.wait(len(bodies)):
        check_span(span)
        assert (span["traceId"], span["parentSpanId"], span["traceState"]) == (TRACE, PARENT, "vendor=1")
    collector.posts.clear()

    # Each prompt of a body is a request; headers that are not valid begin a trace.
    assert post("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 1}, f"00-{TRACE}-{'0' * 16}-01").ok
    spans = collector.wait(2)
    assert all("parentSpanId" not in span and span["traceId"] != TRACE for span in spans)
    assert len({check_span(span)["gen_ai.request.id"] for span in spans}) == 2
    assert len({span["spanId"] for span in spans}) == 2
    collector.posts.clear()

    # A trace that its client does not record; then one that fails.
    assert post("/v1/completions", {"prompt": "a", "max_tokens": 1}, f"00-{TRACE}-{PARENT}-00").ok
    assert post("/v1/completions", {"prompt": "a" * 5000}, f"00-{TRACE}-{PARENT}-01").status_code == 400
    span, = collector.wait(1)
    check_span(span)
    assert span["status"]["code"] == 2 and "maximum context length" in span["status"]["message"]
    assert span["parentSpanId"] == PARENT
    collector.posts.clear()

    # A client that goes.
    with requests.post(server.url + "/v1/completions", stream=True, timeout=60, json={
            "model": NAME, "prompt": "a", "max_tokens": 500, "ignore_eos": True, "stream": True}) as response:
        next(response.iter_content(16))
    span, = collector.wait(1)
    assert span["status"]["code"] == 2 and "gone" in span["status"]["message"]


def test_a_collector_that_is_down_or_slow_changes_nothing(make_server):
    gone = Collector()
    port = gone.http.server_port
    gone.close()
    server = make_server("--otlp-traces-endpoint", f"http://127.0.0.1:{port}/v1/traces")
    for _ in range(5):
        server.complete(max_tokens=2)
    server.wait_for_metric("tiercel:trace_spans_dropped_total", 5, seconds=20)
    assert server.output().count("spans were dropped") == 1
    slow = Collector(port, delay=3)
    begin = time.monotonic()
    for _ in range(20):
        server.complete(max_tokens=2)
    assert len(slow.posts) <= 1 and time.monotonic() - begin < 60  # no request waited for the collector
    slow.delay = 0
    slow.wait(20)
    assert server.stop() == 0
    slow.close()


def test_the_end_sends_what_is_left(make_server, collector):
    server = make_server("--otlp-traces-endpoint", collector.url)
    server.complete(max_tokens=2)
    thread = threading.Thread(target=lambda: server.post("/v1/completions", {
        "model": NAME, "prompt": "a", "max_tokens": 20000, "ignore_eos": True}))
    thread.start()
    server.wait_for_metric("vllm:num_requests_running", 1)
    assert server.stop() == 0
    thread.join()
    spans = collector.spans()
    assert sorted(span["status"].get("code", 0) for span in spans) == [0, 2]


def test_addresses_of_grpc_are_refused_in_one_line(make_server):
    server = make_server("--otlp-traces-endpoint", "grpc://localhost:4317", wait=False)
    assert server.process.wait(20) == 2
    assert "give http://localhost:4318/v1/traces" in server.output()
