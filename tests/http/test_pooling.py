"""Models that pool, through the API: vectors and labels are Hugging Face's (tests/parity/
make_pooling_goldens.py), as near to the FP32 model's as Hugging Face's own BF16 is."""

import base64
import concurrent.futures
import json
import math
import shutil
import struct

import openai
import pytest

from serving import Server
from tiny_model import MODEL, NAME

MODELS = MODEL.parent / "models"
RERANKER = json.dumps({"architectures": ["Qwen3ForSequenceClassification"],
                       "classifier_from_token": ["Ġno", "is"], "is_original_qwen3_reranker": True})


def cases(name):
    return json.loads((MODELS / name / "golden.json").read_text())["cases"]


def start(tmp_path_factory, name, *flags):
    """A folder as it is downloaded: the model's files and its tokenizer's."""
    folder = tmp_path_factory.mktemp(name) / name
    shutil.copytree(MODELS / name, folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / file, folder)
    return Server("--load-format", "auto", *flags, model=folder)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    # Nothing but the model: its files say that it pools, and how.
    server = start(tmp_path_factory, "pooling-embedding", "--hf-overrides", '{"is_matryoshka": true}',
                   "--max-num-batched-tokens", "128")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    server = start(tmp_path_factory, "pooling-reranker", "--runner", "pooling", "--hf-overrides", RERANKER)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    server = start(tmp_path_factory, "pooling-classifier")
    yield server
    server.stop()


def answer(server, path, **body):
    response = server.post(path, body)
    assert response.status_code == 200, response.text
    return response.json()


def error(server, path, **body):
    response = server.post(path, body)
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


def distance(a, b):
    assert len(a) == len(b)
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def expect_as_near_as_hugging_face(found, golden):
    errors = [distance(values, case["values"]) for values, case in zip(found, golden, strict=True)]
    theirs = [case["hf_bf16_error"] for case in golden]
    assert sum(errors) <= sum(theirs)
    assert max(errors) <= 2 * max(theirs)


def vectors(response):
    assert [d["index"] for d in response["data"]] == list(range(len(response["data"])))
    return [d["embedding"] for d in response["data"]]


def test_embeddings_are_hugging_faces(embedding):
    golden = cases("pooling-embedding")
    response = answer(embedding, "/v1/embeddings", model=NAME, input=[c["input"] for c in golden])
    expect_as_near_as_hugging_face(vectors(response), golden)
    assert response["object"] == "list" and response["model"] == NAME
    assert response["id"].startswith("embd-")
    assert all(d["object"] == "embedding" for d in response["data"])
    tokens = sum(len(c["ids"]) for c in golden)
    assert response["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens,
                                 "completion_tokens": 0, "prompt_tokens_details": None}


def test_every_form_of_input_gives_the_same_bits(embedding):
    golden = cases("pooling-embedding")
    together = vectors(answer(embedding, "/v1/embeddings", input=[c["input"] for c in golden]))
    for case, vector in zip(golden, together):
        for form in (case["input"], [case["input"]], case["ids"], [case["ids"]]):
            assert vectors(answer(embedding, "/v1/embeddings", input=form)) == [vector]


