"""The engines that the comparison runs: what each needs, and how to run it offline and as a server."""

import json
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0))


def output_of(command, environment=None, folder=None):
    """What it prints, some of it to where errors go."""
    result = subprocess.run([str(word) for word in command], check=True, text=True,
                            capture_output=True, env={**os.environ, **(environment or {})}, cwd=folder)
    return result.stdout + result.stderr


def json_lines(command, environment=None):
    """The JSON objects among a program's lines of output."""
    return [json.loads(line) for line in output_of(command, environment).splitlines() if line.startswith("{")]


class Engine:
    """offline() yields {"row", "tok_s": [one a run]}; missing() says what is not installed, or ""."""

    served_name = "m"

    def environment(self):
        return {}

    def needs(self):
        raise NotImplementedError

    def missing(self):
        absent = [str(path) for path in self.needs() if not path.exists()]
        return f"not found: {', '.join(absent)}" if absent else ""


class Tiercel(Engine):
    """By its Python package: engine and sampler, as the peers. step_benchmark says what a row's work is."""

    name = "tiercel"

    def __init__(self, build, model):
        self.build, self.model = build, model
        self.python = build.parent / "venv/bin/python"  # where `make python` installs the package
        self.work = {}

    def needs(self):
        return [self.build / "tiercel", self.build / "bench/step_benchmark", self.python, self.model]

    def offline(self, rows, repeat):
        unknown = [row for row in rows if row not in self.work]
        for row in json_lines([self.build / "bench/step_benchmark", self.model, "--json", "--graphs",
                               "--distinct", 32, "--repeat", 1, *unknown]) if unknown else []:
            self.work[row["row"]] = {name: row[name] for name in ("bytes", "flop", "int8_op")}
        for row in json_lines([self.python, HERE / "tiercel_bench.py", "--model", self.model,
                               "--repeat", repeat, *rows]):
            yield {**row, **self.work[row["row"]]}

    def server(self, port):
        return [self.build / "tiercel", "serve", self.model, "--served-model-name", self.served_name,
                "--max-model-len", 5500, "--port", port]


class LlamaCpp(Engine):
    name = "llama.cpp"

    def __init__(self, peers, gguf):
        self.bin = (peers / self.name / "bin").resolve()
        self.gguf = gguf.resolve()

    def needs(self):
        return [self.bin / "llama-bench", self.gguf]

    def environment(self):
        return {"LD_LIBRARY_PATH": str(self.bin)}

    def offline(self, rows, repeat):
        for row in rows:
            yield {"row": row, "tok_s": self.prefill(row, repeat) if row[0] in "pc"
                   else self.decode(*row[1:].split("x"), repeat)}

    def prefill(self, row, repeat):
        lines = json_lines([self.bin / "llama-bench", "-m", self.gguf, "-t", CORES, "-p", row[1:],
                            "-n", 0, "-r", repeat, "-o", "jsonl"], self.environment())
        return lines[0]["samples_ts"]

    def decode(self, sequences, context, repeat):
        common = ["-m", self.gguf, "-t", CORES]
        if sequences == "1":
            lines = json_lines([self.bin / "llama-bench", *common, "-p", 0, "-n", 128, "-d",
                                int(context) - 64, "-r", repeat, "-o", "jsonl"], self.environment())
            return lines[0]["samples_ts"]
        rates = []
        for _ in range(repeat):
            lines = json_lines([self.bin / "llama-batched-bench", *common, "-tb", CORES, "-c",
                                int(sequences) * (int(context) + 64), "-b", 2048, "-ub", 512, "-npp",
                                int(context) - 64, "-ntg", 64, "-npl", sequences,
                                "--output-format", "jsonl"], self.environment())
            rates.append(lines[-1]["speed_tg"])
        return rates

    def server(self, port):
        return [self.bin / "llama-server", "-m", self.gguf, "-t", CORES, "-np", 8, "-c", 8192,
                "--port", port, "--alias", self.served_name]


