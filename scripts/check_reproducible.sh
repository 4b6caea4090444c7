#!/bin/bash
# check_reproducible.sh: builds the committed sources in two folders and compares the programs and the Debian packages byte by byte.
# What differs stays in the folder that it names.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
export CCACHE_DISABLE=1  # no object of one is the other's
folders=("$work/a" "$work/another/folder")
for folder in "${folders[@]}"; do  # both before the first build, which takes minutes: no commit comes between them
  git clone -q "$source" "$folder"
done
for folder in "${folders[@]}"; do
  make -C "$folder" deb
done
first=$work/a/build/package second=$work/another/folder/build/package
if ! cmp "$first/tiercel" "$second/tiercel" || ! cmp "$first"/deb/*.deb "$second"/deb/*.deb; then
  echo "two builds of the same sources differ: $work" >&2
  exit 1
fi
sha256sum "$first/tiercel" "$first"/deb/*.deb
rm -rf "$work"
