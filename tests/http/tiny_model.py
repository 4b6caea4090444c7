"""Which program the HTTP tests start, and on what model."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TIERCEL_BINARY") or os.environ.get("TIERCEL_BIN") or str(
    ROOT / "build" / "release" / "tiercel")
MODEL = ROOT / "tests" / "data" / "tiny-qwen3"
NAME = "tiny"
