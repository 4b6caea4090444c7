"""Bodies that ask for much memory or time: each is answered or refused, the process lives, memory
stays bounded, and a stream beside them goes on."""

import asyncio
import contextlib
import multiprocessing
import select
import socket
import time

from client import HOST, Broken, Connection, ask, request_bytes
from program import Program, check, until_idle

# Of the process' resident memory while one of them is handled.
MAX_GROWTH = 200e6
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def completion(**fields):
    return TEXT, {"model": "tiny", "prompt": [1, 2, 3], "max_tokens": 4, **fields}


def chat(**fields):
    return CHAT, {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}],
                  "max_tokens": 4, **fields}


def hostile():
    """(what it is, how many at once, path, body) of each; made one by one, for they are large."""
    ids = [[i % 900 for i in range(120)], [i % 700 for i in range(120)]]
    megabyte = "x" * (1 << 20)
    nested = '{"a":' * 100_000 + "1" + "}" * 100_000
    yield ("two prompts of 120 ids, n 2, echo, logprobs", 1,
           *completion(prompt=ids, n=2, echo=True, logprobs=1, max_tokens=16, seed=1))
    yield ("a prompt of 200 ids, n 2, echo, logprobs", 8,
           *completion(prompt=ids[0] + ids[0][:80], n=2, echo=True, logprobs=1, seed=1))
    yield ("n 512 with a stop string of 4 MB", 1, *completion(n=512, stop=4 * megabyte))
    yield ("n 128 with a stop string of 20 MB", 1, *completion(n=128, stop=20 * megabyte))
    yield ("200,000 stop strings", 1, *completion(stop=[str(i) for i in range(200_000)]))
    yield ("a million stop token ids", 1, *completion(stop_token_ids=[7] * 1_000_000))
    yield ("a million bad words", 1, *completion(bad_words=["ab"] * 1_000_000))
    yield ("a million logit biases", 1, *completion(logit_bias={str(i): 1 for i in range(1_000_000)}))
    yield ("/tokenize with 30 MB", 1, "/tokenize", {"model": "tiny", "prompt": 30 * megabyte})
    yield ("/detokenize with 10 million ids", 1, "/detokenize",
           {"model": "tiny", "tokens": [5] * 10_000_000})
    yield ("a prompt of 30 MB", 1, *completion(prompt=30 * megabyte))
    yield ("a prompt of 10 million ids", 1, *completion(prompt=[5] * 10_000_000))
    yield ("a message of 30 MB", 1, *chat(messages=[{"role": "user", "content": 30 * megabyte}]))
    yield ("a million messages", 1, *chat(messages=[{"role": "user", "content": ""}] * 1_000_000))
    yield ("a million tools that are numbers", 1, *chat(tools=list(range(1_000_000))))
    yield ("a million unknown fields", 1, *chat(**{f"f{i}": i for i in range(1_000_000)}))
    yield ("a user name of 30 MB", 1, *chat(user=30 * megabyte))
    yield ("100,000 objects in each other", 1, CHAT, nested.encode())
    yield ("60 MB that are no JSON", 1, CHAT, b"[" * (60 << 20))
    yield ("two prompts of 1000 ids with prompt_logprobs", 4,
           *completion(prompt=[[i % 1000 for i in range(1000)]] * 2, prompt_logprobs=5))


def _watch_stream(port, pipe):
    """Reads one stream after another and keeps the gaps between its events, in seconds; every
    message through the pipe is answered by those since the one before."""
    body = {"model": "tiny", "prompt": [9, 8, 7], "temperature": 0, "ignore_eos": True,
            "max_tokens": 6000, "stream": True,
            "allowed_token_ids": list(range(90))}  # each is a character, so each step is an event
    gaps = []
    while True:
        with socket.create_connection((HOST, port)) as stream:
            stream.sendall(request_bytes(TEXT, body, headers=[("Connection", "close")]))
            last = time.monotonic()
            with_more = True
            while with_more:
                ready, _, _ = select.select([stream, pipe], [], [])
                now = time.monotonic()
                if pipe in ready:
                    pipe.recv()
                    pipe.send(gaps + [now - last])
                    gaps = []
                if stream in ready:
                    with_more = bool(stream.recv(65536))
                    gaps.append(now - last)
                    last = now


class Bystander:
    """A stream of another client, read by a process of its own."""

    def __init__(self, program):
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_watch_stream, args=(program.port, other),
                                               daemon=True)
        self.process.start()

    def take(self):
        """p50, p99 and the longest gap, in ms, since the last call."""
        check(self.process.is_alive(), "the stream beside was refused or cut")
        self.pipe.send(None)
        gaps = sorted(self.pipe.recv())
        return tuple(1e3 * gaps[int(part * (len(gaps) - 1))] for part in (0.5, 0.99, 1))

    def stop(self):
        self.process.kill()
        self.process.join()


