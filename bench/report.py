"""The comparison's results: a table, JSON, and a plot of shares of the limit."""

import json
import os
import pathlib
import platform
import statistics

NAMES = {
    "neighbor": "one stream, a busy neighbor takes half of one core: speed left",
    "server_output_tok_s": "server, 200 in / 128 out, 8 at once: output tok/s",
    "server_mean_ttft_ms": "· mean time to the first token, ms",
    "server_mean_tpot_ms": "· mean time per further token, ms",
    "server_p99_itl_ms": "· 99 % of the gaps between tokens are below, ms",
    "start_s": "command to first token (files cached), s",
    "peak_mb": "peak memory of the server, MB",
}
SMALLER_IS_BETTER = ("start_s", "peak_mb", "server_mean_ttft_ms", "server_mean_tpot_ms", "server_p99_itl_ms")


def title(row):
    if row in NAMES:
        return NAMES[row]
    if row[0] == "p":
        return f"prefill {row[1:]}, tok/s"
    if row[0] == "c":
        return f"prefill {row[1:]} in chunks of 2048, tok/s"
    streams, context = row[1:].split("x")
    return f"decode, {streams} stream{'s' if streams != '1' else ''} at {context}, tok/s"


def tokens_of(row):
    return int(row[1:].split("x")[0])


def limit_of(row, work, limits):
    """Tokens per second if the nearer of the two limits were met; None for rows without one."""
    if row == "server_output_tok_s":
        return server_limit(work, limits)
    if row not in work:
        return None
    return tokens_of(row) / seconds_of(row, work, limits)


def seconds_of(row, work, limits):
    """limits: GB/s, GFLOP/s, GOP/s in INT8; work[row]: bytes, FLOPs, operations in INT8."""
    by_bytes, by_flop, by_int8 = (amount / (limit * 1e9) for amount, limit in zip(work[row], limits))
    # A prefill's weights come from memory while it computes: only the arithmetic counts.
    return by_flop + by_int8 if row[0] in "pc" else max(by_bytes, by_flop + by_int8)


def server_limit(work, limits):
    """serve_load's default load: 8 streams at a context of 264 on average, 128 steps for every 8 prompts
    of 200 tokens."""
    if "p512" not in work or "d8x256" not in work:
        return None
    prefill = 8 * 200 / 512 * seconds_of("p512", work, limits)
    decode = 128 * seconds_of("d8x256", work, limits)
    return 8 * 128 / (prefill + decode)


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    return f"{cpu}, {len(os.sched_getaffinity(0))} CPUs"


def summarize(engines, run):
    limits = [statistics.median(of_one) for of_one in zip(*run.limits)]
    rows = list(dict.fromkeys(row for figures in run.values.values() for row in figures))
    table = []
    for row in rows:
        medians = {e: statistics.median(run.values[e][row]) for e in engines if row in run.values.get(e, {})}
        limit = limit_of(row, run.work, limits)
        entry = {"row": row, "title": title(row), "limit": limit, "medians": medians,
                 "turns": len(run.values.get("tiercel", {}).get(row, []))}
        others = [v for e, v in medians.items() if e != "tiercel"]
        if "tiercel" in medians and others:
            mine = medians["tiercel"]
            entry["ahead"] = min(others) / mine if row in SMALLER_IS_BETTER else mine / max(others)
        if limit and "tiercel" in medians:
            entry["share"] = medians["tiercel"] / limit
        table.append(entry)
    return {"machine": machine(), "limits": limits, "rows": table,
            "run": {"values": run.values, "limits": run.limits, "work": run.work}}


def markdown(summary, model, engines):
    number = lambda v: "" if v is None else f"{v:.2f}" if v < 10 else f"{v:.0f}"
    read, gflop, int8_gop = summary["limits"]
    lines = [f"{pathlib.Path(model).name} on {summary['machine']}; read {read:.1f} GB/s, matmul {gflop:.0f} GFLOP/s, in INT8 "
             f"{int8_gop:.0f} GOP/s (medians of the run).", "",
             "| work | limit | " + " | ".join(engines) + " | tiercel ÷ limit | tiercel ahead of the best peer |",
             "|---" * (len(engines) + 4) + "|"]
    for row in summary["rows"]:
        lines.append("| " + " | ".join(
            [row["title"], number(row["limit"])] + [number(row["medians"].get(e)) for e in engines]
            + [number(row.get("share")), f"{row['ahead']:.2f} ×" if "ahead" in row else ""]) + " |")
    return "\n".join(lines) + "\n"


def plot(path, summary, engines):
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    rows = [row for row in summary["rows"] if row["limit"]]
    if not rows:
        return
    figure, axes = pyplot.subplots(figsize=(1.5 + 1.2 * len(rows), 4), layout="constrained")
    width = 0.8 / len(engines)
    for i, engine in enumerate(engines):
        places = [x + (i - (len(engines) - 1) / 2) * width for x in range(len(rows))]
        axes.bar(places, [row["medians"].get(engine, 0) / row["limit"] for row in rows], width, label=engine)
    axes.set_xticks(range(len(rows)), [row["row"] for row in rows])
    axes.set_ylabel("share of the nearer limit")
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_title(summary["machine"])
    axes.legend()
    figure.savefig(path, dpi=120)


def write(out, model, engines, run):
    if not run.values:
        print("nothing was measured")
        return
    summary = summarize(engines, run)
    pathlib.Path(f"{out}.json").write_text(json.dumps(summary, indent=1) + "\n")
    table = markdown(summary, model, engines)
    pathlib.Path(f"{out}.md").write_text(table)
    plot(f"{out}.png", summary, engines)
    print("\n" + table)
