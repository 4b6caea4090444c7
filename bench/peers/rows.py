"""What a peer's program measures and prints; imported by openvino_bench.py and vllm_bench.py.

Rows are named as in step_benchmark: p512 (a prompt of 512 tokens, one new token), d8x256 (8 sequences
decode around a context of 256: prompts of 192, counted from the step in which all have their first
token to the step in which one has its last). One JSON object a row, on standard output.
"""

import argparse
import json
import random
import re
import time

SINGLE_TOKENS = 129  # new tokens of a lone sequence
BATCH_TOKENS = 65  # of each in a batch
HALF = 64  # a decode's prompt is so much shorter than the context that it stands for


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("rows", nargs="+")
    return parser.parse_args()


def parse(row):
    """(sequences, prompt length, new tokens)"""
    if match := re.fullmatch(r"[pc](\d+)", row):
        return 1, int(match[1]), 1
    match = re.fullmatch(r"d(\d+)x(\d+)", row)
    sequences, context = int(match[1]), int(match[2])
    return sequences, context - HALF, SINGLE_TOKENS if sequences == 1 else BATCH_TOKENS


def random_prompts(count, length, generator=random.Random(1)):
    return [[generator.randrange(1000, 100000) for _ in range(length)] for _ in range(count)]


def run_rows(rows, repeat, generate_seconds, step_until_done):
    """generate_seconds(prompts) runs them for one token; step_until_done(prompts, new_tokens) yields
    after every step the list of tokens that each sequence has so far."""
    for row in rows:
        count, length, new_tokens = parse(row)
        rates = []
        for i in range(repeat + 1):
            prompts = random_prompts(count, length)
            if new_tokens == 1:
                rate = length / generate_seconds(prompts)
            else:
                rate = decode_rate(step_until_done(prompts, new_tokens), count, new_tokens)
            if i > 0:
                rates.append(rate)
        print(json.dumps({"row": row, "tok_s": rates}), flush=True)


def decode_rate(steps, count, new_tokens):
    start = end = None
    for have in steps:
        now = time.perf_counter()
        if start is None and len(have) == count and all(have):
            start, base = now, sum(have)
        if start is not None and end is None and max(have) >= new_tokens:
            end, total = now, sum(have)
    return (total - base) / (end - start)
