"""What a service manager hears of a server: sd_notify, at the right moment."""
import json
import pathlib
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from cli_support import BINARY, ROOT, clean_env, dummy_server, free_port, run


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """(the socket, the value of NOTIFY_SOCKET)"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = str(tmp_path / "notify") if request.param == "path" else f"@tiercel-{tmp_path.name}-{free_port()}"
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(60)
        yield listener, name


def health(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def hear(listener):
    text = listener.recv(4096).decode()
    assert text.endswith("\n")
    return dict(line.split("=", 1) for line in text.splitlines())


def test_ready_is_said_when_health_is_200(manager):
    listener, name = manager
    with dummy_server(env={"NOTIFY_SOCKET": name}) as server:
        first = hear(listener)
        assert first["STATUS"].startswith("Loading ") and int(first["EXTEND_TIMEOUT_USEC"]) >= 10_000_000
        said = first
        while "READY" not in said:
            said = hear(listener)
        assert health(server.port) == 200
        assert said["READY"] == "1" and said["STATUS"].startswith("Serving ")
        assert server.stop() == 0
        last = hear(listener)
        assert last["STOPPING"] == "1" and "STATUS" in last


def test_ready_is_not_said_before(tmp_path):
    """A server that does not find its model."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        result = run("serve", tmp_path / "none", "--port", free_port(), env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert result.returncode == 2
        listener.settimeout(0.1)
        heard = []
        try:
            while True:
                heard.append(hear(listener))
        except TimeoutError:
            pass
        assert heard and all("READY" not in said for said in heard)


def test_a_manager_that_is_gone_is_no_reason_to_stop(tmp_path):
    with dummy_server(env={"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as server:
        server.wait_ready()
        assert health(server.port) == 200
        assert server.stop() == 0


def test_a_manager_that_does_not_read_is_not_waited_for(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    filler.sendto(b"x", str(tmp_path / "notify"))
            with dummy_server(env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
                server.wait_ready()
                assert server.stop() == 0


@pytest.mark.parametrize("value", ["notify", "@", "/" + 108 * "x", "vsock:2:1"])
def test_an_address_that_is_none(value):
    result = run("serve", "model", "--port", free_port(), env={"NOTIFY_SOCKET": value})
    assert result.returncode == 2
    assert "NOTIFY_SOCKET" in result.stderr.splitlines()[-1]


# ---- units

needs_release = pytest.mark.skipif(pathlib.Path(BINARY) != ROOT / "build" / "release" / "tiercel",
                                   reason="the release build is installed")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    subprocess.run(["cmake", "--install", ROOT / "build" / "release", "--prefix", "/opt/t", "--component", "service"],
                   env=clean_env({"DESTDIR": str(folder)}), check=True, capture_output=True, timeout=60)
    return folder


@needs_release
@pytest.mark.parametrize("unit,config", [("tiercel.service", "tiercel"), ("tiercel@.service", "%i")])
def test_units_name_the_program_where_it_is_installed(root, unit, config):
    text = (root / "opt/t/lib/systemd/system" / unit).read_text()
    assert f"ExecStart=/opt/t/bin/tiercel serve --config /etc/tiercel/{config}.yaml\n" in text
    assert "@" not in re.sub(r"@system-service", "", text)


@needs_release
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", ["tiercel.service", "tiercel@.service"])
def test_systemd_takes_the_units(root, tmp_path, unit):
    text = (root / "opt/t/lib/systemd/system" / unit).read_text().replace("/opt/t/bin/tiercel", BINARY)
    (tmp_path / unit).write_text(text.replace("Documentation=", "#"))  # man pages are not installed here
    result = subprocess.run(["systemd-analyze", "verify", tmp_path / unit], capture_output=True, text=True, timeout=60)
    assert unit.split(".")[0] not in result.stderr, result.stderr


@needs_release
def test_a_config_that_was_edited_stays(root):
    config = root / "etc" / "tiercel" / "tiercel.yaml"
    assert config.read_text() == (ROOT / "deploy" / "tiercel.yaml").read_text()
    config.write_text("model: mine\n")
    subprocess.run(["cmake", "--install", ROOT / "build" / "release", "--prefix", "/opt/t", "--component", "service"],
                   env=clean_env({"DESTDIR": str(root)}), check=True, capture_output=True, timeout=60)
    assert config.read_text() == "model: mine\n"


# ---- the configuration

CONFIG = (ROOT / "deploy" / "tiercel.yaml").read_text()
SUGGESTED = re.findall(r"^# ([a-z][a-z-]*: \S+)$", CONFIG, re.MULTILINE)


def test_every_line_of_the_example_is_a_flag(tmp_path):
    assert len(SUGGESTED) >= 8
    help_text = run("serve", "--help=all").stdout
    for line in SUGGESTED + re.findall(r"^([a-z][a-z-]*: \S+)$", CONFIG, re.MULTILINE):
        assert f"--{line.split(':')[0]}" in help_text


def test_the_example_is_served_with_all_that_it_suggests(tmp_path):
    given = [line for line in SUGGESTED if not line.startswith(("tensor-parallel-size", "max-model-len"))]
    config = re.sub(r"^(model|port): .*\n", "", CONFIG, flags=re.MULTILINE)
    config = config.replace("4G", "64M") + "".join(f"{line}\n" for line in given).replace("4G", "64M")
    (tmp_path / "tiercel.yaml").write_text(config)
    with dummy_server("--config", tmp_path / "tiercel.yaml") as server:
        server.wait_ready()
        with urllib.request.urlopen(f"{server.url}/models", timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "qwen3"
        assert server.stop() == 0
