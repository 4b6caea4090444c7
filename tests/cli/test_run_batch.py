"""tiercel run-batch: every line answered as the server answers it, in order, whatever comes between."""
import http.server
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest
import requests

from cli_support import BINARY, TINY, Server, clean_env, run

FLAGS = ("--model", TINY, "--served-model-name", "tiny", "--load-format", "dummy", "--max-model-len", 512,
         "--kv-cache-memory-bytes", "64M", "--max-num-seqs", 4)


def line(custom_id, body, url="/v1/chat/completions", **changes):
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body, **changes})


def chat(text, **fields):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 8,
            "temperature": 0, **fields}


def batch(folder, lines, *flags, expect=0, **options):
    (folder / "in.jsonl").write_text("".join(text + "\n" for text in lines))
    done = run("run-batch", "-i", folder / "in.jsonl", "-o", folder / "out.jsonl", *FLAGS, *flags, **options)
    assert done.returncode == expect, done.stderr
    if expect:
        return done.stderr
    return [json.loads(text) for text in (folder / "out.jsonl").read_text().splitlines()]


def test_answers_are_the_servers(tmp_path):
    bodies = [("/v1/chat/completions", chat(f"question {i}", n=1 + i % 3, logprobs=True, temperature=1, seed=i)) for i in range(20)]
    bodies += [("/v1/completions", {"prompt": ["a", f"b{i}"], "max_tokens": 5, "temperature": 0, "echo": True})
               for i in range(5)]
    bodies += [("/v1/messages", {"model": "tiny", "max_tokens": 4, "messages": chat("x")["messages"],
                                 "temperature": 0}),
               ("/v1/responses", {"input": "x", "max_output_tokens": 4, "temperature": 0})]
    answers = batch(tmp_path, [line(f"é-{i}", body, url) for i, (url, body) in enumerate(bodies)])
    assert [a["custom_id"] for a in answers] == [f"é-{i}" for i in range(len(bodies))]
    assert not list(tmp_path.glob("*.partial"))

    def comparable(body):
        assert (body.get("system_fingerprint") or "tiercel-").startswith("tiercel-")  # of the flags
        for key in ("id", "created", "created_at", "completed_at", "system_fingerprint"):
            body.pop(key, None)
        for item in body.get("output", []):
            item.pop("id", None)
        return body

    with Server(*FLAGS[1:]) as server:
        server.read_until("startup complete")
        for answer, (url, body) in zip(answers, bodies, strict=True):
            expected = requests.post(f"http://127.0.0.1:{server.port}{url}", json=body, timeout=30).json()
            assert answer["error"] is None and answer["response"]["status_code"] == 200
            assert answer["id"].startswith("vllm-") and answer["response"]["request_id"].startswith("vllm-batch-")
            assert comparable(answer["response"]["body"]) == comparable(expected), url


def test_a_bad_line_is_its_own_answer(tmp_path):
    lines = ["{", "7", line("no url", chat("x"), ""), line("get", chat("x"), method="GET"),
             json.dumps({"method": "POST", "url": "/v1/chat/completions", "body": chat("x")}),
             line("unknown", chat("x"), "/v1/other"), line("no body", "text"), line("stream", chat("x", stream=True)),
             line("model", {**chat("x"), "model": "other"}), line("field", chat("x", temperature=-1)),
             line("kind", {"input": "x"}, "/v1/embeddings"), line("long", chat("word " * 2000)), "", "  ",
             line("good", chat("x"))]
    answers = batch(tmp_path, lines)
    assert [a["custom_id"] for a in answers] == ["", "", "no url", "get", "", "unknown", "no body", "stream",
                                                 "model", "field", "kind", "long", "good"]
    for answer in answers[:-1]:
        assert answer["response"]["body"] is None and answer["error"]["error"]["message"], answer
    codes = {a["custom_id"]: a["response"]["status_code"] for a in answers}
    assert codes["model"] == 404 and codes["kind"] == 404 and codes["field"] == 400 and codes["good"] == 200
    assert "body.stream" in answers[7]["error"]["error"]["message"]


