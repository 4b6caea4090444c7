"""A small closed-loop load on a running server: random token prompts, streamed, a fixed number at once.

  python bench/serve_load.py --port 8000 --model NAME [--prompts 32] [--concurrency 8] [--input-len 200] [--output-len 128]

Prints output tokens per second, mean time to the first token and mean time per further token.
"""

import argparse
import concurrent.futures
import json
import random
import time

import requests


def one(args, prompt):
    begin = time.perf_counter()
    first = None
    with requests.post(
        f"http://127.0.0.1:{args.port}/v1/completions",
        json={"model": args.model, "prompt": prompt, "max_tokens": args.output_len, "temperature": 0,
              "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}},
        stream=True, timeout=600,
    ) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            event = json.loads(line[6:])
            if event["choices"] and first is None:
                first = time.perf_counter()
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    end = time.perf_counter()
    return tokens, first - begin, (end - first) / max(1, tokens - 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--input-len", type=int, default=200)
    parser.add_argument("--output-len", type=int, default=128)
    args = parser.parse_args()
    generator = random.Random(0)
    prompts = [[generator.randrange(1000, 100000) for _ in range(args.input_len)]
               for _ in range(args.prompts)]
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(args.concurrency) as pool:
        results = list(pool.map(lambda p: one(args, p), prompts))
    seconds = time.perf_counter() - begin
    count = len(results)
    print(f"{sum(r[0] for r in results) / seconds:.1f} output tok/s, "
          f"mean TTFT {sum(r[1] for r in results) / count * 1e3:.0f} ms, "
          f"mean TPOT {sum(r[2] for r in results) / count * 1e3:.1f} ms, {seconds:.1f} s")


if __name__ == "__main__":
    main()
