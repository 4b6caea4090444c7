#!/bin/bash
# make_deb.sh BUILD: the Debian package of a build folder, BUILD/deb/tiercel_VERSION_ARCHITECTURE.deb.
# The same program gives the same bytes: every time in the package is the release's.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
umask 022
rm -rf "$build/deb"
root=$build/deb/root
version=$(sed -nE 's/^project\(tiercel VERSION ([0-9.]+) .*/\1/p' "$source/CMakeLists.txt")
date=$(sed -nE '0,/^## /s/^## .*\(([0-9-]+)\)$/\1/p' "$source/CHANGELOG.md")
export SOURCE_DATE_EPOCH=$(date -u -d "$date" +%s)

for component in tiercel service; do
  DESTDIR=$root cmake --install "$build" --prefix /usr --component $component --strip >/dev/null
done

# Debian's places and forms.
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
gzip -9n "$root"/usr/share/man/man1/*.1
documents=$root/usr/share/doc/tiercel
rm "$documents/LICENSE" "$documents/CHANGELOG.md"
{
  cat "$documents/NOTICE"
  echo
  echo "The licenses' texts: /usr/share/doc/tiercel/third-party.txt.gz; the Apache License's also"
  echo "/usr/share/common-licenses/Apache-2.0."
} >"$documents/copyright"
rm "$documents/NOTICE"
"$source/scripts/licenses.py" --texts | gzip -9n >"$documents/third-party.txt.gz"
maintainer=$(sed -nE 's/^TIERCEL_MAINTAINER:STRING=(.*)/\1/p' "$build/CMakeCache.txt")
"$source/scripts/debian_changelog.py" "$maintainer" | gzip -9n >"$documents/changelog.gz"
(cd "$root" && find etc -type f | sort | sed 's|^|/|') >"$build/deb/conffiles"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

cd "$build"
cpack -G DEB >"$build/deb/cpack.log" || { cat "$build/deb/cpack.log"; exit 1; }
rm -rf "$root" "$build/deb/_CPack_Packages"
ls "$build"/deb/*.deb
