"""Tiercel beside its peers on one machine and one model, in one run.

  python bench/compare.py --model Qwen3-0.6B-rand --out compare [--rounds 3] [--rows p512,d1x512 ...]

Every round measures the machine's limits, then each engine in turn, so that a slow minute of a shared
machine falls on all of them. Peers that are not installed are skipped by name; bench/README.md says
how to install each. Writes OUT.json, OUT.md (the table) and OUT.png (if matplotlib is there).
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from peers import engines, process
import serve_load
import report

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = "p512,p2048,c16384,d1x512,d4x256,d8x256,d16x256,d32x256"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a folder with config.json and *.safetensors, or a GGUF file, for those that read it as it is")
    parser.add_argument("--out", required=True, help="where to write: OUT.json, OUT.md, OUT.png")
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="Tiercel's build folder (build/release)")
    parser.add_argument("--peers", default=ROOT / "build/peers", type=pathlib.Path,
                        help="where bench/README.md puts the peers (build/peers)")
    parser.add_argument("--rows", default=ROWS, help=f"offline rows ({ROWS}), or none")
    parser.add_argument("--rounds", type=int, default=3, help="each engine's turns (3)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of a row in a turn (3)")
    parser.add_argument("--only", default="", help="engines to run, e.g. tiercel,llama.cpp (all)")
    parser.add_argument("--no-server", action="store_true", help="leave out the server's rows")
    parser.add_argument("--no-neighbor", action="store_true", help="leave out the busy neighbor")
    parser.add_argument("--append", action="store_true", help="add the turns to those of OUT.json")
    parser.add_argument("--prompts", type=int, default=32, help="of the server's load (32)")
    return parser.parse_args()


class Run:
    """Collects figures: values[engine][row] is a list with one entry a turn."""

    def __init__(self, args):
        self.args = args
        self.values = {}
        self.limits = []
        self.work = {}  # row: bytes, FLOPs and operations in INT8, as Tiercel's benchmark counts them
        if args.append:
            before = json.loads(pathlib.Path(f"{args.out}.json").read_text())["run"]
            self.values, self.limits, self.work = before["values"], before["limits"], before["work"]
            if any(len(of) != 3 for of in [*self.limits, *self.work.values()]):
                sys.exit(f"compare.py: --append: {args.out}.json is from before INT8 operations were counted; measure anew")

    def measure_limits(self):
        """Before and after every turn; the row itself is judged by the run's median."""
        for row in engines.json_lines([self.args.build / "bench/step_benchmark", "--json", "none", "limits"]):
            self.limits.append((row["read_gb_s"], row["gflop_s"], row["int8_gop_s"]))
            print(f"  limits: read {row['read_gb_s']:.1f} GB/s, matmul {row['gflop_s']:.0f} GFLOP/s, in INT8 "
                  f"{row['int8_gop_s']:.0f} GOP/s", flush=True)

    def add(self, engine, row, value):
        self.values.setdefault(engine.name, {}).setdefault(row, []).append(value)
        print(f"  {engine.name} {row}: {value:.5g}", flush=True)

    def offline(self, engine, rows):
        for row in engine.offline(rows, self.args.repeat):
            if "bytes" in row:
                self.work[row["row"]] = (row["bytes"], row["flop"], row["int8_op"])
            self.add(engine, row["row"], statistics.median(row["tok_s"]))

    def neighbor(self, engine):
        """One stream while a process takes half of one core: the share of the quiet speed that is left."""
        quiet = statistics.median(next(iter(engine.offline(["d1x512"], self.args.repeat)))["tok_s"])
        with process.BusyNeighbor():
            busy = statistics.median(next(iter(engine.offline(["d1x512"], self.args.repeat)))["tok_s"])
        self.add(engine, "neighbor", busy / quiet)

    def server(self, engine, seed):
        port = process.free_port()
        with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
            server = process.Server(engine.server(port), engine.environment(), log)
            try:
                self.add(engine, "start_s", server.wait_for_token(port, engine.served_name))
                load = dict(port=port, model=engine.served_name, prompts=self.args.prompts)
                serve_load.measure(**{**load, "prompts": 8}, output_len=16, seed=1000 + seed)
                figures = serve_load.measure(**load, seed=seed)
                for name in ("output_tok_s", "mean_ttft_ms", "mean_tpot_ms", "p99_itl_ms"):
                    self.add(engine, "server_" + name, figures[name])
                self.add(engine, "peak_mb", server.peak_megabytes())
            except (RuntimeError, OSError) as error:
                log.seek(0)
                print(f"  {engine.name}: {error}\n{log.read()[-2000:]}", file=sys.stderr)
            finally:
                server.stop()


def main():
    args = arguments()
    every = engines.all_engines(args.build, args.peers, pathlib.Path(args.model).resolve())
    if missing := every[0].missing():  # Tiercel's benchmark measures the limits, too
        sys.exit(f"tiercel: {missing}: build it and its benchmarks (bench/README.md), or name its folder with --build")
    chosen = []
    for engine in every:
        if args.only and engine.name not in args.only.split(","):
            continue
        missing = engine.missing()
        if missing:
            print(f"{engine.name}: skipped, {missing}")
        else:
            chosen.append(engine)
    rows = [] if args.rows == "none" else args.rows.split(",")
    run = Run(args)
    for turn in range(args.rounds):
        for engine in chosen:
            print(f"round {turn + 1} of {args.rounds}: {engine.name}", flush=True)
            run.measure_limits()
            try:
                if rows:
                    run.offline(engine, rows)
                if not args.no_neighbor:
                    run.neighbor(engine)
                if not args.no_server:
                    run.server(engine, turn)
            except subprocess.CalledProcessError as error:
                print(f"  {engine.name}: {error}\n{(error.stderr or '')[-2000:]}", file=sys.stderr)
        run.measure_limits()
    report.write(args.out, args.model, [e.name for e in every if e.name in run.values], run)


if __name__ == "__main__":
    main()