def test_the_openai_client(embedding):
    # It asks for base64 by itself, and decodes it.
    golden = cases("pooling-embedding")
    client = embedding.client()
    response = client.embeddings.create(model=NAME, input=[c["input"] for c in golden])
    expect_as_near_as_hugging_face([d.embedding for d in response.data], golden)
    floats = client.embeddings.create(model=NAME, input=golden[0]["input"], encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(response.data[0].embedding, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("endianness, order", [("little", "<"), ("big", ">"), ("native", "=")])
def test_base64(embedding, dtype, endianness, order):
    text = cases("pooling-embedding")[1]["input"]
    exact = vectors(answer(embedding, "/v1/embeddings", input=text))[0]
    encoded = vectors(answer(embedding, "/v1/embeddings", input=text, encoding_format="base64",
                             embed_dtype=dtype, endianness=endianness))[0]
    data = base64.b64decode(encoded, validate=True)
    if dtype == "bfloat16":
        words = struct.unpack(f"{order}64H", data)
        values = struct.unpack("64f", struct.pack("64I", *(word << 16 for word in words)))
        assert values == pytest.approx(exact, rel=2**-8)
    else:
        assert data == struct.pack(f"{order}64{'f' if dtype == 'float32' else 'e'}", *exact)


def test_dimensions(embedding):
    text = cases("pooling-embedding")[2]["input"]
    whole = vectors(answer(embedding, "/v1/embeddings", input=text))[0]
    first = vectors(answer(embedding, "/v1/embeddings", input=text, dimensions=16))[0]
    length = math.sqrt(sum(v * v for v in whole[:16]))
    assert first == pytest.approx([v / length for v in whole[:16]], rel=1e-5)
    assert "greater than 0" in error(embedding, "/v1/embeddings", input=text, dimensions=0)
    assert "vectors of 64 dimensions" in error(embedding, "/v1/embeddings", input=text, dimensions=65)


def test_use_activation(embedding):
    text = cases("pooling-embedding")[0]["input"]
    unit = vectors(answer(embedding, "/v1/embeddings", input=text))[0]
    state = vectors(answer(embedding, "/v1/embeddings", input=text, use_activation=False))[0]
    length = math.sqrt(sum(v * v for v in state))
    assert length > 2 and sum(v * v for v in unit) == pytest.approx(1, rel=1e-5)
    assert unit == pytest.approx([v / length for v in state], rel=1e-5)
    assert "use `use_activation`" in error(embedding, "/v1/embeddings", input=text, normalize=True)


def test_pooling_gives_one_token_or_all(embedding):
    case = cases("pooling-embedding")[1]
    vector = vectors(answer(embedding, "/v1/embeddings", input=case["input"]))[0]
    response = answer(embedding, "/pooling", input=case["input"])
    assert response["data"][0]["data"] == vector
    assert response["data"][0]["object"] == "pooling"
    rows = answer(embedding, "/pooling", input=case["input"], task="token_embed")["data"][0]["data"]
    assert len(rows) == len(case["ids"])
    assert rows[-1] == vector
    # Each row is the vector of the text up to there.
    for count in (1, 3):
        assert vectors(answer(embedding, "/v1/embeddings", input=case["ids"][:count])) == [rows[count - 1]]
    packed = answer(embedding, "/pooling", input=case["input"], task="token_embed",
                    encoding_format="base64")["data"][0]["data"]
    flat = struct.unpack(f"<{64 * len(rows)}f", base64.b64decode(packed))
    assert list(flat) == pytest.approx([v for row in rows for v in row], rel=1e-6)
    assert "Unsupported task" in error(embedding, "/pooling", input="a", task="classify")


def test_truncation(embedding):
    ids = cases("pooling-embedding")[-1]["ids"]
    assert len(ids) > 100

    def of(**fields):
        return vectors(answer(embedding, "/v1/embeddings", **fields))

    assert of(input=ids, truncate_prompt_tokens=9) == of(input=ids[-9:])
    assert of(input=ids, truncate_prompt_tokens=9, truncation_side="right") == of(input=ids[:9])
    longest = (ids * 30)[:2048]
    assert of(input=longest + [5], truncate_prompt_tokens=-1) == of(input=(longest + [5])[1:])
    assert len(of(input=longest)) == 1  # as many tokens as the model has places for: no output follows
    assert "maximum context length is 2048" in error(embedding, "/v1/embeddings", input=longest + [5])


def test_messages(embedding):
    chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}
    for generation_prompt in (False, True):
        chat["add_generation_prompt"] = generation_prompt
        ids = embedding.post("/tokenize", chat).json()["tokens"]
        assert vectors(answer(embedding, "/v1/embeddings", **chat)) == vectors(
            answer(embedding, "/v1/embeddings", input=ids))
    # By default nothing is to follow.
    del chat["add_generation_prompt"]
    ids = embedding.post("/tokenize", {**chat, "add_generation_prompt": False}).json()["tokens"]
    assert vectors(answer(embedding, "/v1/embeddings", **chat)) == vectors(
        answer(embedding, "/v1/embeddings", input=ids))


def test_scores_of_vectors_are_cosines(embedding):
    texts = [c["input"] for c in cases("pooling-embedding")[:4]]
    exact = [c["values"] for c in cases("pooling-embedding")[:4]]
    expected = [sum(a * b for a, b in zip(exact[0], other)) for other in exact[1:]]
    response = answer(embedding, "/score", text_1=texts[0], text_2=texts[1:])
    scores = [d["score"] for d in response["data"]]
    assert scores == pytest.approx(expected, abs=0.02)
    assert response["id"].startswith("score-") and response["data"][0]["object"] == "score"
    pairs = answer(embedding, "/v1/score", queries=texts[:2], documents=texts[2:])
    assert [d["index"] for d in pairs["data"]] == [0, 1]
    assert pairs["data"][0]["score"] == scores[1]
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        ranked = answer(embedding, path, query=texts[0], documents=texts[1:])
        order = sorted(range(3), key=lambda i: -scores[i])
        assert [r["index"] for r in ranked["results"]] == order
        assert [r["relevance_score"] for r in ranked["results"]] == [scores[i] for i in order]
        assert ranked["results"][0]["document"] == {"text": texts[1:][order[0]], "multi_modal": None}
    best = answer(embedding, "/rerank", query=texts[0], documents=texts[1:], top_n=1)
    assert [r["index"] for r in best["results"]] == order[:1]
    assert "1:1, 1:N or N:N" in error(embedding, "/score", text_1=texts[:2], text_2=texts[:3])
    assert "At least one" in error(embedding, "/score", text_1="a", text_2=[])
    assert "valid string" in error(embedding, "/score", text_1="a", text_2=["b", 1])
    assert "documents" in error(embedding, "/rerank", query="a")


def test_reranker_is_hugging_faces_softmax_over_two_tokens(reranker):
    golden = cases("pooling-reranker")
    found = []
    for case in golden:
        query, document = case["input"]
        response = answer(reranker, "/score", text_1=query, text_2=document)
        found.append([response["data"][0]["score"]])
    expect_as_near_as_hugging_face(found, golden)
    query = golden[0]["input"][0]
    ranked = answer(reranker, "/rerank", query=query, documents=[c["input"][1] for c in golden[:2]])
    scores = {r["index"]: r["relevance_score"] for r in ranked["results"]}
    assert [scores[0], scores[1]] == [found[0][0], found[1][0]]
    values = [r["relevance_score"] for r in ranked["results"]]
    assert values == sorted(values, reverse=True)
    # Without its activation the score is the logits' difference.
    raw = answer(reranker, "/score", text_1=query, text_2=golden[0]["input"][1], use_activation=False)
    assert 1 / (1 + math.exp(-raw["data"][0]["score"])) == pytest.approx(found[0][0], rel=1e-5)
    assert "does not support Embeddings API" in error(reranker, "/v1/embeddings", input="a")


def test_a_score_template_sees_query_and_document(tmp_path_factory):
    template = tmp_path_factory.mktemp("template") / "reranker.jinja"
    template.write_text("{{ (messages | selectattr('role', 'eq', 'query') | first).content }}"
                        "{{ (messages | selectattr('role', 'eq', 'document') | first).content }}is")
    server = start(tmp_path_factory, "pooling-reranker", "--runner", "pooling", "--hf-overrides", RERANKER,
                   "--chat-template", str(template))
    score = answer(server, "/score", text_1="one ", text_2="two")["data"][0]["score"]
    whole = answer(server, "/classify", input="one twois")["data"][0]["probs"]
    assert [score] == whole
    server.stop()


def test_labels_are_hugging_faces(classifier):
    golden = cases("pooling-classifier")
    response = answer(classifier, "/classify", model=NAME, input=[c["input"] for c in golden])
    expect_as_near_as_hugging_face([d["probs"] for d in response["data"]], golden)
    assert response["id"].startswith("classify-")
    for item, case in zip(response["data"], golden):
        best = max(range(3), key=lambda i: case["values"][i])
        assert item["label"] == ["bad", "fair", "good"][best] and item["num_classes"] == 3
    tokens = answer(classifier, "/pooling", input=golden[0]["input"], task="token_classify")
    assert tokens["data"][0]["data"][-1] == response["data"][0]["probs"]
    assert "it has 3 labels" in error(classifier, "/score", text_1="a", text_2="b")


def test_what_the_model_does_not_give_is_not_there(embedding, server):
    chat = {"messages": [{"role": "user", "content": "x"}]}
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/invocations"):
        assert embedding.post(path, {**chat, "prompt": "x", "input": "x", "max_tokens": 1}).status_code == 404, path
    assert error(embedding, "/classify", input="x") == "The model does not support Classification API"
    for path in ("/v1/embeddings", "/pooling", "/classify", "/score", "/rerank"):
        response = server.post(path, {"input": "x"})
        assert response.status_code == 404 and "--runner pooling" in response.text, path
    assert embedding.tokens("Hello") == cases("pooling-embedding")[0]["ids"]


@pytest.mark.parametrize("body, part", [
    ({}, "`input` must be provided"),
    ({"input": []}, "`input` must be provided"),
    ({"input": ""}, "`input` must be provided"),
    ({"input": [[]]}, "`input` must be provided"),
    ({"input": 7}, "valid string or list"),
    ({"input": ["a", 7]}, "valid string or list of token ids"),
    ({"input": [2000]}, "out of vocabulary"),
    ({"input": [-1]}, "out of vocabulary"),
    ({"input": "a", "encoding_format": "hex"}, "'float', 'base64'"),
    ({"input": "a", "encoding_format": "bytes"}, "ask for `base64`"),
    ({"input": "a", "embed_dtype": "fp8_e4m3"}, "FP8"),
    ({"input": "a", "dimensions": "many"}, "dimensions"),
    ({"input": "a", "padding": "max_length"}, "Padding"),
    ({"input": ["a"] * 5000}, "at most 4096 entries"),
])
def test_faults_are_named(embedding, body, part):
    assert part in error(embedding, "/v1/embeddings", **body)


def test_unknown_model(embedding):
    with pytest.raises(openai.NotFoundError):
        embedding.client().embeddings.create(model="other", input="a")


def test_many_clients_at_once_get_their_own(embedding):
    golden = cases("pooling-embedding")
    alone = vectors(answer(embedding, "/v1/embeddings", input=[c["input"] for c in golden]))
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        jobs = [threads.submit(answer, embedding, "/v1/embeddings", input=golden[i % len(golden)]["input"])
                for i in range(64)]
        for i, job in enumerate(jobs):
            assert vectors(job.result()) == [alone[i % len(golden)]]
    embedding.wait_for_metric("vllm:num_requests_running", 0)
    assert embedding.metric("vllm:prompt_tokens_total") > 0
    assert embedding.metric("vllm:generation_tokens_total") == 0


@pytest.mark.parametrize("flags, part", [
    (["--runner", "generate", "--hf-overrides", RERANKER], "does not support `--runner generate`"),
    (["--convert", "classify"], "has no classifier"),
    (["--runner", "pooling", "--pooler-config", '{"pooling_type": "MEAN"}'], "the last token is pooled"),
    (["--runner", "pooling", "--pooler-config", '{"dimensions": 1000}'], "at most 256"),
    (["--runner", "pooling", "--hf-overrides", json.dumps({**json.loads(RERANKER), "classifier_from_token": ["nowhere", "is"]})], "is no token of the tokenizer"),
])
def test_starts_that_are_refused(make_server, flags, part):
    server = make_server(*flags, wait=False)
    assert server.process.wait(60) != 0
    assert part in server.output()


def test_pooler_config(make_server):
    server = make_server("--runner", "pooling", "--pooler-config", '{"normalize": false, "dimensions": 5}')
    vector = vectors(answer(server, "/v1/embeddings", input="Hello"))[0]
    assert len(vector) == 5 and sum(v * v for v in vector) != pytest.approx(1, rel=0.01)
    assert "does not support matryoshka" in error(server, "/v1/embeddings", input="a", dimensions=4)


def test_int8_models_pool(make_server):
    server = make_server("--runner", "pooling", "--quantization", "int8", "--kv-cache-dtype", "int8")
    vector = vectors(answer(server, "/v1/embeddings", input="Hello"))[0]
    assert sum(v * v for v in vector) == pytest.approx(1, rel=1e-5)
