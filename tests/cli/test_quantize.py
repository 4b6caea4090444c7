"""tiercel quantize, and serving what it writes."""
import json

import openai
import pytest

from cli_support import TINY, Server, run, write_tiny_model

CALIBRATION = "To be, or not to be, that is the question. " * 40


def greedy(*words):
    """What a server with these flags says, greedily."""
    with Server(*words, "--max-model-len", "256", "--served-model-name", "m") as server:
        server.wait_ready()
        client = openai.OpenAI(base_url=server.url, api_key="none")
        answer = client.completions.create(model="m", prompt="Hello, world", max_tokens=24,
                                           temperature=0, extra_body={"ignore_eos": True})
        return answer.choices[0].text, server.log


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "float")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text(CALIBRATION)
    return path


def test_dynamic_output_answers_as_quantizing_at_load_does(model, tmp_path):
    out = tmp_path / "w8a8"
    result = run("quantize", model, out, "--scheme", "w8a8-dynamic")
    assert result.returncode == 0, result.stderr
    assert "of the weights" in result.stdout and "down_proj" in result.stdout
    description = json.loads((out / "quant_model_description.json").read_text())
    assert description["model_quant_type"] == "W8A8_DYNAMIC"
    assert description["model.layers.1.mlp.up_proj.weight"] == "W8A8_DYNAMIC"
    said, log = greedy(out, "--quantization", "ascend")
    assert "14 W8A8 per token" in log
    assert said == greedy(out)[0]  # found without the flag
    assert said == greedy(model, "--quantization", "int8")[0]


def test_static_and_mixed_outputs_are_served(model, text, tmp_path):
    flags = ("--calibration", text, "--smooth", "0.5", "--exclude", "*.down_proj")
    for scheme, reading in (("w8a8", "12 W8A8 static, 2 float"),
                            ("w8a8-mix", "12 W8A8_MIX read per token, 2 float")):
        out = tmp_path / scheme
        result = run("quantize", model, out, "--scheme", scheme, *flags)
        assert result.returncode == 0, result.stderr
        assert "float" in result.stdout and "x down_proj" in result.stdout
        said, log = greedy(out)
        assert said and reading in log
    static, log = greedy(out, "--additional-config", '{"w8a8_mix": "static"}')
    assert static and "12 W8A8_MIX read as static" in log
    # The same bits without fused quantization, and in eager steps.
    assert static == greedy(out, "--enforce-eager", "--additional-config", json.dumps(
        {"w8a8_mix": "static", "ascend_compilation_config": {"fuse_norm_quant": False}}))[0]


@pytest.mark.parametrize("words, error", [
    (("MODEL",), "the following arguments are required"),
    (("MODEL", "OUT", "--scheme", "w4a4"), "invalid choice: 'w4a4'"),
    (("MODEL", "OUT", "--scheme", "w8a8"), "needs --calibration"),
    (("MODEL", "OUT", "--kv", "int8"), "needs --calibration"),
    (("MODEL", "OUT", "--static-loss", "2"), "argument --static-loss: found 2"),
    (("MODEL", "OUT", "--smooth", "2"), "argument --smooth: found 2"),
    (("MODEL", "OUT", "--calibration", "/nowhere"), "/nowhere cannot be opened"),
    (("MODEL", "MODEL"), "is not an empty folder"),
])
def test_mistakes_are_named(model, tmp_path, words, error):
    places = {"MODEL": model, "OUT": tmp_path / "out"}
    result = run("quantize", *(places.get(word, word) for word in words))
    assert result.returncode != 0 and error in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 4


@pytest.mark.parametrize("flag, error", [
    ("ascend", "ModelSlim Quantization Config Not Found"),
    ("compressed-tensors", "found no quantization_config"),
    ("awq", "holds other weights"),
    ("fp8", "fp8 is not supported"),
])
def test_a_float_model_is_no_quantized_one(model, flag, error):
    result = run("serve", model, "--quantization", flag, "--port", "0")
    assert result.returncode == 2 and error in result.stderr
