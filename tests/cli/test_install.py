"""`make install`, into a folder of the test."""
import os
import pathlib
import subprocess

import pytest

from cli_support import BINARY, ROOT, clean_env

pytestmark = pytest.mark.skipif(pathlib.Path(BINARY) != ROOT / "build" / "release" / "tiercel",
                                reason="make installs the release build")


def install(folder, *words):
    # -o: the program under test as it is.
    subprocess.run(["make", "-C", ROOT, "-o", "build", "install", f"DESTDIR={folder}", "PREFIX=/opt/t", *words],
                   check=True, capture_output=True, timeout=60)
    return folder / "opt" / "t"


def say(program, *words):
    return subprocess.run([program, *words], cwd="/", env=clean_env(), check=True, capture_output=True, text=True,
                          timeout=60).stdout


def test_the_program_its_license_and_its_documents(tmp_path):
    prefix = install(tmp_path)
    assert sorted(os.listdir(prefix)) == ["bin", "share"]
    assert os.listdir(prefix / "bin") == ["tiercel"]
    documents = prefix / "share" / "doc" / "tiercel"
    assert {"LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "docs"} == set(os.listdir(documents))
    assert (documents / "docs" / "operations.md").exists()
    assert say(prefix / "bin" / "tiercel", "--version") == say(BINARY, "--version")
    for file in ("man/man1/tiercel-serve.1", "bash-completion/completions/tiercel", "zsh/site-functions/_tiercel",
                 "fish/vendor_completions.d/tiercel.fish"):
        assert "max-num-seqs" in (prefix / "share" / file).read_text().replace("\\", "")


def test_units_and_configuration_where_they_are_asked_for(tmp_path):
    assert not (install(tmp_path) / "lib").exists() and not (tmp_path / "etc").exists()
    prefix = install(tmp_path, "SERVICE=1")
    assert sorted(os.listdir(prefix / "lib/systemd/system")) == ["tiercel.service", "tiercel@.service"]
    assert os.listdir(tmp_path / "etc" / "tiercel") == ["tiercel.yaml"]


def test_the_name_that_scripts_for_vllm_run(tmp_path):
    prefix = install(tmp_path, "VLLM_NAME=1")
    vllm = prefix / "bin" / "vllm"
    assert os.readlink(vllm) == "tiercel"  # whatever the root that it is moved to
    assert say(vllm, "--version") == say(BINARY, "--version")
    usage = say(vllm, "serve", "--help")
    assert "tiercel serve [model_tag] [options]" in usage and usage == say(BINARY, "serve", "--help")
    install(tmp_path, "VLLM_NAME=1")  # over what is there
    assert os.readlink(vllm) == "tiercel"
