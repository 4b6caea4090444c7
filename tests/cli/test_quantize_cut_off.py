"""tiercel quantize that does not get to its end: what it has written goes."""
import resource
import signal
import subprocess

import pytest

from cli_support import BINARY, clean_env, write_tiny_model

OUTPUTS = {"folder": ("out", "int4"), "file": ("out.gguf", "q8_0")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "float", num_hidden_layers=300)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(kind, sent, model, tmp_path):
    name, scheme = OUTPUTS[kind]
    process = subprocess.Popen([BINARY, "quantize", str(model), str(tmp_path / name), "--scheme", scheme], env=clean_env(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    for line in process.stdout:  # the table: layer 3 is written
        if line.split()[0] == "3":
            break
    process.send_signal(sent)
    rest, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"tiercel quantize: interrupted; nothing is left of {tmp_path / name}"
    assert "299" not in rest
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_an_empty_folder_empty(model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    # Files that may not grow beyond 200 kB. SIGXFSZ would end what it finds unprepared.
    result = subprocess.run([BINARY, "quantize", str(model), str(out), "--scheme", "int4"], env=clean_env(), text=True,
                            capture_output=True, timeout=60,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    assert result.returncode == 1
    assert "cannot be written" in result.stderr
    assert out.is_dir() and not list(out.iterdir())


def test_a_folder_with_files_keeps_them(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = subprocess.run([BINARY, "quantize", str(model), str(tmp_path), "--scheme", "int4"], env=clean_env(), text=True,
                            capture_output=True, timeout=60)
    assert result.returncode == 2
    assert "is not an empty folder" in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"
