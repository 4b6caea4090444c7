#!/bin/bash
# check_reproducible.sh: builds the committed sources in two folders and compares the programs and the Debian packages byte by byte.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CCACHE_DISABLE=1  # no object of one is the other's
for folder in "$work/a" "$work/another/folder"; do
  git clone -q "$source" "$folder"
  make -C "$folder" deb
done
cmp "$work/a/build/package/tiercel" "$work/another/folder/build/package/tiercel"
cmp "$work"/a/build/package/deb/*.deb "$work"/another/folder/build/package/deb/*.deb
sha256sum "$work/a/build/package/tiercel" "$work"/a/build/package/deb/*.deb
