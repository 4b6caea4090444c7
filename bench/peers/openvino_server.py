"""A thin OpenAI /v1/completions front of OpenVINO GenAI, streaming only, so that the same load can be
put on it (OpenVINO's own server is not on PyPI): openvino_server.py FOLDER PORT"""

import http.server
import json
import queue
import sys
import threading

import openvino_bench


class Engine(threading.Thread):
    """Owns the pipeline; submit() hands out a queue of token lists that ends with None."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.pipeline = openvino_bench.make_pipeline(folder)
        self.tokenizer = self.pipeline.get_tokenizer()
        self.incoming = queue.Queue()

    def submit(self, prompt, new_tokens):
        if isinstance(prompt, str):
            prompt = self.tokenizer.encode(prompt).input_ids.data[0].tolist()
        tokens = queue.Queue()
        self.incoming.put((prompt, new_tokens, tokens))
        return tokens

    def run(self):
        live, next_id = [], 0
        while True:
            while not live or not self.incoming.empty():
                prompt, new_tokens, tokens = self.incoming.get()
                handle = self.pipeline.add_request(next_id, openvino_bench.tensor(prompt),
                                                   openvino_bench.generation(new_tokens))
                live.append([handle, tokens, new_tokens])
                next_id += 1
            self.pipeline.step()
            for entry in live:
                while entry[0].can_read():
                    for output in entry[0].read().values():
                        entry[1].put(list(output.generated_ids))
                        entry[2] -= len(output.generated_ids)
                if entry[2] <= 0:
                    entry[1].put(None)
            live = [entry for entry in live if entry[2] > 0]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine = None

    def log_message(self, *_):
        pass

    def event(self, body):
        text = f"data: {body}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.flush()

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = self.engine.submit(request["prompt"], request.get("max_tokens", 16))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        count = 0
        while (new := tokens.get()) is not None:
            count += len(new)
            text = self.engine.tokenizer.decode(new)
            self.event(json.dumps({"choices": [{"index": 0, "text": text}]}))
        self.event(json.dumps({"choices": [], "usage": {"completion_tokens": count}}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


def main():
    Handler.engine = Engine(sys.argv[1])
    Handler.engine.start()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()


if __name__ == "__main__":
    main()
