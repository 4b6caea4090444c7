#!/bin/bash
# Builds the wheel of the Python package into build/wheels, stripped, with the libraries that it needs beyond the C
# library in it. Its name says the oldest C library that it runs with. PYTHON: for which interpreter, python3 unless set;
# from 3.12 on the wheel is for all that follow. GLIBC: the oldest C library to run with, as in GLIBC=2.28; this system's
# unless set.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/wheel-venv-$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
scripts/make_venv.sh "$venv" python/wheel_requirements.txt
export PATH=$PWD/$venv/bin:$PATH
rm -rf build/wheels
mkdir -p build/wheels/built
if [ -n "${GLIBC:-}" ]; then
  scripts/portable.sh "$GLIBC" "build/glibc-$GLIBC"
  export CMAKE_ARGS="-C $PWD/build/glibc-$GLIBC/cache.cmake" SKBUILD_BUILD_DIR=build/wheel-$GLIBC
fi
python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheels/built .
auditwheel repair --wheel-dir build/wheels build/wheels/built/tiercel-*.whl >build/wheels/auditwheel.log 2>&1 ||
  { cat build/wheels/auditwheel.log; exit 1; }
wheel=$(ls build/wheels/tiercel-*.whl)
size=$(stat -c %s "$wheel")
echo "$wheel: $size bytes"
[ "$size" -lt 25000000 ] || { echo "$wheel: found $size bytes, expected less than 25000000" >&2; exit 1; }
