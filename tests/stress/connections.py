"""Ten thousand idle connections and two thousand open streams: /health still answers in time."""

import asyncio
import multiprocessing
import time

from client import Broken, Connection, ask, request_bytes
from program import Failed, Program, check, raise_open_files, until_idle

# Descriptors beside the connections: libraries, pipes, the log.
SPARE = 200


async def _open_many(port, count, what):
    opened = []
    for _ in range(count):
        try:
            opened.append(await Connection.open(port, limit=4096))
        except OSError as error:
            raise Broken(f"{what} {len(opened)}: {error}") from error
    return opened


async def _hold_streams(port, count, pipe):
    """Opens streams and reads them as they come, until told to end."""
    connections = await _open_many(port, count, "stream")
    begun = 0

    async def read(number, connection):
        nonlocal begun
        body = {"model": "tiny", "prompt": [number % 1000, 1], "temperature": 0, "ignore_eos": True,
                "max_tokens": 4000, "stream": True,
                "allowed_token_ids": list(range(90))}  # each is a character: an event a step
        await connection.send(request_bytes("/v1/completions", body))
        reply = await connection.head()
        check(reply.status == 200, f"{reply.status} to stream {number}")
        begun += 1
        async for _ in connection.events(reply):
            pass

    tasks = [asyncio.create_task(read(*pair)) for pair in enumerate(connections)]
    told = asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    while begun < count:
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done() and task.exception():
                raise task.exception()
    pipe.send(begun)
    await told
    for connection in connections:
        connection.close(reset=True)
    for task in tasks:
        task.cancel()


def hold_streams(port, count, pipe):
    asyncio.run(_hold_streams(port, count, pipe))


async def probe(port, count, pause=0.005):
    """Latencies of /health, each on a connection of its own, in ms."""
    latencies = []
    for _ in range(count):
        start = time.monotonic()
        try:
            reply = await asyncio.wait_for(ask(port, "/health"), 30)
        except asyncio.TimeoutError:
            raise Failed("/health did not answer within 30 s") from None
        check(reply.status == 200, f"{reply.status} to /health")
        latencies.append(1e3 * (time.monotonic() - start))
        await asyncio.sleep(pause)
    return sorted(latencies)


async def run(idle, streams, probes):
    allowed = raise_open_files(1 << 20)
    if allowed < idle + streams + SPARE:
        print(f"  {allowed} open files are allowed: {allowed - streams - SPARE} idle connections "
              f"instead of {idle}")
        idle = allowed - streams - SPARE
    program = Program("--max-model-len", "4096", "--disable-uvicorn-access-log", kv_cache="1G")
    pipe, other = multiprocessing.Pipe()
    try:
        await program.ready()
        alone = await probe(program.port, probes)
        resident = program.resident()
        idlers = await _open_many(program.port, idle, "idle connection")
        for_one = (program.resident() - resident) / max(idle, 1) / 1024
        with_idle = await probe(program.port, probes)
        process = multiprocessing.Process(target=hold_streams,
                                          args=(program.port, streams, other), daemon=True)
        process.start()
        end = time.monotonic() + 120
        while not pipe.poll():
            check(process.is_alive() and time.monotonic() < end, "the streams did not begin")
            await asyncio.sleep(0.05)
        pipe.recv()
        with_all = await probe(program.port, probes)
        samples = await program.metrics()
        for what, latencies in (("alone", alone), (f"with {idle} idle connections", with_idle),
                                (f"and {streams} open streams", with_all)):
            print(f"  /health {what}: p50 {latencies[len(latencies) // 2]:.2f} ms, p99 "
                  f"{latencies[int(0.99 * (len(latencies) - 1))]:.2f} ms, longest "
                  f"{latencies[-1]:.1f} ms")
        print(f"  an idle connection takes {for_one:.1f} KiB; resident {program.resident() / 1e6:.0f} MB, "
              f"{int(samples['process_open_fds'])} descriptors open")
        pipe.send(None)
        process.join()
        gone = await until_idle(program, 30)
        # The idle ones have lived through it, as many as the program admits at once.
        living = sum(not connection.reader.at_eof() for connection in idlers)
        print(f"  all streams closed: gauges 0 after {gone:.2f} s; {living} of {idle} idle "
              f"connections still open")
        for connection in idlers:
            connection.close()
        check((await ask(program.port, "/health")).status == 200, "no health at the end")
        check(await program.stop() == 0, f"exit code {program.process.returncode}")
    finally:
        program.kill()
