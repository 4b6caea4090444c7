"""Ends of every kind: killed under load, told to stop with streams open, too little shared memory,
address space or memory. Each has a clear end, clients learn of it at once, and nothing stays."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

from cases import ask_alone, difference, make_cases, read_answer, still_right
from client import Broken, Connection, ask, request_bytes
from program import Failed, Program, check


def stream_body(tokens, number):
    return {"model": "tiny", "prompt": [number, 2, 3], "temperature": 0, "ignore_eos": True,
            "max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True}}


async def open_streams(program, count, tokens):
    """Streams that have begun: pairs of connection and an iterator over their events."""
    opened = []
    for number in range(count):
        connection = await Connection.open(program.port)
        await connection.send(request_bytes("/v1/completions", stream_body(tokens, number)))
        opened.append(connection)
    streams = []
    for connection in opened:
        reply = await connection.head()
        check(reply.status == 200, f"{reply.status} to a stream")
        events = connection.events(reply)
        await anext(events)
        streams.append((connection, events))
    return streams


async def read_to_end(connection, events):
    """The answer's tokens and its finish reason; 0 and None where the stream was cut."""
    tokens, finish = 0, None
    try:
        async for event in events:
            for choice in event["choices"]:
                finish = choice["finish_reason"] or finish
            if event["usage"]:
                tokens = event["usage"]["completion_tokens"]
    except Broken:
        pass
    connection.close()
    return tokens, finish


async def killed_under_load():
    """kill -9, and a start on the same port at once."""
    case = make_cases(1, seed=3)[0]
    program = Program("--max-model-len", "8192", kv_cache="256M")
    try:
        await program.ready()
        await ask_alone(program, [case])
        streams = await open_streams(program, 20, 6000)
        program.process.send_signal(signal.SIGKILL)
        start = time.monotonic()
        ends = await asyncio.wait_for(
            asyncio.gather(*(read_to_end(*stream) for stream in streams)), 30)
        told = time.monotonic() - start
        check(all(finish is None for _, finish in ends), "a stream ended well though it was cut")
        check(await program.ended() == -signal.SIGKILL, "another end than the signal's")
        second = Program("--max-model-len", "8192", port=program.port)
        try:
            await second.ready()
            again = time.monotonic() - start
            await still_right(second, case)
            check(await second.stop() == 0, "the second program's exit code")
        finally:
            second.kill()
        check(not program.relatives(), f"children outlive it: {program.relatives()}")
        print(f"  kill -9 with 20 streams: all clients know after {told:.2f} s, the next program "
              f"answers after {again:.2f} s")
    finally:
        program.kill()


async def told_to_stop(timeout, tokens):
    """SIGTERM with 20 streams: with time they end whole, without they are ended."""
    program = Program("--max-model-len", "8192", "--shutdown-timeout", str(timeout),
                      kv_cache="256M")
    try:
        await program.ready()
        streams = await open_streams(program, 20, tokens)
        readers = asyncio.gather(*(read_to_end(*stream) for stream in streams))
        program.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        ends = await asyncio.wait_for(readers, 60)
        check(await program.ended(60) == 0, f"exit code {program.process.returncode}")
        took = time.monotonic() - start
        with contextlib.suppress(OSError, Broken):
            await ask(program.port, "/health")
            raise Failed("it still answers")
        check(not program.relatives(), f"children outlive it: {program.relatives()}")
        whole = sum(end == (tokens, "length") for end in ends)
        if timeout:
            check(whole == 20, f"{whole} of 20 streams ended whole: {ends}")
        print(f"  SIGTERM with 20 streams, --shutdown-timeout {timeout}: {whole} ended whole, exit "
              f"code 0 after {took:.2f} s")
    finally:
        program.kill()


def in_new_mounts():
    """The words that give a program mounts of its own; None where that is not allowed."""
    if not shutil.which("unshare"):
        return None
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        probe = subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/dev/shm"],
                               capture_output=True)
        if probe.returncode == 0:
            return words
    return None


async def answers_cases(program, cases):
    connection = await Connection.open(program.port)
    for number, case in enumerate(cases):
        await connection.send(case.bytes(f"more{number}", stream=False))
        form = await read_answer(connection, case, f"more{number}", stream=False)
        differs = difference(form, case.right)
        check(not differs, f"{differs}\n{case.path} {case.body}")
    connection.close()


