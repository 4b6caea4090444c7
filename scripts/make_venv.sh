#!/bin/bash
# make_venv.sh [FOLDER REQUIREMENTS]: makes a virtual environment, build/venv with what the Python tests import unless
# told otherwise; anew only when the requirements have changed. PYTHON: of which interpreter, python3 unless set.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-build/venv}
requirements=${2:-tests/requirements.txt}
stamp=$venv/requirements.txt
if ! cmp -s "$requirements" "$stamp" 2>/dev/null; then
  rm -rf "$venv"
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$stamp"
fi