def test_goes_on_after_an_interruption(tmp_path):
    lines = [line(str(i), chat(f"tell {i}", max_tokens=100, ignore_eos=True)) for i in range(120)]
    whole = batch(tmp_path, lines)
    (tmp_path / "out.jsonl").unlink()

    command = [BINARY, "run-batch", "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
               *map(str, FLAGS)]
    process = subprocess.Popen(list(map(str, command)), env=clean_env(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60

    def partial():
        return next(iter(tmp_path.glob("out.jsonl.*.partial")), None)

    while not (partial() and partial().read_text().count("\n") >= 3) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 128 + signal.SIGINT, process.stderr.read()
    kept = partial().read_text().splitlines()
    assert 3 <= len(kept) < 120 and not (tmp_path / "out.jsonl").exists()
    # An end within a line, as a machine that stops leaves it.
    with open(partial(), "a") as file:
        file.write('{"id":"vllm-')
    done = run("run-batch", *map(str, command[2:]))
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} of 120 requests were answered before" in done.stderr
    found = (tmp_path / "out.jsonl").read_text().splitlines()
    assert found[:len(kept)] == kept and partial() is None
    said = [json.loads(text)["response"]["body"]["choices"] for text in found]
    assert said == [a["response"]["body"]["choices"] for a in whole]


def test_other_flags_begin_anew(tmp_path):
    batch(tmp_path, [line("a", chat("x"))])
    first = (tmp_path / "out.jsonl").read_text()
    batch(tmp_path, [line("a", chat("x"))], "--seed", 1)
    assert (tmp_path / "out.jsonl").read_text() != first  # ids


@pytest.fixture
def store():
    """A place that gives a file and takes one."""
    class Handler(http.server.BaseHTTPRequestHandler):
        files, code = {}, 200

        def do_GET(self):
            text = self.files.get(self.path)
            self.send_response(404 if text is None else 200)
            self.send_header("Content-Length", str(len(text or b"")))
            self.end_headers()
            self.wfile.write(text or b"")

        def do_PUT(self):
            self.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.url = f"http://127.0.0.1:{server.server_port}"
    yield Handler
    server.shutdown()


def test_urls(tmp_path, store):
    store.files["/in"] = "".join(line(str(i), chat("x")) + "\n" for i in range(3)).encode()
    done = run("run-batch", "-i", store.url + "/in", "-o", store.url + "/out", "--output-tmp-dir", tmp_path, *FLAGS)
    assert done.returncode == 0, done.stderr
    assert [json.loads(text)["custom_id"] for text in store.files["/out"].splitlines()] == ["0", "1", "2"]
    assert not list(tmp_path.iterdir())

    store.code = 507
    done = run("run-batch", "-i", store.url + "/in", "-o", store.url + "/out", "--output-tmp-dir", tmp_path, *FLAGS)
    assert done.returncode == 1 and "answers 507; the answers lie in" in done.stderr
    store.code = 200  # What was answered is sent, without another run of the model.
    done = run("run-batch", "-i", store.url + "/in", "-o", store.url + "/out", "--output-tmp-dir", tmp_path, *FLAGS)
    assert done.returncode == 0 and "Loaded" not in done.stderr, done.stderr
    done = run("run-batch", "-i", store.url + "/none", "-o", tmp_path / "out", *FLAGS)
    assert done.returncode == 1 and "/none answers 404" in done.stderr


def write_input(folder, count=3):
    (folder / "in.jsonl").write_text("".join(line(str(i), chat("x")) + "\n" for i in range(count)))
    return folder / "in.jsonl"


def run_elsewhere(folder, *words, **options):
    """With a folder of its own for what lies somewhere meanwhile, which is empty again afterwards."""
    (folder / "meanwhile").mkdir()
    done = run("run-batch", *words, "--output-tmp-dir", folder / "meanwhile", *FLAGS, **options)
    assert not list((folder / "meanwhile").iterdir())
    (folder / "meanwhile").rmdir()
    return done


def ids(text):
    return [json.loads(answer)["custom_id"] for answer in text.splitlines()]


def test_a_link_stays_one(tmp_path):
    given = write_input(tmp_path)
    for name, target in (("to-old", "real/old.jsonl"), ("to-new", "real/new.jsonl"), ("absolute", tmp_path / "to-old")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "real").mkdir()
    (tmp_path / "real/old.jsonl").write_text("old")
    for name, file in (("to-old", "old.jsonl"), ("to-new", "new.jsonl"), ("absolute", "old.jsonl")):
        done = run("run-batch", "-i", given, "-o", tmp_path / name, *FLAGS)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).is_symlink() and ids((tmp_path / "real" / file).read_text()) == ["0", "1", "2"]
        (tmp_path / "real" / file).write_text("old")
    assert len(list(tmp_path.iterdir())) == 5 and len(list((tmp_path / "real").iterdir())) == 2
    (tmp_path / "loop").symlink_to("loop")
    done = run("run-batch", "-i", given, "-o", tmp_path / "loop", *FLAGS)
    assert done.returncode == 2 and "loop: a link without an end" in done.stderr