async def small_shared_memory(cases):
    """/dev/shm of 8 MB, as some container runtimes give."""
    words = in_new_mounts()
    if words is None:
        print("  /dev/shm of 8 MB: not tried, this user may not mount")
        return
    script = 'mount -t tmpfs -o size=8m none /dev/shm && exec "$@"'
    program = Program("--max-model-len", "1024", words=[*words, "sh", "-c", script, "sh"])
    try:
        await program.ready()
        await answers_cases(program, cases)
        check(await program.stop() == 0, "exit code with a small /dev/shm")
        print(f"  /dev/shm of 8 MB: {len(cases)} answers as before")
    finally:
        program.kill()


async def small_address_space(cases):
    """ulimit -v from far too little to enough: it serves, or ends with one line and a code."""
    ends = []
    for megabytes in (100, 200, 300, 400, 600, 1000, 2000, 4000):
        limit = megabytes << 20
        program = Program("--max-model-len", "1024",
                          words=["prlimit", f"--as={limit}:{limit}"])
        try:
            try:
                await program.ready()
            except Failed:
                code = await program.ended()
                check(code > 0, f"ulimit -v of {megabytes} MB: ended by signal {-code}, "
                                f"{program.output()!r}")
                check(megabytes < 1000, f"{megabytes} MB are not enough: {program.output()!r}")
                # What failed before the program's own code ran is the loader's line.
                check(program.output().strip(), f"{megabytes} MB: ended without a word")
                ends.append(f"{megabytes} MB exit code {code}")
                continue
            await answers_cases(program, cases)
            check(await program.stop() == 0, f"exit code with {megabytes} MB of address space")
            ends.append(f"{megabytes} MB {len(cases)} answers")
        finally:
            program.kill()
    print(f"  ulimit -v: {', '.join(ends)}")


class MemoryCgroup:
    """A memory cgroup (version 1 or 2) with a limit and no swap; None from `make` without rights."""

    def __init__(self, folder, limit_file):
        self.folder, self.limit_file = folder, limit_file

    @classmethod
    def make(cls, limit):
        name = f"tiercel-stress-{os.getpid()}"
        for root, limit_file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                                 ("/sys/fs/cgroup", "memory.max")):
            folder = pathlib.Path(root) / name
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / limit_file).write_text(str(limit))
                return cls(folder, limit_file)
            except OSError:
                folder.rmdir()
        return None

    def words(self):
        return ["sh", "-c", f'echo $$ >{self.folder}/cgroup.procs && exec "$@"', "sh"]

    def remove(self):
        end = time.monotonic() + 5
        while True:
            try:
                self.folder.rmdir()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


async def small_cgroup(cases, limit_mb, kv_cache=None):
    """A container's memory limit, by which the KV cache is sized. Where it is too small for the
    program itself, the kernel kills it, and the clients learn of it at once."""
    group = MemoryCgroup.make(limit_mb << 20)
    if group is None:
        print("  memory limit of a cgroup: not tried, this user may make none")
        return
    program = Program("--max-model-len", "1024", words=group.words(), kv_cache=kv_cache)
    what = f"cgroup of {limit_mb} MB, {kv_cache or 'derived'} KV cache"
    try:
        try:
            await program.ready()
        except Failed:
            code = await program.ended()
            check(code > 0, f"{what}: ended by signal {-code} at start: {program.output()!r}")
            print(f"  {what}: exit code {code}: {program.last_lines(1)}")
            return
        try:
            await asyncio.wait_for(answers_cases(program, cases), 60)
        except Broken:
            code = await program.ended()
            check(code == -signal.SIGKILL, f"{what}: ended with {code}: {program.last_lines()}")
            print(f"  {what}: killed by the kernel, its client knows")
            return
        check(await program.stop() == 0, f"{what}: exit code {program.process.returncode}")
        print(f"  {what}: {len(cases)} answers as before")
    finally:
        program.kill()
        group.remove()


async def run(short):
    cases = make_cases(10 if short else 100, seed=5)
    program = Program("--max-model-len", "1024")
    try:
        await program.ready()
        await ask_alone(program, cases)
        await program.stop()
    finally:
        program.kill()
    await killed_under_load()
    await told_to_stop(60, 300)
    await told_to_stop(0, 6000)
    await small_shared_memory(cases)
    await small_address_space(cases)
    for limit_mb, kv_cache in ((24, None), (300, None), (300, "4G"), (2000, None)):
        await small_cgroup(cases, limit_mb, kv_cache)
