"""Models by hub id, against a local stand-in of the hub."""
import os
import resource
import shutil
import subprocess

import httpx
import pytest

from cli_support import BINARY, Server, clean_env, run, write_tiny_model
from standin_hub import COMMIT, Proxy, StandInHub

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


def modelscope_env(hub, tmp_path, **extra):
    return {"VLLM_USE_MODELSCOPE": "True", "MODELSCOPE_CACHE": str(tmp_path),
            "MODELSCOPE_URL_SCHEME": "http://",
            "MODELSCOPE_DOMAIN": hub.url.removeprefix("http://"), **extra}


def failing_start(env, *words, **limits):
    """The log of a start that fails; its last line is the error."""
    result = subprocess.run([BINARY, "serve", REPOSITORY, "--port", "0", *map(str, words)],
                            env=clean_env(env), timeout=60, capture_output=True, text=True,
                            **limits)
    assert result.returncode == 1, result.stderr
    return result.stderr


def starts(env, *words):
    """The log of a start that succeeds."""
    with start(env, *words) as server:
        server.wait_ready()
        return server.log


def partial_files(tmp_path):
    return list(tmp_path.rglob("*.incomplete"))


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


def test_a_download_goes_on_where_the_connection_broke(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    hub.cut_after[WEIGHTS] = [100_000, 50_000]
    assert "trying again" in starts(env)
    ranges = [r for path, r in hub.requests if path == f"/cdn/{WEIGHTS}"]
    assert ranges[0] is None and len(ranges) == 3
    begins = [int(r.removeprefix("bytes=").rstrip("-")) for r in ranges[1:]]
    assert 0 < begins[0] < begins[1] <= 150_000
    assert not partial_files(tmp_path)


def test_the_next_run_goes_on_where_the_last_one_gave_up(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    hub.cut_after[WEIGHTS] = [100_000] + 10 * [0]
    assert "run it again" in failing_start(env)
    hub.cut_after.clear()
    [partial] = [p for p in partial_files(tmp_path) if p.stat().st_size > 0]
    kept = partial.stat().st_size
    assert 0 < kept <= 100_000
    hub.requests.clear()
    starts(env)
    assert (f"/cdn/{WEIGHTS}", f"bytes={kept}-") in hub.requests


def test_a_server_that_ignores_ranges(hub, tmp_path):
    hub.ignore_range = True
    hub.cut_after[WEIGHTS] = [100_000]
    starts(serve_env(hub, tmp_path))


def test_passing_answers_are_waited_for(hub, tmp_path):
    hub.next_answers["listing"] = [(500, {}), (500, {})]
    hub.next_answers[WEIGHTS] = [(429, {"Retry-After": "1"}), (503, {})]
    log = starts(serve_env(hub, tmp_path))
    assert log.count("HTTP 500; trying again") == 2
    assert "HTTP 429; trying again in 1.0 s" in log


def test_a_server_that_asks_for_an_hour_is_not_waited_for(hub, tmp_path):
    hub.next_answers["listing"] = [(429, {"Retry-After": "3600"})]
    assert "HTTP 429" in failing_start(serve_env(hub, tmp_path))


def test_wrong_content_is_fetched_again_and_then_refused(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    size = (hub.folder / WEIGHTS).stat().st_size
    hub.corrupt[WEIGHTS] = 1
    with start(env) as server:
        server.wait_ready()
        assert "checksum" in server.log
    hub.corrupt[WEIGHTS] = 100
    message = failing_start(serve_env(hub, tmp_path / "other"))
    assert WEIGHTS in message and "checksum" in message
    assert not [p for p in partial_files(tmp_path / "other") if p.stat().st_size == size]


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


def test_a_mirror_without_hashes_tells_them_file_by_file(hub, tmp_path):
    hub.hashes_listed = False
    hub.corrupt[WEIGHTS] = 1
    assert "checksum" in starts(serve_env(hub, tmp_path))
    sha256, _ = hub.hashes((hub.folder / WEIGHTS).read_bytes())
    assert (tmp_path / "hf/hub/models--org--tiny-0.1B/blobs" / sha256).exists()


def test_the_key_stays_at_the_hub(hub, tmp_path):
    hub.token = "secret-token"
    log = starts(serve_env(hub, tmp_path, HF_TOKEN="secret-token"))
    assert hub.file_server_keys and not any(hub.file_server_keys)
    assert "secret-token" not in log


def test_proxy(hub, tmp_path):
    proxy = Proxy(hub.url)
    env = serve_env(hub, tmp_path, HF_ENDPOINT="http://hub.invalid")
    try:
        starts({**env, "HTTP_PROXY": proxy.url})
        assert any("/revision/main" in url for url in proxy.seen)
        assert any(f"/resolve/{COMMIT}/{WEIGHTS}" in url for url in proxy.seen)
        proxy.seen.clear()
        env["HF_HOME"] = str(tmp_path / "other")
        failing_start({**env, "http_proxy": proxy.url, "NO_PROXY": ".invalid"})
        assert not proxy.seen
    finally:
        proxy.close()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_whole_copy_is_used_whatever_the_hub_answers(hub, tmp_path, status):
    env = serve_env(hub, tmp_path)
    starts(env)
    hub.listing_status = status
    log = starts(env)
    assert f"HTTP {status}" in log and "using the copy in the cache" in log
    failing_start(env, "--revision", "v9")  # nothing of that is there


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_whole_copy_of_modelscope(hub, tmp_path, status):
    env = modelscope_env(hub, tmp_path)
    starts(env)
    hub.listing_status = status
    assert "using the copy in the cache" in starts(env)
    assert f"HTTP {status}" in failing_start(env, "--revision", "v2")


def test_a_copy_with_a_hole_is_not_used(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    starts(env)
    (tmp_path / "hf/hub/models--org--tiny-0.1B/snapshots" / COMMIT / WEIGHTS).resolve().unlink()
    hub.listing_status = 404
    message = failing_start(env)
    assert "not whole" in message and WEIGHTS in message


def test_a_new_version_that_cannot_be_fetched(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    starts(env)
    hub.commit = "f" * 40
    hub.change_listing = lambda listing: {**listing, "siblings": listing["siblings"] + [
        {"rfilename": "extra.json", "size": 5, "blobId": "1" * 40}]}
    assert "using the copy in the cache" in starts(env)


def hostile(**changes):
    def change(listing):
        for siblings, entry in ((listing.get("siblings"), {"rfilename": "e.json", "size": 2}),
                                (listing.get("Data", {}).get("Files"),
                                 {"Path": "e.json", "Size": 2, "Type": "blob"})):
            if siblings is not None:
                if "name" in changes:
                    entry["rfilename" if "rfilename" in entry else "Path"] = changes["name"]
                if "size" in changes:
                    entry["size" if "size" in entry else "Size"] = changes["size"]
                siblings.extend([entry] * changes.get("count", 1))
        return listing
    return change


@pytest.mark.parametrize("changes", [
    {"name": "../../../evil.json"}, {"name": "/tmp/evil.json"}, {"name": "a\\..\\evil.json"},
    {"name": "evil\n\x1b[2J.json"}, {"name": "x" * 5000 + ".json"}, {"count": 2}, {"count": 20_000},
    {"size": 1 << 62}, {"size": -1}, {"size": 1e30}, {"size": "2"}])
@pytest.mark.parametrize("env_of", [serve_env, modelscope_env])
def test_hostile_listings_are_refused_by_one_line(hub, tmp_path, changes, env_of):
    hub.change_listing = hostile(**changes)
    log = failing_start(env_of(hub, tmp_path))
    error = log.splitlines()[-1]
    assert hub.url in error and len(error) < 500 and "\x1b" not in log
    assert not [p for p in tmp_path.rglob("*") if "evil" in p.name]


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_disk_that_fills_up(hub, tmp_path):
    env = serve_env(hub, tmp_path)
    message = failing_start(env, preexec_fn=limit_file_size).splitlines()[-1]
    assert "cannot be written" in message and ".incomplete" in message and "make room" in message
    assert any(p.stat().st_size == 100_000 for p in partial_files(tmp_path))
    hub.requests.clear()
    starts(env)
    assert (f"/cdn/{WEIGHTS}", "bytes=100000-") in hub.requests


def test_what_is_there_counts_for_the_disk(hub, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    sizes = {p.name: p.stat().st_size for p in hub.folder.iterdir()}
    room = sum(sizes.values()) + 300_000
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk],
                      capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        env = serve_env(hub, tmp_path, HF_HOME=str(disk))
        hub.cut_after[WEIGHTS] = [sizes[WEIGHTS] - 1000] + 10 * [0]
        failing_start(env)
        hub.cut_after.clear()
        assert shutil.disk_usage(disk).free < sizes[WEIGHTS]
        starts(env)
        # And a file that is larger than what is free is refused before anything is fetched.
        hub.change_listing = hostile(size=room)
        hub.commit = "e" * 40
        assert "are still to come" in failing_start(env)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_modelscope(hub, tmp_path):
    env = modelscope_env(hub, tmp_path)
    starts(env)
    folder = tmp_path / "models" / "org" / "tiny-0___1B"
    assert (folder / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    # The second time only the listing is asked for.
    hub.requests.clear()
    starts(env)
    assert len(hub.requests) == 1


def test_modelscope_revisions_of_equal_sizes(hub, tmp_path):
    other = tmp_path / "v2"
    shutil.copytree(hub.folder, other)
    data = bytearray((other / WEIGHTS).read_bytes())
    data[-2:] = bytes([data[-2] ^ 1, data[-1]])
    (other / WEIGHTS).write_bytes(data)
    hub.revisions["v2"] = other
    env = modelscope_env(hub, tmp_path)
    copy = tmp_path / "models" / "org" / "tiny-0___1B" / WEIGHTS
    starts(env)
    hub.requests.clear()
    starts(env, "--revision", "v2")
    assert copy.read_bytes() == data
    assert len(hub.requests) == 2  # the listing and the one file that differs
    offline = failing_start({**env, "HF_HUB_OFFLINE": "1"})
    assert "'v2'" in offline and "'master'" in offline
    starts(env)
    assert copy.read_bytes() == (hub.folder / WEIGHTS).read_bytes()
