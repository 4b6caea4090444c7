"""Vectors, labels and scores: the server's numbers."""

import shutil

import pytest
from tiercel import LLM, PoolingParams

from serving import Server
from tiny_model import MODEL, NAME

TEXTS = ["Hello", "my name is", "The future"]


@pytest.fixture(scope="module", params=["pooling-embedding", "pooling-classifier"])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / request.param
    shutil.copytree(MODEL.parent / "models" / request.param, folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / file, folder)
    llm = LLM(folder, max_model_len=512, kv_cache_memory_bytes=8 << 20)
    server = Server("--load-format", "auto", "--max-model-len", "512", model=folder)
    yield request.param, llm, server
    server.stop()
    llm.shutdown()


def asked(server, path, body):
    answer = server.post(path, {"model": NAME, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_the_servers_numbers(both):
    name, llm, server = both
    if name == "pooling-embedding":
        outputs = llm.embed(TEXTS, use_tqdm=False)
        theirs = [each["embedding"] for each in asked(server, "/v1/embeddings", {"input": TEXTS})]
        assert [o.outputs.embedding for o in outputs] == theirs
        assert outputs[0].outputs.hidden_size == len(theirs[0])
        scores = [o.outputs.score for o in llm.score("Hello", TEXTS, use_tqdm=False)]
        assert scores == [each["score"] for each in asked(server, "/score", {"text_1": "Hello", "text_2": TEXTS})]
        assert scores[0] == pytest.approx(1)
    else:
        outputs = llm.classify(TEXTS, use_tqdm=False)
        theirs = [each["probs"] for each in asked(server, "/classify", {"input": TEXTS})]
        assert [o.outputs.probs for o in outputs] == theirs
        assert outputs[0].outputs.num_classes == len(theirs[0])
    encoded = llm.encode(TEXTS, use_tqdm=False)
    assert [o.outputs.data for o in encoded] == [each["data"] for each in asked(server, "/pooling", {"input": TEXTS})]
    assert encoded[0].prompt_token_ids == llm.get_tokenizer().encode(TEXTS[0])


def test_parameters_and_errors(both):
    _, llm, server = both
    (raw,) = llm.encode("Hello", PoolingParams(use_activation=False), use_tqdm=False)
    (theirs,) = asked(server, "/pooling", {"input": "Hello", "use_activation": False})
    assert raw.outputs.data == theirs["data"]
    with pytest.raises(ValueError, match="the model gives"):
        llm.generate("Hello", use_tqdm=False)
    with pytest.raises(ValueError, match="out of vocabulary"):
        llm.encode([10 ** 6], use_tqdm=False)


def test_a_model_that_generates_has_none(llm):
    for call in (llm.embed, llm.classify, llm.encode):
        with pytest.raises(ValueError, match="the model gives tokens"):
            call("Hello", use_tqdm=False)