class IkLlamaCpp(LlamaCpp):
    """A fork with its own kernels for quantized weights, which it repacks as it loads them (-rtr)."""

    name = "ik_llama.cpp"

    def offline(self, rows, repeat):
        for row in rows:
            if row[0] in "pc":
                rates = self.alone(["-p", row[1:], "-n", 0], repeat)
            else:
                sequences, context = map(int, row[1:].split("x"))
                rates = self.alone(["-p", 0, "-n", 0, "-gp", f"{context - 64},128"], repeat) if sequences == 1 \
                    else [self.together(sequences, context) for _ in range(repeat)]
            yield {"row": row, "tok_s": rates}

    def alone(self, work, repeat):
        output = output_of([self.bin / "llama-bench", "-m", self.gguf, "-t", CORES, "-rtr", 1, *work, "-r", repeat,
                            "-o", "json"], self.environment())
        return json.JSONDecoder().raw_decode(output, output.index("[\n"))[0][-1]["samples_ts"]

    def together(self, sequences, context):
        with tempfile.TemporaryDirectory() as folder:  # it leaves a log where it runs
            output = output_of([self.bin / "llama-batched-bench", "-m", self.gguf, "-t", CORES, "-tb", CORES, "-rtr",
                                "-c", sequences * (context + 64), "-b", 2048, "-ub", 512, "-npp", context - 64,
                                "-ntg", 64, "-npl", sequences], self.environment(), folder)
        table = [line.split("|") for line in output.splitlines() if line.startswith("|")]
        head, last = [word.strip() for word in table[0]], table[-1]
        return float(last[head.index("S_TG t/s")])

    def server(self, port):
        return [*super().server(port), "-rtr"]


class PythonPeer(Engine):
    """A peer that lives in a virtual environment of its own."""

    script = None

    def offline(self, rows, repeat):
        yield from json_lines([self.python, HERE / self.script, "--model", self.model, "--repeat",
                               repeat, *rows], self.environment())


class OpenVino(PythonPeer):
    name = "openvino"
    script = "openvino_bench.py"

    def __init__(self, peers, model):
        self.python = peers / "openvino/bin/python"
        self.model = model if model.suffix == ".gguf" else peers / f"models/{model.name}-openvino"

    def needs(self):
        return [self.python, self.model]

    def server(self, port):
        return [self.python, HERE / "openvino_server.py", self.model, port]


class Vllm(PythonPeer):
    name = "vllm"
    script = "vllm_bench.py"

    def __init__(self, peers, model):
        self.venv = peers / "vllm"
        self.python = self.venv / "bin/python"
        self.model = model

    def needs(self):
        return [self.python]

    def environment(self):
        # What vLLM's guide for CPUs asks for: an allocator and its OpenMP runtime, loaded first.
        preload = [str(path) for path in (
            pathlib.Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"),
            self.venv / "lib/libiomp5.so") if path.exists()]
        return {"LD_PRELOAD": ":".join(preload), "VLLM_CPU_KVCACHE_SPACE": "4",
                "VLLM_CPU_OMP_THREADS_BIND": f"0-{CORES - 1}", "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1", "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}"}

    def server(self, port):
        return [self.venv / "bin/vllm", "serve", self.model, "--served-model-name", self.served_name,
                "--max-model-len", 5500, "--max-num-batched-tokens", 2048, "--port", port]


def all_engines(build, peers, model):
    """Those that read `model`: a folder, or a GGUF file, which all of them take as it is."""
    if model.suffix == ".gguf":
        return [Tiercel(build, model), LlamaCpp(peers, model), IkLlamaCpp(peers, model), OpenVino(peers, model)]
    gguf = peers / f"models/{model.name}.gguf"
    return [Tiercel(build, model), LlamaCpp(peers, gguf), OpenVino(peers, model), Vllm(peers, model)]
