"""What guesses of the next tokens bring (`--speculative-config`): one stream of chats that say more or less of their
prompts again, with them and without, by two servers in turn.

  python bench/speculative.py MODEL [--tiercel build/release/tiercel] [--rounds 5] [--config JSON] [FLAG_OF_SERVE …]

Prints the medians of output tokens a second, and whether the answers were the same.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NGRAM = {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 4, "prompt_lookup_min": 2}


def chats():
    """{kind: (prompt, most tokens)}."""
    code = (ROOT / "bench/serve_load.py").read_text()[:3600]
    quoted = f"\n```python\n{code}\n```"
    return {"edit": (f"Rename the function `measure` to `time_load` in this file and print the whole file:{quoted}", 500),
            "summary": (f"Summarize in a few sentences what this file does:{quoted}", 200),
            "write": ("Write a Python class for a binary search tree with insert, delete and search, with docstrings and an "
                      "example.", 400)}


class Server:
    def __init__(self, tiercel, model, flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.process = subprocess.Popen([tiercel, "serve", model, "--host", "127.0.0.1", "--port", self.url.rsplit(":")[-1],
                                         "--served-model-name", "m", "--kv-cache-memory-bytes", "1G", *flags],
                                        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"})

    def wait(self, seconds=300):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return urllib.request.urlopen(self.url + "/health").close()
            except urllib.error.URLError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise SystemExit(f"the server does not answer; its exit code is {self.process.poll()}")

    def chat(self, prompt, tokens):
        """Its text, and output tokens a second."""
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0}
        begin = time.monotonic()
        with urllib.request.urlopen(urllib.request.Request(self.url + "/v1/chat/completions", json.dumps(body).encode(),
                                                           {"Content-Type": "application/json"})) as response:
            answer = json.load(response)
        rate = answer["usage"]["completion_tokens"] / (time.monotonic() - begin)
        return answer["choices"][0]["message"]["content"], rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tiercel", default=str(ROOT / "build/release/tiercel"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--config", default=json.dumps(NGRAM))
    args, flags = parser.parse_known_args()
    servers = {"without": Server(args.tiercel, args.model, flags),
               "with": Server(args.tiercel, args.model, [*flags, "--speculative-config", args.config])}
    try:
        for server in servers.values():
            server.wait()
        for kind, (prompt, tokens) in chats().items():
            rates, texts = {name: [] for name in servers}, set()
            for _ in range(args.rounds):
                for name, server in servers.items():
                    server.chat(prompt, 1)  # the prompt is read
                    text, rate = server.chat(prompt, tokens)
                    rates[name].append(rate)
                    texts.add(text)
            without, guessed = (statistics.median(rates[name]) for name in servers)
            print(f"{kind:8} {without:8.1f} tok/s without, {guessed:8.1f} with: {guessed / without:.2f} x; "
                  f"{'the same answer' if len(texts) == 1 else f'{len(texts)} DIFFERENT ANSWERS'}", flush=True)
    finally:
        for server in servers.values():
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
