"""A stand-in for the model hubs: Hugging Face's and ModelScope's routes over one folder."""
import hashlib
import http.server
import json
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandInHub:
    """Serves `folder` as repository `repository`. The attributes change its behavior."""

    def __init__(self, folder, repository="org/tiny-0.1B"):
        self.folder, self.repository = folder, repository
        self.token = None          # asked for in the Authorization header
        self.cut_after = {}        # name: bytes after which the connection breaks, once
        self.corrupt = {}          # name: how many times the content is wrong
        self.requests = []         # (path, Range header)
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.handle(self)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def handle(self, request):
        url = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.requests.append((request.path, request.headers.get("Range")))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.reply(request, 401, b"Unauthorized")
        base = f"/api/models/{self.repository}/revision/"
        scope = f"/api/v1/models/{self.repository}/repo"
        resolve = f"/{self.repository}/resolve/{COMMIT}/"
        if url.path.startswith(base) and url.path[len(base):] in ("main", "v1", COMMIT):
            return self.reply(request, 200, json.dumps(self.listing()).encode())
        if url.path == scope + "/files" and query.get("Revision") == "master":
            return self.reply(request, 200, json.dumps(self.modelscope_listing()).encode())
        if url.path == scope:
            return self.send_file(request, query["FilePath"])
        if url.path.startswith(resolve):  # Hugging Face sends clients on to its file servers
            name = url.path[len(resolve):]
            return self.reply(request, 302, b"", {"Location": f"{self.url}/cdn/{name}"})
        if url.path.startswith("/cdn/"):
            return self.send_file(request, url.path[5:])
        return self.reply(request, 404, b"Not Found")

    def listing(self):
        siblings = []
        for path in sorted(self.folder.iterdir()):
            data = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"rfilename": path.name, "size": len(data), "blobId": blob}
            if path.suffix == ".safetensors":
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                                "pointerSize": 134}
            siblings.append(entry)
        siblings.append({"rfilename": "original/weights.bin", "size": 1 << 40, "blobId": "0" * 40})
        return {"id": self.repository, "sha": COMMIT, "siblings": siblings}

    def modelscope_listing(self):
        files = [{"Path": p.name, "Name": p.name, "Type": "blob", "Size": p.stat().st_size,
                  "Sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
                 for p in sorted(self.folder.iterdir())]
        return {"Code": 200, "Success": True, "Data": {"Files": files}}

    def send_file(self, request, name):
        path = self.folder / name
        if "/" in name or not path.is_file():
            return self.reply(request, 404, b"Not Found")
        data = path.read_bytes()
        if self.corrupt.get(name, 0) > 0:
            self.corrupt[name] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin, status, headers = 0, 200, {}
        if request.headers.get("Range"):
            begin = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if begin >= len(data):
                return self.reply(request, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        cut = self.cut_after.pop(name, None)
        self.reply(request, status, data[begin:], headers, cut)

    @staticmethod
    def reply(request, status, body, headers=None, cut=None):
        request.send_response(status)
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            request.wfile.flush()
            request.close_connection = True
            request.connection.close()