def test_answers_go_into_what_is_no_regular_file(tmp_path):
    given = write_input(tmp_path)
    done = run_elsewhere(tmp_path, "-i", given, "-o", "/dev/stdout")  # a pipe
    assert done.returncode == 0 and ids(done.stdout) == ["0", "1", "2"], done.stderr
    with open(tmp_path / "log", "w+") as file:  # >>: what was there stays
        file.write("before\n")
        file.flush()
        done = subprocess.run([BINARY, "run-batch", "-i", given, "-o", "/dev/stdout", *map(str, FLAGS)],
                              env=clean_env(), stdout=file, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().startswith("before\n") and ids((tmp_path / "log").read_text()[7:]) == ["0", "1", "2"]
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["cat", tmp_path / "fifo"], stdout=subprocess.PIPE, text=True) as reader:
        done = run_elsewhere(tmp_path, "-i", given, "-o", tmp_path / "fifo")
        assert done.returncode == 0 and ids(reader.communicate()[0]) == ["0", "1", "2"], done.stderr
    assert (tmp_path / "fifo").is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "log", "fifo"}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")
def test_devices_stay(tmp_path):
    given = write_input(tmp_path)
    for name, minor, code in (("null", 3, 0), ("full", 7, 1)):
        try:
            os.mknod(tmp_path / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            open(tmp_path / name, "rb").close()
        except PermissionError:
            pytest.skip("no device nodes here")
        done = run("run-batch", "-i", given, "-o", tmp_path / name, "--output-tmp-dir", tmp_path, *FLAGS)
        assert done.returncode == code and (tmp_path / name).is_char_device(), done.stderr
    assert "No space left on device; the answers lie in" in done.stderr
    kept, = tmp_path.glob("*.partial")
    assert ids(kept.read_text()) == ["0", "1", "2"]


def test_an_output_that_cannot_be_is_refused_before_anything_is_computed(tmp_path):
    given = write_input(tmp_path)
    (tmp_path / "link").symlink_to(given)
    (tmp_path / "folder").mkdir()
    for output, part in ((tmp_path / "folder", "is a folder"), (given, "is the input"), (tmp_path / "link", "is the input")):
        done = run("run-batch", "-i", given, "-o", output, *FLAGS)
        assert done.returncode == 2 and part in done.stderr and "random" not in done.stderr, done.stderr
    assert len(given.read_text().splitlines()) == 3 and len(list(tmp_path.iterdir())) == 3


def test_requests_come_through_a_pipe(tmp_path):
    given = write_input(tmp_path)
    done = run_elsewhere(tmp_path, "-i", "/dev/stdin", "-o", tmp_path / "out", input=given.read_text())
    assert done.returncode == 0 and ids((tmp_path / "out").read_text()) == ["0", "1", "2"], done.stderr
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["sh", "-c", 'cat "$0" > "$1"', given, tmp_path / "fifo"]):
        done = run_elsewhere(tmp_path, "-i", tmp_path / "fifo", "-o", "/dev/stdout")
    assert done.returncode == 0 and ids(done.stdout) == ["0", "1", "2"], done.stderr
    with open(given) as file:  # a file by another name
        done = subprocess.run([BINARY, "run-batch", "-i", "/dev/stdin", "-o", tmp_path / "out", *map(str, FLAGS)],
                              env=clean_env(), stdin=file, stderr=subprocess.PIPE)
    assert done.returncode == 0 and ids((tmp_path / "out").read_text()) == ["0", "1", "2"], done.stderr


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("flag", ["-i", "-o"])
def test_a_signal_ends_what_waits_for_the_other_end(tmp_path, flag, sig):
    os.mkfifo(tmp_path / "fifo")
    places = {"-i": write_input(tmp_path), "-o": tmp_path / "out", flag: tmp_path / "fifo"}
    words = [word for place in places.items() for word in place]
    process = subprocess.Popen([BINARY, "run-batch", *map(str, words), "--output-tmp-dir", tmp_path, *map(str, FLAGS)],
                               env=clean_env(), stderr=subprocess.PIPE, text=True)
    kept = []
    deadline = time.monotonic() + 60
    while flag == "-o" and not (kept and kept[0].read_text().count("\n") == 3):
        assert time.monotonic() < deadline and process.poll() is None
        kept = list(tmp_path.glob("*.partial"))
    time.sleep(0.5)
    process.send_signal(sig)
    assert process.wait(10) == 128 + sig
    assert "stopped while no request is running" in process.stderr.read()
    assert (tmp_path / "fifo").is_fifo() and {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "fifo", *(path.name for path in kept)}


