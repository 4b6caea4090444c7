"""/openapi.json and the page of it: every route of the server, and of each body exactly the fields that its reader
knows, with the types and bounds that it has."""

import base64
import hashlib
import html.parser
import pathlib
import re

import jsonschema
import openapi_spec_validator
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks

from serving import Server
from tiny_model import NAME

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "src" / "api"
CONVERSATION = [{"role": "user", "content": "a"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]

# Right bodies of each path. Together they have all that makes a reader look for another field.
CHAT = {"messages": CONVERSATION, "tools": TOOLS, "tool_choice": "none", "structured_outputs": {"json": {}},
        "logprobs": True, "max_tokens": 1}
MESSAGES_TOOLS = {"tools": [{"name": "f"}], "tool_choice": {"type": "none"}}
GENERATION = {
    "/v1/chat/completions": [CHAT],
    "/v1/chat/completions/batch": [{"messages": [CONVERSATION, CONVERSATION], "max_tokens": 1}],
    "/v1/completions": [{"prompt": "a", "max_tokens": 1}],
    "/invocations": [CHAT, {"prompt": "a", "max_tokens": 1}],
    "/v1/responses": [{"input": "a", "max_output_tokens": 1, "tools": [{"type": "function", "name": "f"}],
                       "tool_choice": "none"}],
    "/v1/messages": [{"messages": CONVERSATION, "max_tokens": 1, **MESSAGES_TOOLS}],
    "/v1/messages/count_tokens": [{"messages": CONVERSATION, **MESSAGES_TOOLS}],
    "/tokenize": [{"prompt": "a"}, {"messages": CONVERSATION}],
    "/detokenize": [{"tokens": [1]}],
}
INPUTS = [{"input": "a"}, {"messages": CONVERSATION}]
POOLING = {
    "/v1/embeddings": INPUTS, "/pooling": INPUTS,
    **{path: [{"text_1": "a", "text_2": "b"}, {"data_1": "a", "data_2": "b"}, {"queries": "a", "documents": "b"},
              {"queries": "a", "items": "b"}] for path in ("/score", "/v1/score")},
    **{path: [{"query": "a", "documents": ["b"]}] for path in ("/rerank", "/v1/rerank", "/v2/rerank")},
}
CLASSIFIER_ALONE = "/classify"


@pytest.fixture(scope="module")
def generating():
    """With all flags that let bodies hold more."""
    instance = Server("--max-model-len", "2048", "--reasoning-parser", "qwen3", "--trust-request-chat-template",
                      "--scheduling-policy", "priority", "--enable-auto-tool-choice", "--tool-call-parser",
                      "hermes", "--enable-tokenizer-info-endpoint", "--enable-sleep-mode",
                      "--generation-config", "vllm",
                      env={"VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_SERVER_DEV_MODE": "1",
                           "VLLM_ENABLE_RESPONSES_API_STORE": "1"})
    yield instance
    instance.stop()


@pytest.fixture(scope="module")
def pooling():
    instance = Server("--runner", "pooling", "--max-model-len", "64", "--trust-request-chat-template",
                      "--hf-overrides", '{"is_matryoshka": true}', env={"VLLM_LOGGING_LEVEL": "DEBUG"})
    yield instance
    instance.stop()


@pytest.fixture
def serving(request, path):
    return request.getfixturevalue("generating" if path in GENERATION else "pooling")


PATHS = [*GENERATION, *POOLING]


def document_of(server):
    response = requests.get(server.url + "/openapi.json", timeout=10)
    assert response.status_code == 200 and response.headers["Content-Type"] == "application/json"
    return response.json()


def forms_of(document, path):
    """The schemas of what may be posted there."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return [document["components"]["schemas"][form["$ref"].rsplit("/", 1)[1]]
            for form in schema.get("anyOf", [schema])]


def type_of(field):
    """The schema of a field's value where it is not null."""
    return field["anyOf"][0] if {"type": "null"} in field.get("anyOf", []) else field


def good_bodies(path):
    """[(body, the number of its form)]"""
    bodies = {**GENERATION, **POOLING}[path]
    return [({"model": NAME, **body}, number) for number, body in enumerate(bodies)]


def routes_of(server):
    return {path: sorted(methods.lower().split(", "))
            for path, methods in re.findall(r"Route: (\S+), Methods: (.*)", server.output())}


@pytest.mark.parametrize("kind", ["generating", "pooling"])
def test_the_document_is_valid_and_has_the_routes(kind, request):
    server = request.getfixturevalue(kind)
    document = document_of(server)
    openapi_spec_validator.validate(document, cls=openapi_spec_validator.OpenAPIV31SpecValidator)
    # A model's kind decides which of the engine's routes are there: those of the other kind answer 404.
    expected = {path: methods for path, methods in routes_of(server).items()
                if path not in [*PATHS, CLASSIFIER_ALONE]
                or requests.post(server.url + path, json={}, timeout=60).status_code != 404}
    assert {path: sorted(item) for path, item in document["paths"].items()} == expected
    assert len(expected) == len(routes_of(server)) - len(POOLING if kind == "generating" else GENERATION) + (
        -1 if kind == "generating" else 3)
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert all(operation["summary"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert "servers" not in document and "securitySchemes" not in document["components"]


def unread(server, path, body):
    """Of the fields of a body, those that its reader does not know, as it says in its log."""
    begin = len(server.output())
    response = server.post(path, body)
    assert response.status_code == 200, response.text
    return set(re.findall("request field `([^`]+)` is not known and ignored", server.output()[begin:]))


@pytest.mark.parametrize("path", PATHS)
def test_a_body_has_the_fields_that_its_reader_knows(serving, path):
    """Every word that stands in the readers' sources is given as null: then it changes nothing, but it is read."""
    forms = forms_of(document_of(serving), path)
    documented = {name for form in forms for name in form["properties"]}
    words = {word for file in SOURCES.glob("*.cc") if "schema" not in file.name
             for word in re.findall(r'"([a-z_0-9]{1,40})"', file.read_text())}
    assert documented <= words
    known = set()
    for body, _ in good_bodies(path):
        names = sorted((words | documented) - set(body))
        known |= set(body)
        for begin in range(0, len(names), 20):  # so many are told of one body
            some = names[begin:begin + 20]
            known |= set(some) - unread(serving, path, {**body, **dict.fromkeys(some)})
    assert known == documented


def wrong_value(schema):
    """What no field of that type can be."""
    kinds = {each.get("type") for each in [schema, *schema.get("anyOf", [])]}
    return [[{"x": [None]}]] if "object" in kinds else {"x": [[None]]}


# What a field's values need beside them.
BESIDE = {"top_logprobs": {"logprobs": True}, "max_tokens": {"echo": True}}
# Faults that a chat's reader tells with its own names, as in vLLM.
CALLED = {"top_logprobs": "logprobs", "max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens", "instructions": "messages.0.content"}


def names(response, field):
    return field in response.text or CALLED.get(field, field) in response.text


@pytest.mark.parametrize("path", PATHS)
def test_a_body_s_fields_have_their_types(serving, path):
    forms = forms_of(document_of(serving), path)
    for good, number in good_bodies(path):
        form = forms[number]
        validator = jsonschema.Draft202012Validator(form)
        validator.validate(good)
        for name, field in form["properties"].items():
            schema = type_of(field)
            if not schema.keys() - {"description", "default"}:
                continue  # it may be anything
            wrong = {**good, name: wrong_value(schema)}
            assert list(validator.iter_errors(wrong)), name
            response = serving.post(path, wrong)
            assert response.status_code == 400 and names(response, name), (name, response.status_code, response.text)
            if name not in form["required"]:
                validator.validate({**good, name: None})
                assert serving.post(path, {**good, name: None}).status_code == 200, name
        for name in form["required"]:
            left = {key: value for key, value in good.items() if key != name}
            assert list(validator.iter_errors(left))
            response = serving.post(path, left)
            assert response.status_code == 400, name


def edges(schema):
    """(value, whether it is allowed) at and just beyond the bounds that a schema tells."""
    step = 1 if schema.get("type") == "integer" else 1e-3
    if "minimum" in schema:
        yield from ((schema["minimum"], True), (schema["minimum"] - step, False))
    if "exclusiveMinimum" in schema:
        yield from ((schema["exclusiveMinimum"] + step, True), (schema["exclusiveMinimum"], False))
    if "maximum" in schema:
        yield from ((schema["maximum"], True), (schema["maximum"] + step, False))
    if "enum" in schema:
        yield from ((word, True) for word in schema["enum"])
        yield "no such word", False
    if schema.get("type") == "string":
        if "minLength" in schema:
            yield "", False
        if "maxLength" in schema:
            yield from (("x" * schema["maxLength"], True), ("x" * (schema["maxLength"] + 1), False))
    if schema.get("type") == "array":
        if "minItems" in schema:
            yield [], False
        for item, allowed in edges(schema["items"]):
            yield [item], allowed
        if "maxItems" in schema:
            item = {"string": "x", "object": {}, "integer": 1}.get(schema["items"].get("type"))
            yield [item] * (schema["maxItems"] + 1), False
    if schema.get("type") == "object" and "maxProperties" in schema:
        yield {str(i): 0 for i in range(schema["maxProperties"] + 1)}, False
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "array":  # a list that is refused as one kind may be another's
            yield from edges(choice)


@pytest.mark.parametrize("path", PATHS)
def test_a_body_s_bounds_are_its_reader_s(serving, path):
    forms = forms_of(document_of(serving), path)
    checked = 0
    for good, number in good_bodies(path):
        for name, field in forms[number]["properties"].items():
            for value, allowed in edges(type_of(field)):
                body = {**good, **BESIDE.get(name, {}), name: value}
                response = serving.post(path, body)
                assert response.status_code in (200, 400), response.text
                named = response.status_code == 400 and names(response, name)
                assert named != allowed, (name, str(value)[:80], response.text[:300])
                checked += 1
    assert checked > 5 or path == "/detokenize"


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("kind", ["generating", "pooling"])
def test_made_up_requests_get_what_the_document_tells(kind, mode, request):
    """Requests that schemathesis makes of the document, right and wrong ones: no answer is a fault of the server, and
    all have a media type and, where one is told, a form of the document."""
    server = request.getfixturevalue(kind)
    count = 0
    for result in schemathesis.openapi.from_dict(document_of(server)).get_all_operations():
        operation = result.ok()
        if operation.path in ("/sleep", "/wake_up"):
            continue  # the others would be answered that the server sleeps

        @settings(max_examples=10, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            nonlocal count
            count += 1
            if isinstance(case.body, dict):
                for limit in ("max_tokens", "max_completion_tokens", "max_output_tokens", "n"):
                    if isinstance(case.body.get(limit), int):
                        case.body[limit] = min(case.body[limit], 2)
            response = case.call(base_url=server.url, timeout=60)
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                case.validate_response(response, checks=[
                    checks.not_a_server_error, checks.content_type_conformance, checks.response_schema_conformance])

        try:
            check()
        except Unsatisfiable:
            assert mode == schemathesis.GenerationMode.NEGATIVE  # nothing can be wrong with it
    assert count > 50


class PageReader(html.parser.HTMLParser):
    """What a page consists of; its <code> and <h2> as they are read."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.texts, self.open = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open = tag
        self.addresses += [value for name, value in attributes if name in ("href", "src", "action")]
        assert not any(name.startswith("on") or name == "style" for name, _ in attributes)

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open, []).append(data)
            self.open = None


def test_the_page_needs_nothing_but_itself(generating):
    document = document_of(generating)
    for path in ("/docs", "/redoc"):
        response = requests.get(generating.url + path, timeout=10)
        assert response.status_code == 200 and response.headers["Content-Type"] == "text/html; charset=utf-8"
        page = PageReader(response.text)
        assert page.addresses == ["openapi.json"] and "script" not in page.tags and "img" not in page.tags
        digest = base64.b64encode(hashlib.sha256(page.texts["style"][0].encode()).digest()).decode()
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and f"style-src 'sha256-{digest}'" in policy
        assert "unsafe" not in policy and "script-src" not in policy and "connect-src" not in policy
        assert set(document["paths"]) <= set(page.texts["code"])
        for form in {name for item in document["paths"] for form in forms_at(document, item) for name in form["properties"]}:
            assert form in page.texts["code"], form
        again = requests.get(generating.url + path, headers={"If-None-Match": response.headers["ETag"]}, timeout=10)
        assert again.status_code == 304 and not again.content


def forms_at(document, path):
    return forms_of(document, path) if "requestBody" in document["paths"][path].get("post", {}) else []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_on_a_phone_and_without_scripts(generating, visit, scheme):
    page = visit(generating.url + "/docs", viewport={"width": 360, "height": 740}, java_script_enabled=False,
                 color_scheme=scheme)
    route = page.locator("details", has=page.locator("summary code", has_text=re.compile("^/v1/completions$")))
    field = route.locator("dt", has=page.locator("code", has_text=re.compile("^min_p$")))
    assert not field.is_visible()
    route.locator("summary").click()
    assert field.is_visible() and "number, ≥ 0, ≤ 1" in field.inner_text()
    for box in [route.bounding_box(), *(each.bounding_box() for each in route.locator("dt, dd").all())]:
        assert 0 <= box["x"] and box["x"] + box["width"] <= 360


def test_they_can_be_left_out(make_server):
    server = make_server("--disable-fastapi-docs")
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert requests.get(server.url + path, timeout=10).status_code == 404


def test_prefix_keys_and_flags(make_server):
    server = make_server("--root-path", "/p", "--enable-offline-docs", "--api-key", "k", "--max-model-len", "77")
    for prefix in ("", "/p"):  # without a key, as in vLLM
        document = requests.get(f"{server.url}{prefix}/openapi.json", timeout=10).json()
        assert requests.get(f"{server.url}{prefix}/docs", timeout=10).status_code == 200
    openapi_spec_validator.validate(document, cls=openapi_spec_validator.OpenAPIV31SpecValidator)
    assert document["servers"] == [{"url": "/p"}]
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"] == {"type": "http", "scheme": "bearer"}
    assert schemes["x-api-key"] == {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            asked = requests.request(method, server.url + path, timeout=10).status_code == 401
            assert ("security" in operation) == ("401" in operation["responses"]) == asked, path
            assert operation.get("security") in (None, [{"key": []}, {"x-api-key": []}])
    fields = forms_of(document, "/v1/completions")[0]["properties"]
    assert type_of(fields["max_tokens"])["maximum"] == 77
    # What these flags do not let pass is told as null alone.
    assert type_of(fields["thinking_token_budget"]) == {"type": "null"}
    assert type_of(forms_of(document, "/v1/chat/completions")[0]["properties"]["chat_template"]) == {"type": "null"}
    assert not {"/sleep", "/server_info", "/tokenizer_info", "/v1/embeddings"} & set(document["paths"])

