"""HTTP/1.1 over raw asyncio sockets: what a load tool needs to send, cut and read, and no more."""

import asyncio
import json
import socket
import struct

HOST = "127.0.0.1"


class Broken(Exception):
    """The server closed the connection, or sent what is no HTTP."""


class Reply:
    def __init__(self, status, headers):
        self.status = status
        self.headers = headers  # names in lower case
        self.body = b""

    def json(self):
        return json.loads(self.body)


def request_bytes(path, body=None, method=None, headers=()):
    """A whole request. `body` is bytes, or anything that JSON can say."""
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "Host: stress",
             *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


class Connection:
    """One connection, request after request."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port, limit=1 << 20):
        return cls(*await asyncio.open_connection(HOST, port, limit=limit))

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def head(self):
        """The status line and the headers of the next answer."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken(f"no answer: {error}") from error
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Broken(f"not an answer: {first!r}")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return Reply(int(words[1]), {name.lower(): value for name, value in headers.items()})

    async def pieces(self, reply):
        """The body's pieces as they come."""
        try:
            if "content-length" in reply.headers:
                yield await self.reader.readexactly(int(reply.headers["content-length"]))
                return
            while True:
                size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
                piece = (await self.reader.readexactly(size + 2))[:-2]
                if size == 0:
                    return
                yield piece
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken(f"an answer was cut: {error}") from error

    async def events(self, reply):
        """The events of a stream, parsed; ends with [DONE] and insists that it comes."""
        rest = b""
        done = False
        async for piece in self.pieces(reply):
            rest += piece
            *whole, rest = rest.split(b"\n\n")
            for event in whole:
                if done or not event.startswith(b"data: "):
                    raise Broken(f"not an event, or one after the last: {event!r}")
                if event == b"data: [DONE]":
                    done = True
                else:
                    yield json.loads(event[6:])
        if rest or not done:
            raise Broken(f"a stream ended without [DONE], with {rest!r}")

    async def answer(self):
        """The next answer, whole."""
        reply = await self.head()
        reply.body = b"".join([piece async for piece in self.pieces(reply)])
        return reply

    async def ask(self, path, body=None, **options):
        await self.send(request_bytes(path, body, **options))
        return await self.answer()

    def close(self, reset=False):
        """With a FIN, or with a RST as a killed client's machine sends it."""
        if reset:
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


async def ask(port, path, body=None, **options):
    """One request on a connection of its own."""
    connection = await Connection.open(port)
    try:
        return await connection.ask(path, body, **options)
    finally:
        connection.close()
