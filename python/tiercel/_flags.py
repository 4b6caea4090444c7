"""Engine arguments as flags of the one option table that `tiercel serve` has."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import sysconfig
from enum import Enum
from pathlib import Path
from typing import Any

from . import _native

#: Of the group that concerns a server, those that shape requests as well.
_OF_REQUESTS = {"chat-template", "chat-template-content-format", "default-chat-template-kwargs",
                "split-special-tokens", "trust-request-chat-template"}


def engine_arguments() -> dict[str, str]:
    """{name with underscores: kind} of every flag that is an argument of LLM()."""
    return {name.replace("-", "_"): kind for name, (kind, group) in _native.options().items()
            if group != "Frontend" or name in _OF_REQUESTS}


def add_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """All engine arguments as flags of `parser`, spelled with '-' or with '_'; None unless given."""
    for name, kind in engine_arguments().items():
        names = sorted({f"--{name.replace('_', '-')}", f"--{name}"})
        if kind == "switch":
            parser.add_argument(*names, dest=name, action=argparse.BooleanOptionalAction, default=None)
        elif kind == "flag":
            parser.add_argument(*names, dest=name, action="store_true", default=None)
        else:
            parser.add_argument(*names, dest=name, nargs="+" if kind == "words" else None, default=None)
    return parser


def _plain(value: Any) -> Any:
    """Objects of configurations as what JSON knows."""
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, (str, int)) else value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {k: v for k, v in dataclasses.asdict(value).items() if v is not None}
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "torch":  # a dtype
        return str(value).removeprefix("torch.")
    return value


def _flag(name: str, value: Any) -> list[str]:
    """As two words, since one with a blank in it is no flag; a value that looks like one stands behind '='."""
    text = str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=_plain)


def to_words(model: str, arguments: dict[str, Any]) -> list[str]:
    """The command line of an engine. None leaves a flag away; a name that is no flag is a TypeError."""
    known = engine_arguments()
    words = _flag("model", model)
    for name, value in arguments.items():
        kind = known.get(name)
        if kind is None:
            raise TypeError(f"LLM() got an unexpected keyword argument '{name}'")
        flag = name.replace("_", "-")
        value = _plain(value)
        if value is None:
            continue
        if kind in ("switch", "flag"):
            if value:
                words.append(f"--{flag}")
            elif kind == "switch":
                words.append(f"--no-{flag}")
        elif kind == "words":
            items = [value] if isinstance(value, (str, int)) else list(value)
            if items:
                words += [f"--{flag}", *map(str, items)]
        elif kind == "json" and flag == "compilation-config" and isinstance(value, int):
            words += _flag(flag, json.dumps({"mode": value}))
        elif kind in ("json", "json_list"):
            words += _flag(flag, _json(value))
        else:
            words += _flag(flag, value)
    return words


def find_program() -> str:
    """The tiercel program: of this package, or one that is installed."""
    beside = Path(__file__).parent / "bin" / "tiercel"
    candidates = (os.environ.get("TIERCEL_BINARY"), beside,
                  Path(sysconfig.get_path("scripts")) / "tiercel", shutil.which("tiercel"))
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return str(candidate)
    raise RuntimeError("the program tiercel, which renders chat templates, is not installed")


def main() -> None:
    """The program under its name, for scripts."""
    program = find_program()
    os.execv(program, [program, *sys.argv[1:]])
