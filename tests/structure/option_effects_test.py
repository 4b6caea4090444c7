#!/usr/bin/env python3
"""Every flag that the option table calls used is read by the code.

The table's other flags are refused or named in the log: src/serving/serve_config_test.cc.
"""
import pathlib
import re
import sys

SRC = pathlib.Path(__file__).resolve().parents[2] / "src"
OPTION = re.compile(r'\{"--([a-z0-9-]+)[^"]*",\s*Kind::\w+,\s*"(?:[^"\\]|\\.)*",\s*Effect::(\w+)')


def main():
    options = [match for path in sorted((SRC / "options").glob("*_options.cc"))
               for match in OPTION.findall(path.read_text(encoding="utf-8"))]
    if len(options) < 200:
        sys.exit(f"found {len(options)} options in {SRC}/options, expected all of vLLM's")
    code = "".join(path.read_text(encoding="utf-8") for folder in ("serving", "tools")
                   for path in (SRC / folder).glob("*.cc") if not path.name.endswith("_test.cc"))
    code += (SRC / "options" / "option_parser.cc").read_text(encoding="utf-8")  # --config
    read = set(re.findall(r'"(?:--)?([a-z0-9-]+)"', code))
    faults = [f"--{name}: used by the table, read nowhere" for name, effect in options
              if effect == "kUsed" and name not in read]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
