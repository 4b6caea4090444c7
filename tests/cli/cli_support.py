"""The command line, tried as a user would: the real program on a tiny model."""
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "data" / "tiny-qwen3"
BINARY = os.environ.get("TIERCEL_BINARY", str(ROOT / "build" / "release" / "tiercel"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def clean_env(extra=None):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("VLLM_", "HF_", "HUGGING", "MODELSCOPE", "OPENAI_", "ASCEND"))}
    env["OMP_NUM_THREADS"] = "1"
    env.update(extra or {})
    return env


def run(*words, env=None, timeout=60, input=None, cwd=None):
    return subprocess.run([BINARY, *map(str, words)], env=clean_env(env), timeout=timeout,
                          input=input, cwd=cwd, capture_output=True, text=True)


class Server:
    """A running `tiercel serve`; its log is read as it comes."""

    def __init__(self, *words, env=None, port=None, under=()):
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [*under, BINARY, "serve", *map(str, words), "--port", str(self.port)],
            env=clean_env(env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.log = ""

    def read_until(self, pattern, timeout=60):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.log):
            left = end - time.monotonic()
            assert left > 0, f"no {pattern!r} in:\n{self.log}"
            ready, _, _ = select.select([self.process.stderr], [], [], min(left, 0.2))
            if not ready:
                continue
            piece = os.read(self.process.stderr.fileno(), 65536)
            assert piece or re.search(pattern, self.log), f"ended without {pattern!r}:\n{self.log}"
            self.log += piece.decode(errors="replace")
        return self

    def wait_ready(self):
        return self.read_until("Application startup complete")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self, sig=signal.SIGTERM, timeout=20):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            _, rest = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.log += (rest or b"").decode(errors="replace")
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def dummy_server(*words, **kwargs):
    """The tiny model's shape with random weights."""
    return Server(TINY, "--load-format", "dummy", "--max-model-len", "512", *words, **kwargs)


def write_tiny_model(folder, **changes):
    """A whole model folder: the tiny configuration, or a changed one, with random BF16 weights in safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in TINY.iterdir():
        shutil.copy(file, folder)
    config = json.loads((TINY / "config.json").read_text()) | changes
    config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]
    (folder / "config.json").write_text(json.dumps(config))
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden],
              "model.norm.weight": [hidden]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [config["vocab_size"], hidden]
    architecture, = config["architectures"]
    for i in range(config["num_hidden_layers"]):
        layer = {"input_layernorm": [hidden], "post_attention_layernorm": [hidden],
                 "self_attn.q_proj": [q, hidden], "self_attn.k_proj": [kv, hidden],
                 "self_attn.v_proj": [kv, hidden], "self_attn.o_proj": [hidden, q],
                 "mlp.gate_proj": [inner, hidden], "mlp.up_proj": [inner, hidden],
                 "mlp.down_proj": [hidden, inner]}
        if architecture == "Qwen3ForCausalLM":
            layer |= {"self_attn.q_norm": [head], "self_attn.k_norm": [head]}
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
        if architecture == "Qwen2ForCausalLM":
            shapes |= {f"model.layers.{i}.self_attn.{name}_proj.bias": [rows] for name, rows in (("q", q), ("k", kv), ("v", kv))}
    source = random.Random(1)
    header, body = {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        data = bytearray(2 * count)
        data[0::2] = source.randbytes(count)
        data[1::2] = bytes(0x3C | (b & 0x80) for b in source.randbytes(count))  # ± 0.008 … 0.03
        header[name] = {"dtype": "BF16", "shape": shape,
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    return folder
