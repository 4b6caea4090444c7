"""A closed-loop load on a running OpenAI server: random token prompts, streamed, a fixed number at once.

  python bench/serve_load.py --port 8000 --model NAME [--prompts 32] [--concurrency 8] [--input-len 200] [--output-len 128]

One thread reads all streams and parses no more than it must, so that the client takes little of the
cores that it measures. Prints output tokens per second, times to the first token, per further token
and between events; --json prints one JSON object instead.
"""

import argparse
import asyncio
import json
import random
import statistics
import time


class LoadError(RuntimeError):
    pass


async def stream_one(host, port, model, prompt, output_len):
    """Times of the events that carry text, and the number of tokens that the server counted."""
    body = json.dumps({"model": model, "prompt": prompt, "max_tokens": output_len, "temperature": 0,
                       "ignore_eos": True, "stream": True,
                       "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        begin = time.perf_counter()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (host.encode(), len(body)))
        writer.write(body)
        status = (await reader.readline()).decode(errors="replace").strip()
        if " 200" not in status:
            raise LoadError(f"{status}: {(await reader.read(2000)).decode(errors='replace')}")
        times, tokens = [], 0
        # Chunk borders lie between lines: a chunk's size line does not begin with "data:".
        while line := await reader.readline():
            if line.startswith(b"data: [DONE]"):
                break  # not the connection's end: a server may keep it open
            if not line.startswith(b"data: "):
                continue
            if b'"usage":{' in line or b'"usage": {' in line:
                tokens = json.loads(line[6:])["usage"]["completion_tokens"]
            if b'"choices":[]' in line or b'"choices": []' in line:
                continue
            times.append(time.perf_counter())
        if not times:
            raise LoadError("the stream ended without a token")
        return begin, times, tokens or output_len
    finally:
        writer.close()


async def run_load(host, port, model, prompts, concurrency, output_len):
    waiting = iter(prompts)
    results = []

    async def client():
        for prompt in waiting:
            results.append(await stream_one(host, port, model, prompt, output_len))

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return results, time.perf_counter() - begin


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(port, model, prompts=32, concurrency=8, input_len=200, output_len=128, seed=0,
            host="127.0.0.1", token_ids=(1000, 100000)):
    """One load; the figures as a dict. Another seed gives other prompts: none is in a prefix cache."""
    generator = random.Random(seed)
    texts = [[generator.randrange(*token_ids) for _ in range(input_len)] for _ in range(prompts)]
    results, seconds = asyncio.run(run_load(host, port, model, texts, concurrency, output_len))
    first = [times[0] - begin for begin, times, _ in results]
    per_token = [(times[-1] - times[0]) / max(1, tokens - 1) for _, times, tokens in results]
    gaps = [b - a for _, times, _ in results for a, b in zip(times, times[1:])] or [0.0]
    return {
        "output_tok_s": sum(tokens for *_, tokens in results) / seconds,
        "mean_ttft_ms": statistics.mean(first) * 1e3,
        "p99_ttft_ms": percentile(first, 0.99) * 1e3,
        "mean_tpot_ms": statistics.mean(per_token) * 1e3,
        "p99_itl_ms": percentile(gaps, 0.99) * 1e3,
        "seconds": seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--input-len", type=int, default=200)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure(args.port, args.model, args.prompts, args.concurrency, args.input_len,
                      args.output_len, args.seed, args.host)
    if args.json:
        print(json.dumps({k: round(v, 3) for k, v in figures.items()}))
    else:
        print("{output_tok_s:.1f} output tok/s, TTFT mean {mean_ttft_ms:.0f} ms, p99 {p99_ttft_ms:.0f} ms, "
              "TPOT mean {mean_tpot_ms:.1f} ms, ITL p99 {p99_itl_ms:.0f} ms, {seconds:.1f} s".format(**figures))


if __name__ == "__main__":
    main()
