"""--load-format packed: what one start packs, the next ones map."""
import os
import pathlib

import httpx
import pytest

from cli_support import Server, write_tiny_model

QUESTION = {"prompt": "The quick brown fox jumps over the lazy dog", "max_tokens": 12, "temperature": 0, "logprobs": 5}
IS_MAPPED = "The packed weights of an earlier start are mapped"


@pytest.fixture
def model(tmp_path):
    write_tiny_model(tmp_path / "model")
    return tmp_path / "model"


def answer_of(model, *flags, folder=None, under=()):
    """A greedy answer with logprobs, and the log."""
    env = {"TIERCEL_PACKED_FOLDER": str(folder)} if folder else {}
    with Server(model, "--served-model-name", "m", *flags, env=env, under=under) as server:
        server.wait_ready()
        answer = httpx.post(f"{server.url}/completions", json=QUESTION | {"model": "m"}, timeout=60).json()
        assert server.stop() == 0
        choice = answer["choices"][0]
        return (choice["text"], choice["logprobs"]), server.log


def packed_files(folder, model):
    below = pathlib.Path(f"{folder}{os.path.realpath(model.parent)}")
    return sorted(below.iterdir()) if below.is_dir() else []


@pytest.mark.parametrize("flags", [[], ["--quantization", "int8"], ["--tensor-parallel-size", "2"],
                                   ["--kv-cache-dtype", "int8"]], ids=" ".join)
def test_the_second_start_maps(model, tmp_path, flags):
    expected, _ = answer_of(model, *flags)
    folder = tmp_path / "kept"
    first, log = answer_of(model, *flags, "--load-format", "packed", folder=folder)
    assert first == expected
    assert "written" in log and IS_MAPPED not in log
    ranks = 2 if "--tensor-parallel-size" in flags else 1
    assert [file.name for file in packed_files(folder, model)] == [f"model-0-{rank}.packed" for rank in range(ranks)]
    assert all(file.stat().st_mode & 0o077 == 0 for file in packed_files(folder, model))
    second, log = answer_of(model, *flags, "--load-format", "packed", folder=folder)
    assert second == expected
    assert IS_MAPPED in log and "written" not in log


def turn_weights_around(file):
    """The same numbers in another order: a file of the same size that says something else."""
    data = file.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    file.write_bytes(data[:begin] + b"".join(data[i:i + 2] for i in range(len(data) - 2, begin - 1, -2)))


def test_changed_files_are_packed_anew(model, tmp_path):
    folder = tmp_path / "kept"
    flags = ["--load-format", "packed"]
    before, _ = answer_of(model, *flags, folder=folder)
    turn_weights_around(model / "model.safetensors")
    expected, _ = answer_of(model)
    assert expected != before
    after, log = answer_of(model, *flags, folder=folder)
    assert after == expected
    assert "packed anew" in log
    again, log = answer_of(model, *flags, folder=folder)
    assert again == expected and IS_MAPPED in log


def test_a_limit_of_a_files_size_is_said_and_costs_nothing_else(model, tmp_path):
    expected, _ = answer_of(model)
    found, log = answer_of(model, "--load-format", "packed", folder=tmp_path / "kept", under=("prlimit", "--fsize=100000"))
    assert found == expected
    assert "--load-format packed: " in log and "cannot be written: File too large" in log
    assert packed_files(tmp_path / "kept", model) == []


def test_a_folder_that_cannot_be_written_is_said_and_costs_nothing_else(model, tmp_path):
    expected, _ = answer_of(model)
    (tmp_path / "file").write_text("")
    found, log = answer_of(model, "--load-format", "packed", folder=tmp_path / "file")
    assert found == expected
    assert "--load-format packed: " in log and "cannot be written: Not a directory" in log


def test_a_file_that_is_cut_off_meanwhile_ends_the_server_with_its_name(model, tmp_path):
    folder = tmp_path / "kept"
    answer_of(model, "--load-format", "packed", folder=folder)
    with Server(model, "--served-model-name", "m", "--load-format", "packed",
                env={"TIERCEL_PACKED_FOLDER": str(folder)}) as server:
        server.wait_ready()
        file, = packed_files(folder, model)
        os.truncate(file, 4096)
        with pytest.raises(httpx.HTTPError):
            httpx.post(f"{server.url}/completions", json=QUESTION | {"model": "m"}, timeout=60)
        assert server.process.wait(timeout=20) == 1
        server.stop()
        assert f"{file}: the weights that lie there cannot be read any more" in server.log
    _, log = answer_of(model, "--load-format", "packed", folder=folder)
    assert "packed anew" in log
