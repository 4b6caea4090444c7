"""Models by hub id, against a local stand-in of the hub."""
import os

import httpx
import pytest

from cli_support import Server, run, write_tiny_model
from standin_hub import COMMIT, StandInHub

REPOSITORY = "org/tiny-0.1B"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_tiny_model(tmp_path_factory.mktemp("hub"))
    (folder / "README.md").write_text("not needed")
    return folder


@pytest.fixture
def hub(folder):
    hub = StandInHub(folder, REPOSITORY)
    yield hub
    hub.close()


def serve_env(hub, tmp_path, **extra):
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path), **extra}


def start(env, *words):
    return Server(REPOSITORY, "--max-model-len", "256", *words, env=env)


def failing_start(env, *words):
    result = run("serve", REPOSITORY, "--port", "0", *words, env=env)
    assert result.returncode == 1, result.stderr
    return result.stderr


def test_download_fills_the_standard_cache(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    with start(env) as server:
        server.wait_ready()
        assert httpx.get(f"{server.url}/models").json()["data"][0]["id"] == REPOSITORY
    root = tmp_path / "hf" / "hub" / "models--org--tiny-0.1B"
    assert (root / "refs" / "main").read_text() == COMMIT
    link = root / "snapshots" / COMMIT / WEIGHTS
    assert link.is_symlink() and os.readlink(link).startswith("../../blobs/")
    assert link.read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    assert not (root / "snapshots" / COMMIT / "README.md").exists()
    assert not list((root / "blobs").glob("*.incomplete"))

    # The second time only the listing is asked for; offline nothing is.
    hub.requests.clear()
    with start(env) as server:
        server.wait_ready()
    assert [path.split("?")[0] for path, _ in hub.requests] == \
        [f"/api/models/{REPOSITORY}/revision/main"]
    hub.requests.clear()
    with start({**env, "HF_HUB_OFFLINE": "1"}) as server:
        server.wait_ready()
    assert hub.requests == []
    # With the hub gone the copy is used, with a warning.
    with start({**env, "HF_ENDPOINT": "http://127.0.0.1:9"}) as server:
        server.wait_ready()
        assert "using the copy in the cache" in server.log


def test_interrupted_download_goes_on_where_it_stopped(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    hub.cut_after[WEIGHTS] = 100_000
    failing_start(env)
    partial = list((tmp_path / "hf" / "hub").rglob("*.incomplete"))
    assert len(partial) == 1 and 0 < partial[0].stat().st_size <= 100_000
    kept = partial[0].stat().st_size
    hub.requests.clear()
    with start(env) as server:
        server.wait_ready()
    assert (f"/cdn/{WEIGHTS}", f"bytes={kept}-") in hub.requests


def test_wrong_content_is_fetched_again_and_then_refused(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    hub.corrupt[WEIGHTS] = 1
    with start(env) as server:
        server.wait_ready()
        assert "checksum" in server.log
    hub.corrupt[WEIGHTS] = 100
    message = failing_start(serve_env(hub, tmp_path / "other"))
    assert WEIGHTS in message and "checksum" in message
    assert not list((tmp_path / "other").rglob("*.incomplete"))


def test_token_and_revision(hub, tmp_path):
    hub.token = "secret-token"
    env = serve_env(hub, tmp_path)
    message = failing_start(env)
    assert "401" in message and "HF_TOKEN" in message
    with start({**env, "HF_TOKEN": "secret-token"}, "--revision", "v1") as server:
        server.wait_ready()
        assert "secret-token" not in server.log


def test_clear_errors(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    missing = run("serve", "org/other", "--port", "0", env=env)
    assert missing.returncode == 1 and "404" in missing.stderr and "org/other" in missing.stderr
    assert "'v9'" in failing_start(env, "--revision", "v9")
    offline = failing_start({**env, "HF_HUB_OFFLINE": "1"})
    assert "HF_HUB_OFFLINE" in offline and str(tmp_path) in offline
    gone = failing_start({**env, "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert "127.0.0.1:9" in gone


def test_download_dir(hub, tmp_path):
    with start(serve_env(hub, tmp_path), "--download-dir", tmp_path / "here") as server:
        server.wait_ready()
    assert (tmp_path / "here" / "models--org--tiny-0.1B" / "refs" / "main").exists()


def test_modelscope(hub, tmp_path):
    env = {"VLLM_USE_MODELSCOPE": "True", "MODELSCOPE_CACHE": str(tmp_path),
           "MODELSCOPE_URL_SCHEME": "http://", "MODELSCOPE_DOMAIN": hub.url.removeprefix("http://")}
    with start(env) as server:
        server.wait_ready()
    folder = tmp_path / "models" / "org" / "tiny-0___1B"
    assert (folder / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
