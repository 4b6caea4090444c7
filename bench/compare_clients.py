"""`vllm bench serve` and `tiercel bench serve` in turn against one server: do they measure the same?

  python bench/compare_clients.py --vllm VLLM_PROGRAM --model FOLDER --port 8000 --rounds 5 \\
      -- --random-input-len 200 --random-output-len 128 --num-prompts 40 --max-concurrency 4

The flags behind -- go to both. Prints a table in Markdown: each client's median and range over the rounds
of every row, and each one's processor time, its start included.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time

ROWS = ["completed", "total_input_tokens", "total_output_tokens", "duration", "request_throughput",
        "output_throughput", "max_concurrent_requests",
        *(f"{what}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el") for what in ("mean", "median", "p99"))]


def run(program, args, seed):
    """A round's figures."""
    with tempfile.TemporaryDirectory() as folder:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([program, "bench", "serve", "--model", args.model, "--port", str(args.port),
                        "--disable-tqdm", "--ignore-eos", "--temperature", "0", "--seed", str(seed),
                        "--percentile-metrics", "ttft,tpot,itl,e2el", "--save-result", "--result-dir",
                        folder, *args.flags], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        (file,) = pathlib.Path(folder).glob("*.json")
        figures = json.loads(file.read_text())
    figures["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures["wall"] = end - begin
    return figures


def show(values):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.6g}" if low == high else f"{middle:.4g} ({low:.4g} … {high:.4g})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--tiercel", default="build/release/tiercel")
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    programs = {"vllm": args.vllm, "tiercel": args.tiercel}
    results = {name: [] for name in programs}
    for seed in range(args.rounds):
        for name in list(programs)[::1 if seed % 2 else -1]:
            # Another seed for each: the second must not find the prompts of the first in a cache.
            results[name].append(run(programs[name], args, 2 * seed + (name == "vllm")))
    print("| row | vllm | tiercel |\n|---|---|---|")
    for row in ROWS:
        print(f"| {row} | " + " | ".join(show([r[row] for r in results[n]]) for n in programs) + " |")
    print("| processor time, s | " + " | ".join(show([r["cpu"] for r in results[n]]) for n in programs) + " |")


if __name__ == "__main__":
    main()
