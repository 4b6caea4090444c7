"""Many short requests at once, a third of them left at a random moment: nothing is lost, answered
twice or answered wrongly, the counters add up, the gauges return to 0, and memory stays flat."""

import asyncio
import random
import time

from cases import ask_alone, difference, make_cases, read_answer
from client import Broken, Connection
from program import Program, check, total, until_idle

SUCCESS = "vllm:request_success_total"


def slope(points):
    """The least-squares slope of (x, y) points."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


class Tally:
    """What the clients know: requests, and sequences (n samples of a request count n times)."""

    def __init__(self):
        self.begun = 0
        self.done = self.done_sequences = 0
        self.cut = 0                            # left before the request was whole
        self.left = self.left_sequences = 0     # whole, then left before its answer was
        self.reset = 0                          # of those, with a RST: the request may be lost too


class Client:
    """One of the clients that work at once: a connection, request after request."""

    def __init__(self, program, cases, tally, limit, end, source):
        self.program, self.cases, self.tally = program, cases, tally
        self.limit, self.end, self.source = limit, end, source
        self.connection = None
        self.seconds = 0.01  # of the last whole answer: a measure for when to leave

    async def run(self):
        while self.tally.begun < self.limit and time.monotonic() < self.end:
            self.tally.begun += 1
            number = self.tally.begun
            case = self.source.choice(self.cases)
            stream = case.may_stream and self.source.random() < 0.5
            if self.connection is None:
                self.connection = await Connection.open(self.program.port)
            request_id = f"load{number}x"
            data = case.bytes(request_id, stream)
            if self.source.random() < 1 / 3:
                await self.leave(case, data, request_id, stream)
            else:
                await self.whole(case, data, request_id, stream)
        if self.connection is not None:
            self.connection.close()

    async def whole(self, case, data, request_id, stream):
        start = time.monotonic()
        await self.connection.send(data)
        form = await read_answer(self.connection, case, request_id, stream)
        self.seconds = time.monotonic() - start
        differs = difference(form, case.right)
        check(not differs, f"{request_id}{' streamed' if stream else ''}: {differs}\n"
                           f"{case.path} {case.body}")
        self.tally.done += 1
        self.tally.done_sequences += case.sequences

    async def leave(self, case, data, request_id, stream):
        kind = self.source.choice(["cut", "at once", "later", "between"])
        reset = self.source.random() < 0.3
        if kind == "cut":
            await self.connection.send(data[:self.source.randrange(1, len(data))])
            self.tally.cut += 1
        else:
            await self.connection.send(data)
            self.tally.left += 1
            self.tally.left_sequences += case.sequences
            self.tally.reset += reset
        if kind == "later":
            await asyncio.sleep(self.source.random() * 1.5 * self.seconds)
        elif kind == "between" and stream:
            events = self.source.randrange(1, 2 + case.body["max_tokens"])

            def more():
                nonlocal events
                events -= 1
                return events > 0

            await read_answer(self.connection, case, request_id, stream, more)
        self.connection.close(reset)
        self.connection = None


async def watch_memory(program, tally, points):
    while True:
        points.append((tally.begun, program.resident()))
        await asyncio.sleep(0.25)


def check_counters(before, after, tally):
    """The program's counters against the clients'. Which of the requests that were left the program
    had finished, or had not even begun, only it can tell: these are bounds."""
    def grown(name, label=""):
        return int(total(after, name, label) - total(before, name, label))

    whole = tally.done + tally.left
    answered = {status: sum(grown("http_requests_total", f'handler="/v1/{path}",method="POST",'
                                                         f'status="{status}"')
                            for path in ("completions", "chat/completions"))
                for status in ("2xx", "4xx", "5xx")}
    print(f"  HTTP: {answered['2xx']} answered, {answered['4xx']} left; clients: {tally.done} "
          f"answered, {tally.left} left, {tally.cut} cut in the request")
    check(answered["5xx"] == 0, f"{answered['5xx']} answers 5xx")
    check(tally.done <= answered["2xx"] <= whole, f"{answered} for {tally.done} whole answers")
    counted = sum(answered.values())
    check(whole - tally.reset <= counted <= whole, f"{counted} requests counted, {whole} sent")

    reasons = {reason: grown(SUCCESS, f'finished_reason="{reason}"')
               for reason in ("stop", "length", "abort", "error")}
    ended = sum(reasons.values())
    sequences = tally.done_sequences + tally.left_sequences
    print(f"  sequences: {reasons}, {sequences - ended} left before they reached the engine, "
          f"{sequences} sent")
    check(reasons["error"] == 0, f"{reasons['error']} sequences failed")
    finished = reasons["stop"] + reasons["length"]
    check(tally.done_sequences <= finished <= sequences,
          f"{finished} finished, {tally.done_sequences} came whole, {sequences} sent")
    check(ended <= sequences, f"{ended} sequences ended, {sequences} sent")


async def run(requests, seconds, at_once=64, seed=1):
    cases = make_cases(400, seed)
    program = Program("--max-model-len", "1024", "--max-num-seqs", "48", "--block-size", "32",
                      "--enable-prefix-caching", "--disable-uvicorn-access-log", kv_cache="6M")
    try:
        await program.ready()
        await ask_alone(program, cases)
        before = await program.metrics()
        tally, points, start = Tally(), [], time.monotonic()
        watch = asyncio.create_task(watch_memory(program, tally, points))
        clients = [Client(program, cases, tally, requests, start + seconds,
                          random.Random(f"{seed} {i}")) for i in range(at_once)]
        try:
            await asyncio.gather(*(client.run() for client in clients))
        finally:
            watch.cancel()
        took = time.monotonic() - start
        idle = await until_idle(program)
        after = await program.metrics()
        print(f"  {tally.begun} requests in {took:.1f} s, {at_once} at once; gauges 0 after "
              f"{idle:.2f} s")
        hits = total(after, "vllm:prefix_cache_hits_total") - total(
            before, "vllm:prefix_cache_hits_total")
        print(f"  prefix cache: {int(hits)} tokens found; preemptions: "
              f"{int(total(after, 'vllm:num_preemptions_total'))}")
        check(hits > 0, "the prefix cache found nothing")
        check_counters(before, after, tally)
        # The first third is warming up: pools and caches grow to their size.
        late = [point for point in points if point[0] >= tally.begun / 3]
        per_request = slope(late)
        grown = per_request * (late[-1][0] - late[0][0])
        print(f"  resident memory: {points[0][1] / 1e6:.1f} MB at the start, "
              f"{points[-1][1] / 1e6:.1f} MB at the end, slope {per_request:.1f} bytes a request")
        check(grown < 16e6, f"resident memory grew by {grown / 1e6:.1f} MB in the last two thirds")
        check(await program.stop() == 0, f"exit code {program.process.returncode}")
    except Broken as error:
        raise Broken(f"{error}; exit code {program.process.poll()}\n{program.last_lines()}") from error
    finally:
        program.kill()
