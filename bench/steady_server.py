"""An OpenAI server that computes nothing and answers at fixed times, to try benchmark clients on.

  python bench/steady_server.py --port 8000 --ttft-ms 100 --itl-ms 20

The first token of an answer comes TTFT after its request, each further one ITL after the one before,
however many run. Every word of a prompt is a token.
"""

import argparse
import asyncio
import json


async def answer(reader, writer, args):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().lower().split("\r\n")
            length = next((int(x.split(":")[1]) for x in lines if x.startswith("content-length:")), 0)
            raw = await reader.readexactly(length)
            if not lines[0].startswith("post /v1/completions"):
                writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")
                continue
            body = json.loads(raw)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

            def send(event):
                data = b"data: " + event.encode() + b"\n\n"
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))

            loop = asyncio.get_running_loop()
            due = loop.time() + args.ttft_ms / 1e3
            for _ in range(body["max_tokens"]):
                await asyncio.sleep(due - loop.time())
                send('{"choices":[{"index":0,"text":" word"}]}')
                due += args.itl_ms / 1e3
            send(json.dumps({"choices": [], "usage": {"prompt_tokens": len(body["prompt"].split()),
                                                      "completion_tokens": body["max_tokens"]}}))
            send("[DONE]")
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--ttft-ms", type=float, default=100)
    parser.add_argument("--itl-ms", type=float, default=20)
    args = parser.parse_args()
    server = await asyncio.start_server(lambda r, w: answer(r, w, args), "127.0.0.1", args.port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
