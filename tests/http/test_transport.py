"""TLS and Unix sockets, with the real program."""

import json
import random
import shutil
import socket
import ssl
import subprocess
import time

import pytest
import requests

from tiny_model import NAME

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")


def make_certificate(folder, name, authority=None):
    """A key and a certificate for localhost: <name>.key, <name>.crt."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
               f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key,
               "-out", certificate]
    if authority:
        command += ["-CA", folder / f"{authority}.crt", "-CAkey", folder / f"{authority}.key"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return key, certificate


def tls_server(make_server, key, certificate, *flags):
    server = make_server("--ssl-keyfile", str(key), "--ssl-certfile", str(certificate), *flags,
                         wait=False)
    server.url = server.url.replace("http:", "https:")
    return server


def wait_for_health(server, **options):
    end = time.monotonic() + 60
    while True:
        try:
            if requests.get(server.url + "/health", timeout=2, **options).status_code == 200:
                return
        except requests.ConnectionError as error:
            if isinstance(error, requests.exceptions.SSLError):
                raise
        assert time.monotonic() < end and server.process.poll() is None, server.output()
        time.sleep(0.05)


def peer_name(port, authority):
    """The name in the certificate that the server shows now."""
    context = ssl.create_default_context(cafile=str(authority))
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            return dict(part[0] for part in tls.getpeercert()["subject"])["commonName"]


@needs_openssl
def test_tls_answers_streams_and_pieces(make_server, tmp_path):
    key, certificate = make_certificate(tmp_path, "one")
    server = tls_server(make_server, key, certificate)
    wait_for_health(server, verify=str(certificate))
    body = {"model": NAME, "prompt": "Hello", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    whole = requests.post(server.url + "/v1/completions", json=body, verify=str(certificate)).json()
    text = ""
    with requests.post(server.url + "/v1/completions", json={**body, "stream": True}, stream=True,
                       verify=str(certificate)) as response:
        for line in response.iter_lines():
            if line.startswith(b"data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
    assert text == whole["choices"][0]["text"]

    # Pipelined requests in records of any size.
    context = ssl.create_default_context(cafile=str(certificate))
    source = random.Random(5)
    payload = json.dumps(body)
    request = ("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(payload)}\r\n\r\n{payload}").encode()
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            data = request * 3 + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
            while data:
                size = source.randint(1, 100)
                tls.sendall(data[:size])
                data = data[size:]
            received = b""
            while piece := tls.recv(65536):
                received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count(json.dumps(text).encode()[1:-1]) >= 3

    # No TLS at all: the connection ends, the server lives.
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        while plain.recv(65536):
            pass
    wait_for_health(server, verify=str(certificate))
    assert server.stop() == 0


@needs_openssl
def test_client_certificates(make_server, tmp_path):
    make_certificate(tmp_path, "authority")
    key, certificate = make_certificate(tmp_path, "one")
    client_key, client_certificate = make_certificate(tmp_path, "client", authority="authority")
    server = tls_server(make_server, key, certificate, "--ssl-ca-certs",
                        str(tmp_path / "authority.crt"), "--ssl-cert-reqs", "2")
    options = {"verify": str(certificate), "cert": (str(client_certificate), str(client_key))}
    wait_for_health(server, **options)
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url + "/health", verify=str(certificate), timeout=10)


@needs_openssl
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_with_client_certificates_are_resumed(make_server, tmp_path, version):
    make_certificate(tmp_path, "authority")
    key, certificate = make_certificate(tmp_path, "one")
    client_key, client_certificate = make_certificate(tmp_path, "client", authority="authority")
    server = tls_server(make_server, key, certificate, "--ssl-ca-certs",
                        str(tmp_path / "authority.crt"), "--ssl-cert-reqs", "2")
    options = {"verify": str(certificate), "cert": (str(client_certificate), str(client_key))}
    wait_for_health(server, **options)
    context = ssl.create_default_context(cafile=str(certificate))
    context.load_cert_chain(client_certificate, client_key)
    context.minimum_version = context.maximum_version = version
    session = None
    for i in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
                tls.sendall(b"GET /health HTTP/1.1\r\n\r\n")
                assert tls.recv(65536).startswith(b"HTTP/1.1 200 ")
                assert tls.session_reused == (i > 0)
                session = tls.session


@needs_openssl
def test_changed_certificates_are_used(make_server, tmp_path):
    key, certificate = make_certificate(tmp_path, "live")
    server = tls_server(make_server, key, certificate, "--enable-ssl-refresh")
    wait_for_health(server, verify=str(certificate))
    assert peer_name(server.port, certificate) == "live"
    held = requests.Session()
    shutil.copy(certificate, tmp_path / "old.crt")
    options = {"verify": str(tmp_path / "old.crt")}
    assert held.get(server.url + "/health", **options).status_code == 200
    new_key, new_certificate = make_certificate(tmp_path, "new")

    # Half of an exchange: key and certificate do not fit, so the old ones stay.
    shutil.copy(new_certificate, certificate)
    end = time.monotonic() + 20
    while "cannot be used, the old ones stay" not in server.output():
        assert time.monotonic() < end, server.output()
        time.sleep(0.05)
    assert peer_name(server.port, tmp_path / "old.crt") == "live"

    shutil.copy(new_key, key)
    end = time.monotonic() + 20
    while "new connections use them" not in server.output():
        assert time.monotonic() < end, server.output()
        time.sleep(0.05)
    assert peer_name(server.port, new_certificate) == "new"
    assert held.get(server.url + "/health", **options).status_code == 200  # an open connection goes on


@needs_openssl
def test_bad_tls_files_are_named(make_server, tmp_path):
    key, certificate = make_certificate(tmp_path, "one")
    other_key, _ = make_certificate(tmp_path, "two")
    empty = tmp_path / "empty"
    empty.write_text("")
    for bad_key, bad_certificate, flag in ((key, tmp_path / "none", "--ssl-certfile"),
                                           (tmp_path / "none", certificate, "--ssl-keyfile"),
                                           (key, empty, "--ssl-certfile"),
                                           (other_key, certificate, "--ssl-keyfile")):
        server = tls_server(make_server, bad_key, bad_certificate)
        assert server.process.wait(30) == 2
        last = server.output().strip().splitlines()[-1]
        assert flag in last and "Traceback" not in server.output(), last


class UnixAdapter(requests.adapters.HTTPAdapter):
    """Lets requests talk to a Unix socket."""

    def __init__(self, path):
        self.path = path
        super().__init__()

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        import urllib3

        path = self.path

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sock.connect(path)

        class Pool(urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool("localhost")

    def get_connection(self, url, proxies=None):
        return self.get_connection_with_tls_context(None, None)


def test_unix_socket(make_server, tmp_path):
    path = tmp_path / "t.sock"
    session = requests.Session()
    session.mount("http://localhost", UnixAdapter(str(path)))

    def wait(server):
        end = time.monotonic() + 60
        while True:
            try:
                if session.get("http://localhost/health").status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            assert time.monotonic() < end and server.process.poll() is None, server.output()
            time.sleep(0.05)

    server = make_server("--uds", str(path), wait=False)
    wait(server)
    answer = session.post("http://localhost/v1/completions",
                          json={"model": NAME, "prompt": "x", "max_tokens": 3, "ignore_eos": True})
    assert answer.json()["usage"]["completion_tokens"] == 3
    # Taken while it is served; free again when the server has gone, however it went.
    second = make_server("--uds", str(path), wait=False)
    assert second.process.wait(30) == 1 and str(path) in second.output()
    server.process.kill()
    server.process.wait()
    assert path.exists()
    third = make_server("--uds", str(path), wait=False)
    wait(third)
    assert third.stop() == 0
    assert not path.exists()
