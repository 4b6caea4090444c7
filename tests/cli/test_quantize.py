"""tiercel quantize, and serving what it writes."""
import json
import re
import struct

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


def test_exclusions_of_nothing_are_named(model, tmp_path):
    patterns = ("*.up_porj", "lm_head", "*.1.mlp.up_proj")
    result = run("quantize", model, tmp_path / "out", "--scheme", "w8a8-dynamic", "--exclude", *patterns)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("no linear has such a name") == 1 and "--exclude: *.up_porj: " in result.stderr


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


def read_tensors(folder):
    """Every tensor of a folder's safetensors: (dtype, shape, bytes)."""
    tensors = {}
    for file in folder.glob("*.safetensors"):
        data = file.read_bytes()
        length, = struct.unpack_from("<Q", data)
        for name, t in json.loads(data[8:8 + length]).items():
            tensors[name] = (t["dtype"], t["shape"], data[8 + length:][slice(*t["data_offsets"])])
    return tensors


def bf16_values(data):
    return struct.unpack(f"<{len(data) // 2}f", b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2)))


def kl_mean(out, model, text):
    result = run("eval", "kl", out, "--reference", model, "--text", text, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["kl_mean"]


def test_int4_is_what_compressed_tensors_packs(model, tmp_path):
    """The layout as vLLM and transformers read it, and each weight the nearest to what it was."""
    out = tmp_path / "int4"
    result = run("quantize", model, out, "--scheme", "int4", "--exclude", "model.layers.1.mlp.down_proj")
    assert result.returncode == 0, result.stderr
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    weights = config["config_groups"]["group_0"]["weights"]
    assert (config["quant_method"], config["format"]) == ("compressed-tensors", "pack-quantized")
    assert config["ignore"] == ["lm_head", "model.layers.1.mlp.down_proj"]
    assert config["config_groups"]["group_0"]["targets"] == ["Linear"]
    assert {k: weights[k] for k in ("num_bits", "type", "strategy", "group_size", "symmetric")} == {
        "num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
    index = json.loads((out / "model.safetensors.index.json").read_text())
    stored, floats = read_tensors(out), read_tensors(model)
    assert set(index["weight_map"]) == set(stored)
    assert stored["model.layers.1.mlp.down_proj.weight"] == floats["model.layers.1.mlp.down_proj.weight"]
    assert stored["model.embed_tokens.weight"] == floats["model.embed_tokens.weight"]
    packed = [name for name in stored if name.endswith(".weight_packed")]
    assert len(packed) == 13
    for name in packed:
        stem = name.removesuffix("_packed")
        n, k = floats[stem][1]
        assert stored[name][:2] == ("I32", [n, k // 8])
        assert stored[stem + "_scale"][:2] == ("BF16", [n, k // 128])
        assert struct.unpack("<2q", stored[stem + "_shape"][2]) == (n, k)
        words = struct.unpack(f"<{n * k // 8}I", stored[name][2])
        scales, exact = bf16_values(stored[stem + "_scale"][2]), bf16_values(floats[stem][2])
        for i, w in enumerate(exact[:4 * k]):
            code = (words[i // 8] >> i % 8 * 4 & 15) - 8
            assert abs(min(max(w / scales[i // 128], -8), 7) - code) <= 0.5001


def test_gptq_and_awq_lose_less_than_rounding(model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i} bottles of beer on the wall, take {i * 7 % 12} down. " for i in range(700)))
    outputs, kl = {}, {}
    for method in ("rtn", "gptq", "awq"):
        out = tmp_path / method
        result = run("quantize", model, out, "--scheme", "int4", "--method", method, "--calibration", text)
        assert result.returncode == 0, result.stderr
        assert "of the weights / of the outputs" in result.stdout
        outputs[method] = [float(loss) for loss in re.findall(r"[\d.]+ / ([\d.]+)", result.stdout)]
        kl[method] = kl_mean(out, model, text)
    assert len(outputs["rtn"]) == 14
    assert all(gptq < 0.9 * rtn for gptq, rtn in zip(outputs["gptq"], outputs["rtn"], strict=True))
    assert 0 < kl["gptq"] < kl["rtn"]
    # Random weights and inputs have little for AWQ; scales that did not cancel out would be another model.
    assert sum(outputs["awq"]) < sum(outputs["rtn"])
    assert 0 < kl["awq"] < 1.05 * kl["rtn"]


@pytest.mark.parametrize("group, kept", [(128, "I4"), (64, "I4_64"), (32, "Q4_0")])
def test_int4_is_served(group, kept, model, tmp_path):
    out = tmp_path / "int4"
    assert run("quantize", model, out, "--scheme", "int4", "--group", group).returncode == 0
    said, log = greedy(out)
    assert said and f"{kept} 14: kept as they are" in log
    again = run("quantize", out, tmp_path / "twice", "--scheme", "int4")
    assert again.returncode == 2 and "has weights of four bits already" in again.stderr


def test_w4a8_has_the_weights_of_int4_in_the_ascend_quantizers_layout(model, tmp_path):
    for scheme in ("w4a8", "int4"):
        result = run("quantize", model, tmp_path / scheme, "--scheme", scheme, "--group", "64", "--exclude", "*.1.mlp.down_proj")
        assert result.returncode == 0, result.stderr
    stored, int4 = read_tensors(tmp_path / "w4a8"), read_tensors(tmp_path / "int4")
    description = json.loads((tmp_path / "w4a8" / "quant_model_description.json").read_text())
    assert (description["version"], description["group_size"], description["model_quant_type"]) == ("1.0.0", 64, "W4A8_DYNAMIC")
    assert {name for name in description if "." in name} == set(stored)
    assert description["model.layers.1.mlp.down_proj.weight"] == "FLOAT"
    packed = [name.removesuffix("_packed") for name in int4 if name.endswith(".weight_packed")]
    assert len(packed) == 13
    for name in packed:
        n, k = int4[name + "_packed"][1][0], int4[name + "_packed"][1][1] * 8
        groups, stem = k // 64, name.removesuffix(".weight")
        assert stored[name][:2] == ("I8", [n // 2, k])
        assert all(not any(stored[f"{name}_offset{end}"][2]) for end in ("", "_second"))
        assert stored[name + "_scale"][1] == [n, 1] and stored[name + "_scale_second"][1] == [n, groups]
        words = struct.unpack(f"<{n * k // 8}I", int4[name + "_packed"][2])
        bytes_, scales = stored[name][2], bf16_values(int4[name + "_scale"][2])
        rows = struct.unpack(f"<{n}f", stored[name + "_scale"][2])
        seconds = struct.unpack(f"<{n * groups}f", stored[name + "_scale_second"][2])
        assert all(rows[i // groups] * second == scales[i] for i, second in enumerate(seconds))
        codes = [(word >> 4 * i & 15) - 8 for word in words for i in range(8)]
        signed = [(byte >> 4 * (r % 2) & 15 ^ 8) - 8 for r in range(n) for byte in bytes_[r // 2 * k:(r // 2 + 1) * k]]
        assert signed == codes
        shape, data = stored[stem + ".scale_bias"][1:]
        parts = 16 if stem.endswith(("o_proj", "down_proj")) else 1
        assert shape == [n, parts]
        sums = struct.unpack(f"<{n * parts}f", data)
        for i in range(0, n * parts, 37):
            first = i // parts * k + i % parts * k // parts
            assert sums[i] == pytest.approx(8 * sum(codes[j] * scales[j // 64] for j in range(first, first + k // parts)), abs=1e-3)
    said, log = greedy(tmp_path / "w4a8", "--quantization", "ascend")
    assert "ascend: of 14 linears, 13 W4A8 kept as they are, 1 float" in log
    assert said == greedy(tmp_path / "int4")[0]


@pytest.mark.parametrize("words, error", [
    (("MODEL",), "the following arguments are required"),
    (("MODEL", "OUT", "--scheme", "w4a4"), "invalid choice: 'w4a4'"),
    (("MODEL", "OUT", "--scheme", "w8a8"), "needs --calibration"),
    (("MODEL", "OUT", "--kv", "int8"), "needs --calibration"),
    (("MODEL", "OUT", "--scheme", "int4", "--method", "gptq"), "GPTQ needs --calibration"),
    (("MODEL", "OUT", "--scheme", "int4", "--group", "100"), "argument --group: found 100, expected 32, 64 or 128"),
    (("MODEL", "OUT", "--scheme", "int4", "--kv", "int8"), "leave --kv out"),
    (("MODEL", "OUT", "--method", "gptq"), "argument --method: belongs to --scheme w4a8 and int4"),
    (("MODEL", "OUT", "--scheme", "w4a8", "--smooth", "0.5"), "--scheme w4a8 writes weights alone; leave --smooth out"),
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
    ("fp8", "holds other weights"),
    ("modelopt", "modelopt is not supported"),
])
def test_a_float_model_is_no_quantized_one(model, flag, error):
    result = run("serve", model, "--quantization", flag, "--port", "0")
    assert result.returncode == 2 and error in result.stderr
