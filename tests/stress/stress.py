#!/usr/bin/env python3
"""stress.py [part …] [--short] [--requests N]: what the program bears, tried on the real program
with a tiny model; it needs nothing but Python. --short is the form for every change, a minute
altogether. TIERCEL_BINARY names another program than build/release/tiercel."""

import argparse
import asyncio
import sys
import time

import bodies
import connections
import endings
import soak
from client import Broken
from program import Failed, raise_open_files


def parts(arguments):
    short = arguments.short
    requests = arguments.requests or (1 << 40 if short else 50_000)
    return {
        "soak": lambda: soak.run(requests, seconds=25 if short else 3600, seed=arguments.seed),
        "bodies": lambda: bodies.run(short),
        "connections": lambda: (connections.run(500, 100, 100) if short
                                else connections.run(10_000, 2_000, 1_000)),
        "endings": lambda: endings.run(short),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    known = parts(arguments)
    unknown = set(arguments.parts) - set(known)
    if unknown:
        parser.error(f"{unknown.pop()}: expected one of {', '.join(known)}")
    raise_open_files(1 << 20)
    failed = []
    for name in arguments.parts or known:
        print(f"{name}:", flush=True)
        start = time.monotonic()
        try:
            asyncio.run(known[name]())
        except (Failed, Broken, OSError, asyncio.TimeoutError) as error:
            print(f"  FAILED: {str(error)[:4000] or repr(error)}")
            failed.append(name)
        print(f"  {time.monotonic() - start:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