async def send_one(program, path, body):
    """The status; the server may refuse by the head alone and close before it has read the body."""
    connection = await Connection.open(program.port)
    try:
        with contextlib.suppress(ConnectionError):
            await connection.send(body)
        return (await connection.answer()).status
    finally:
        connection.close()


async def run_bodies(program, bystander, wrong):
    for what, at_once, path, body in hostile():
        data = request_bytes(path, body)
        await asyncio.sleep(0.2)
        bystander.take()
        program.reset_peak()
        before, cpu, start = program.resident(), program.cpu_seconds(), time.monotonic()
        try:
            statuses = await asyncio.wait_for(
                asyncio.gather(*(send_one(program, path, data) for _ in range(at_once))), 60)
        except (Broken, asyncio.TimeoutError) as error:
            await asyncio.sleep(0.5)
            raise Broken(f"{what}: {error}; exit code {program.process.poll()}\n"
                         f"{program.last_lines()}") from error
        took = time.monotonic() - start
        grown = program.peak_resident() - before
        p50, p99, longest = bystander.take()
        print(f"  {what}: {sorted(set(statuses))} in {took:.2f} s, "
              f"{program.cpu_seconds() - cpu:.2f} s of CPU, {grown / 1e6:.0f} MB; gaps beside: p50 "
              f"{p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms", flush=True)
        if not all(status < 500 or status == 503 for status in statuses):
            wrong.append(f"{what}: {statuses}")
        if grown > MAX_GROWTH:
            wrong.append(f"{what}: memory grew by {grown / 1e6:.0f} MB")


async def endless(program, wrong, what, head, piece, seconds=3):
    """Sends `piece` again and again after a head: the server ends the connection."""
    program.reset_peak()
    before = program.resident()
    connection = await Connection.open(program.port)
    sent, start = 0, time.monotonic()
    try:
        await connection.send(head)
        while time.monotonic() - start < seconds:
            await connection.send(piece)
            sent += len(piece)
            await asyncio.sleep(0)
        ended = False
    except ConnectionError:
        ended = True
    connection.close()
    grown = program.peak_resident() - before
    print(f"  {what}: {'cut off' if ended else 'still read'} after {sent / 1e6:.1f} MB, memory "
          f"{grown / 1e6:.0f} MB")
    if not ended:
        wrong.append(f"{what}: {sent / 1e6:.0f} MB were taken")
    if grown > MAX_GROWTH:
        wrong.append(f"{what}: memory grew by {grown / 1e6:.0f} MB")


async def run_endless(program, wrong):
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    block = b"x" * 65536
    await endless(program, wrong, "an endless header line", chunked + b"X: ", block)
    await endless(program, wrong, "endless header lines", chunked, b"X: y\r\n" * 10_000)
    await endless(program, wrong, "an endless chunk extension", chunked + b"\r\n5;", block)
    await endless(program, wrong, "an endless trailer", chunked + b"\r\n0\r\nX: ", block)
    await endless(program, wrong, "an endless request line", b"GET /", block)


async def never_read(program, wrong, seconds, count=8):
    """Clients that ask for long streams with log-probabilities and never read."""
    body = {"model": "tiny", "prompt": [4, 5, 6], "temperature": 0, "ignore_eos": True,
            "max_tokens": 8000, "logprobs": 20, "stream": True}
    program.reset_peak()
    before = program.resident()
    connections = [await Connection.open(program.port, limit=1024) for _ in range(count)]
    for connection in connections:
        connection.writer.transport.pause_reading()
        await connection.send(request_bytes(TEXT, body))
    await asyncio.sleep(seconds)
    grown = program.peak_resident() - before
    for connection in connections:
        connection.close(reset=True)
    print(f"  {count} clients that never read, logprobs 20: {grown / 1e6:.0f} MB after {seconds} s")
    if grown > MAX_GROWTH:
        wrong.append(f"clients that never read: memory grew by {grown / 1e6:.0f} MB")


async def run(short):
    program = Program("--max-model-len", "8192", "--max-logprobs", "20",
                      "--disable-uvicorn-access-log", kv_cache="256M")
    wrong = []
    try:
        await program.ready()
        first = (await ask(program.port, *completion(temperature=0))).json()["choices"]
        bystander = Bystander(program)
        try:
            await run_bodies(program, bystander, wrong)
        finally:
            bystander.stop()
        await run_endless(program, wrong)
        await never_read(program, wrong, seconds=2 if short else 10)
        idle = await until_idle(program, 60)
        last = (await ask(program.port, *completion(temperature=0))).json()["choices"]
        check(first == last, f"before {first}, after {last}")
        print(f"  gauges 0 after {idle:.2f} s, resident {program.resident() / 1e6:.0f} MB, the same "
              "answer as before")
        check(await program.stop() == 0, f"exit code {program.process.returncode}")
        check(not wrong, "; ".join(wrong))
    finally:
        program.kill()
