#!/bin/bash
# arm_sysroot.sh FOLDER: unpacks the aarch64 libraries that the program and its tests need there, for compilers and
# emulators that run on another machine (cmake/aarch64.cmake). Debian's packages of the release that runs here,
# as its sources name them; nothing is installed, and root is not needed. Anew only when the list has changed.
set -euo pipefail

sysroot=$(mkdir -p "$1" && cd "$1" && pwd)
packages="libc6-dev libstdc++-12-dev libboost-dev libssl-dev libcurl4-openssl-dev nlohmann-json3-dev libfmt-dev
  libspdlog-dev libexpected-dev libyaml-cpp-dev libgtest-dev libgmock-dev"
[ "$(cat "$sysroot/packages" 2>/dev/null)" != "$packages" ] || exit 0

# A system of apt's own: another architecture, and nothing installed.
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
export APT_CONFIG=$apt/apt.conf DEBIAN_FRONTEND=noninteractive
cat >"$APT_CONFIG" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Debug::NoLocking "true";
CONF
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -qq -y --download-only --no-install-recommends $packages >/dev/null

rm -rf "${sysroot:?}"/*
for archive in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$archive" "$sysroot"; done
# Links that begin at the root would lead out of the folder.
find "$sysroot" -type l -lname '/*' | while read -r link; do
  ln -sfnr "$sysroot$(readlink "$link")" "$link"
done
echo "$packages" >"$sysroot/packages"
