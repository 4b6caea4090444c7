#!/bin/bash
# Makes build/venv with what the Python tests import; anew only when requirements.txt has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/requirements.txt
stamp=build/venv/requirements.txt
if ! cmp -s "$requirements" "$stamp" 2>/dev/null; then
  rm -rf build/venv
  python3 -m venv build/venv
  build/venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$stamp"
fi