def test_an_input_that_is_neither_file_nor_pipe_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        for path, kind in ((tmp_path, "folder"), ("/dev/zero", "device"), (tmp_path / "socket", "socket")):
            done = run("run-batch", "-i", path, "-o", tmp_path / "out", *FLAGS)
            assert done.returncode == 2 and f"is a {kind}, expected a file or a pipe" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_limit_of_a_files_size_is_one_line_and_what_was_answered_stays(tmp_path):
    given = write_input(tmp_path, 40)
    command = [BINARY, "run-batch", "-i", given, "-o", tmp_path / "out", *map(str, FLAGS)]
    done = subprocess.run(["prlimit", "--fsize=4000", *command], env=clean_env(), capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be written: File too large" in done.stderr.splitlines()[-1], done.stderr
    assert not (tmp_path / "out").exists()
    done = run(*command[1:])
    assert done.returncode == 0 and "requests were answered before" in done.stderr, done.stderr
    assert ids((tmp_path / "out").read_text()) == [str(i) for i in range(40)]


@pytest.mark.parametrize("flags, code, part", [
    (["-i", "in.jsonl"], 2, "required: --output-file"),
    (["-o", "out.jsonl"], 2, "required: --input-file"),
    (["-i", "/nowhere.jsonl", "-o", "out.jsonl"], 2, "/nowhere.jsonl: no such file"),
    (["-i", TINY / "config.json", "-o", "/nowhere/out.jsonl"], 1, "/nowhere/out.jsonl"),
])
def test_what_is_wrong_is_said(flags, code, part):
    done = run("run-batch", *flags, *FLAGS)
    assert done.returncode == code and part in done.stderr, done.stderr


def test_help_names_both_files():
    done = run("run-batch", "--help=all")
    assert done.returncode == 0 and "--input-file" in done.stdout and "--output-file" in done.stdout
