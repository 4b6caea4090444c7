#!/bin/bash
# Builds the wheel of the Python package into build/wheels, stripped, and prints its size.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/wheels
python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheels .
wheel=$(ls -t build/wheels/tiercel-*.whl | head -1)
if command -v auditwheel >/dev/null; then
  # What Debian's libraries bring beyond the C library goes into the wheel.
  auditwheel repair --wheel-dir build/wheels/portable "$wheel"
  wheel=$(ls -t build/wheels/portable/tiercel-*.whl | head -1)
fi
echo "$wheel: $(stat -c %s "$wheel") bytes"
