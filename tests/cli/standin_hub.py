"""A stand-in for the model hubs: Hugging Face's and ModelScope's routes over folders, with faults."""
import hashlib
import http.client
import http.server
import json
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HttpThread:
    """An HTTP server on a free port of 127.0.0.1; `handle(request)` answers."""

    def __init__(self, handle):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                handle(self)

            do_HEAD = do_POST = do_GET

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def reply(request, status, body, headers=None, cut=None):
    """`cut`: so many bytes of the body are sent, then the connection breaks."""
    request.send_response(status)
    for key, value in (headers or {}).items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command == "HEAD":
        return
    request.wfile.write(body if cut is None else body[:cut])
    if cut is not None:
        request.wfile.flush()
        request.close_connection = True
        request.connection.close()


class StandInHub:
    """Serves `folder` as repository `repository`. The attributes change its behavior.

    Hugging Face's files are answered by a redirect to a file server on another port, as the hub
    does; `file_server_keys` are the Authorization headers that came there.
    """

    def __init__(self, folder, repository="org/tiny-0.1B"):
        self.folder, self.repository = folder, repository
        self.revisions = {}        # more revisions: name -> folder
        self.commit = COMMIT
        self.token = None          # asked for in the Authorization header
        self.listing_status = 200  # anything else is the answer to every look-up
        self.change_listing = lambda listing: listing
        self.hashes_listed = True  # False: as a mirror that knows of no blobs=true
        self.next_answers = {}     # file name, or "listing": [(status, headers), …], once each
        self.cut_after = {}        # name: [bytes, …] after which the connection breaks, once each
        self.corrupt = {}          # name: how many times the content is wrong
        self.ignore_range = False
        self.requests = []         # (path, Range header)
        self.file_server_keys = []
        self.files = HttpThread(self.handle_file_server)
        self.hub = HttpThread(self.handle)
        self.url, self.files_url = self.hub.url, self.files.url

    def close(self):
        self.hub.close()
        self.files.close()

    def handle_file_server(self, request):
        self.requests.append((request.path, request.headers.get("Range")))
        self.file_server_keys.append(request.headers.get("Authorization"))
        self.send_file(request, self.folder, urllib.parse.unquote(request.path.removeprefix("/cdn/")))

    def handle(self, request):
        url = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.requests.append((request.path, request.headers.get("Range")))
        base = f"/api/models/{self.repository}/revision/"
        scope = f"/api/v1/models/{self.repository}/repo"
        resolve = f"/{self.repository}/resolve/{self.commit}/"
        is_listing = url.path.startswith("/api/models/") or url.path.endswith("/repo/files")
        if is_listing and self.listing_status != 200:
            return reply(request, self.listing_status, b"no")
        if is_listing and self.next_answers.get("listing"):
            status, headers = self.next_answers["listing"].pop(0)
            return reply(request, status, b"", headers)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return reply(request, 401, b"Unauthorized")
        if url.path.startswith(base) and url.path[len(base):] in ("main", "v1", self.commit):
            return reply(request, 200, json.dumps(self.change_listing(self.listing())).encode())
        folders = {"master": self.folder, **self.revisions}
        if url.path == scope + "/files" and query.get("Revision") in folders:
            listing = self.modelscope_listing(folders[query["Revision"]])
            return reply(request, 200, json.dumps(self.change_listing(listing)).encode())
        if url.path == scope and query.get("Revision") in folders:
            return self.send_file(request, folders[query["Revision"]], query["FilePath"])
        if url.path.startswith(resolve):  # Hugging Face sends clients on to its file servers
            name = url.path[len(resolve):]
            headers = {"Location": f"{self.files_url}/cdn/{name}"}
            if (self.folder / name).is_file():
                kind = "X-Linked-Etag" if name.endswith(".safetensors") else "ETag"
                sha256, blob = self.hashes((self.folder / name).read_bytes())
                headers[kind] = f'"{sha256 if kind == "X-Linked-Etag" else blob}"'
            return reply(request, 302, b"", headers)
        return reply(request, 404, b"Not Found")

    @staticmethod
    def hashes(data):
        """SHA-256 of the content and git's name for it."""
        return (hashlib.sha256(data).hexdigest(),
                hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())

    def listing(self):
        siblings = []
        for path in sorted(self.folder.iterdir()):
            data = path.read_bytes()
            sha256, blob = self.hashes(data)
            entry = {"rfilename": path.name}
            if self.hashes_listed:
                entry |= {"size": len(data), "blobId": blob}
                if path.suffix == ".safetensors":
                    entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        siblings.append({"rfilename": "original/weights.bin", "size": 1 << 40, "blobId": "0" * 40})
        return {"id": self.repository, "sha": self.commit, "siblings": siblings}

    @staticmethod
    def modelscope_listing(folder):
        files = [{"Path": p.name, "Name": p.name, "Type": "blob", "Size": p.stat().st_size,
                  "Sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
                 for p in sorted(folder.iterdir())]
        return {"Code": 200, "Success": True, "Data": {"Files": files}}

    def send_file(self, request, folder, name):
        path = folder / name
        if "/" in name or not path.is_file():
            return reply(request, 404, b"Not Found")
        if self.next_answers.get(name):
            status, headers = self.next_answers[name].pop(0)
            return reply(request, status, b"", headers)
        data = path.read_bytes()
        if self.corrupt.get(name, 0) > 0:
            self.corrupt[name] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin, status, headers = 0, 200, {}
        if request.headers.get("Range") and not self.ignore_range:
            begin = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if begin >= len(data):
                return reply(request, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        cuts = self.cut_after.get(name)
        return reply(request, status, data[begin:], headers, cuts.pop(0) if cuts else None)


class Proxy:
    """A forward proxy for http: names ending in .invalid are `target`, a URL."""

    def __init__(self, target):
        self.target = target
        self.seen = []  # URLs
        self.http = HttpThread(self.handle)
        self.url = self.http.url

    def handle(self, request):
        self.seen.append(request.path)
        url = urllib.parse.urlsplit(request.path)
        if not url.netloc.endswith(".invalid"):
            return reply(request, 502, b"")
        target = urllib.parse.urlsplit(self.target)
        forwarded = http.client.HTTPConnection(target.netloc, timeout=20)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "proxy-connection"}
        forwarded.request(request.command, url.path + (f"?{url.query}" if url.query else ""),
                          headers=headers)
        answer = forwarded.getresponse()
        body = answer.read()
        kept = {k: v for k, v in answer.getheaders()
                if k.lower() in ("location", "content-range", "etag", "x-linked-etag")}
        return reply(request, answer.status, body, kept)

    def close(self):
        self.http.close()
