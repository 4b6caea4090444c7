#!/bin/bash
# install_deps.sh build|check: makes sure that the packages of a step are there. Installs them when
# it may (root, or sudo); otherwise prints the one line to run.
set -euo pipefail

build=(g++ make cmake ninja-build pkg-config python3 python3-venv libboost1.81-dev libssl-dev
       nlohmann-json3-dev libfmt-dev libspdlog-dev libexpected-dev libyaml-cpp-dev zlib1g-dev
       libgtest-dev libgmock-dev ccache)
check=(clang-14 libclang-rt-14-dev lld-14 libbenchmark-dev)

case "${1:-build}" in
  build) wanted=("${build[@]}") ;;
  check) wanted=("${check[@]}") ;;
  *) echo "usage: $0 build|check" >&2; exit 2 ;;
esac

# Whether a package is there, or what it is for: a compiler or a Python may come from elsewhere.
present() {
  case "$1" in
    g++|make|cmake|python3|pkg-config) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
  esac
}

if ! command -v dpkg-query >/dev/null; then
  echo "note: not a Debian system; these are needed: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  present "$package" || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then
    sudo=sudo
  else
    echo "Some packages are missing. Run this as root, then try again:" >&2
    echo "  $line" >&2
    exit 1
  fi
  echo "Installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust 1.87 or newer (https://rustup.rs)" >&2
  exit 1
fi
version=$(rustc --version | sed -E 's/rustc ([0-9]+)\.([0-9]+).*/\1 \2/')
read -r major minor <<<"$version"
if [ "$major" -eq 1 ] && [ "$minor" -lt 87 ]; then
  echo "rustc is $major.$minor; 1.87 or newer is needed (rustup update)" >&2
  exit 1
fi
