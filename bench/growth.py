"""How the time of a decode step grows with context and streams, and what that predicts elsewhere.

  python bench/growth.py --model Qwen3-0.6B-rand --out docs/growth [--rows d1x512,d8x256,...] [--append]

Measures steps with step_benchmark, fits the model of cost

    seconds = bytes ÷ read bandwidth + FLOPs ÷ speed + layers · pause

(bytes and FLOPs of weights, keys and values; the bandwidth measured in the run; `speed` and `pause`
fitted), and prints what it says for larger models and machines. Writes OUT.json and OUT.png. Needs
numpy; matplotlib for the plot.
"""

import argparse
import json
import pathlib

import numpy

from peers import engines

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONTEXTS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
STREAMS = (1, 2, 4, 8, 16, 32, 64, 128)
STREAMS_AT = 256
ROWS = ",".join([f"d1x{c}" for c in CONTEXTS] + [f"d{s}x{STREAMS_AT}" for s in STREAMS])
# hidden, layers, heads, KV heads, head_dim, intermediate
LARGER = {"8B": (4096, 36, 32, 8, 128, 12288), "32B": (5120, 64, 64, 8, 128, 25600)}
VOCABULARY = 151936
CORES, BANDWIDTH = 64, 300e9  # the machine that is predicted


def work_of(shape, streams, context):
    """Bytes and FLOPs of one decode step in BF16."""
    hidden, layers, heads, kv_heads, head_dim, intermediate = shape
    weights = layers * (hidden * head_dim * 2 * (heads + kv_heads) + 3 * hidden * intermediate) + VOCABULARY * hidden
    keys = streams * context * layers
    size = 2 * weights + keys * 2 * kv_heads * head_dim * 2
    return size, 2 * streams * weights + 4 * keys * heads * head_dim


def fit(rows, layers):
    """FLOPs per second and seconds per layer; least squares of the relative error, none below zero."""
    seconds = numpy.array([r["ms"] / 1e3 for r in rows])
    rest = seconds - numpy.array([r["bytes"] / (r["read_gb_s"] * 1e9) for r in rows])
    columns = numpy.array([[r["flop"], layers] for r in rows])
    inverse_speed, pause = numpy.linalg.lstsq(columns / seconds[:, None], rest / seconds, rcond=None)[0]
    return 1 / max(inverse_speed, 1e-15), max(pause, 0.0)


def predicted(row, speed, pause, layers):
    return row["bytes"] / (row["read_gb_s"] * 1e9) + row["flop"] / speed + layers * pause


def numbers(row):
    return tuple(int(n) for n in row["row"][1:].split("x"))


def plot(path, rows, speed, pause, layers):
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for ax, label, chosen, at in ((axes[0], "context, one stream", [r for r in rows if numbers(r)[0] == 1], 1),
                                  (axes[1], f"streams at a context of {STREAMS_AT}",
                                   [r for r in rows if numbers(r)[1] == STREAMS_AT], 0)):
        chosen.sort(key=numbers)
        x = [numbers(r)[at] for r in chosen]
        ax.plot(x, [r["ms"] for r in chosen], "o", label="measured")
        ax.plot(x, [1e3 * predicted(r, speed, pause, layers) for r in chosen], "-", label="model of cost")
        ax.plot(x, [1e3 * r["bytes"] / (r["read_gb_s"] * 1e9) for r in chosen], ":", label="bytes ÷ bandwidth")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel(label)
        ax.set_ylabel("ms a step")
        ax.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path)
    parser.add_argument("--rows", default=ROWS)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--append", action="store_true", help="add the rows to those of OUT.json")
    args = parser.parse_args()
    rows = json.loads(pathlib.Path(f"{args.out}.json").read_text()) if args.append else []
    for row in filter(None, args.rows.split(",")):
        rows += engines.json_lines([args.build / "bench/step_benchmark", args.model, "--json", "--graphs",
                                    "--repeat", args.repeat, row])
        print(json.dumps(rows[-1]), flush=True)
        pathlib.Path(f"{args.out}.json").write_text("[\n " + ",\n ".join(map(json.dumps, rows)) + "\n]\n")
    layers = json.loads((args.model / "config.json").read_text())["num_hidden_layers"]
    speed, pause = fit(rows, layers)
    errors = [abs(predicted(r, speed, pause, layers) / (r["ms"] / 1e3) - 1) for r in rows]
    print(f"speed {speed / 1e9:.0f} GFLOP/s, pause {pause * 1e6:.0f} µs a layer; "
          f"mean error {100 * numpy.mean(errors):.0f} %, largest {100 * max(errors):.0f} %")
    for name, shape in LARGER.items():
        for streams, context in ((1, 512), (8, 2048), (72, 3500)):
            size, flop = work_of(shape, streams, context)
            seconds = size / BANDWIDTH + flop / (speed * CORES / engines.CORES) + shape[1] * pause
            print(f"{name} on {CORES} cores with {BANDWIDTH / 1e9:.0f} GB/s, {streams} streams at {context}: "
                  f"{seconds * 1e3:.0f} ms a step, {streams / seconds:.0f} tok/s")
    plot(f"{args.out}.png", rows, speed, pause, layers)


if __name__ == "__main__":
    main()
