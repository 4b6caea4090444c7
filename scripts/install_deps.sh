#!/bin/bash
# install_deps.sh build|test|check|package|arm: makes sure that what a step needs is there. build: the program.
# test: the unit and HTTP tests, too. check: the sanitizers' and fuzzers' compilers and benchmarks.
# package: Debian's package. arm: the compiler and the emulator for aarch64, on another machine.
# On Debian and Ubuntu it installs what is missing (as root or with sudo), otherwise it prints the
# line to run. Fails while anything is missing.
set -euo pipefail

case "${1:-build}" in
  build) steps="build" ;;
  test) steps="build test" ;;
  check) steps="build test check" ;;
  package) steps="build package" ;;
  arm) steps="build arm" ;;
  *) echo "usage: $0 build|test|check|package|arm" >&2; exit 2 ;;
esac

if [ "$(uname -s)" != Linux ]; then
  echo "$(uname -s): the program needs Linux (x86-64 or aarch64); use a container or a virtual machine." >&2
  exit 1
fi

# What is needed, how to see that it is there, and its package: Debian and Ubuntu, Fedora, Arch.
# A header or command may come from elsewhere, so these are looked for, not the packages.
needed() {
  cat <<'TABLE'
build command:g++                  g++                  gcc-c++             gcc
build command:make                 make                 make                make
build command:cmake                cmake                cmake               cmake
build command:ninja                ninja-build          ninja-build         ninja
build header:boost/beast.hpp       libboost-dev         boost-devel         boost
build header:openssl/ssl.h         libssl-dev           openssl-devel       openssl
build header:curl/curl.h           libcurl4-openssl-dev libcurl-devel       curl
build header:nlohmann/json.hpp     nlohmann-json3-dev   json-devel          nlohmann-json
build header:fmt/format.h          libfmt-dev           fmt-devel           fmt
build header:spdlog/spdlog.h       libspdlog-dev        spdlog-devel        spdlog
build header:tl/expected.hpp       libexpected-dev      expected-devel      tl-expected
build header:yaml-cpp/yaml.h       libyaml-cpp-dev      yaml-cpp-devel      yaml-cpp
test  python:ensurepip,venv        python3-venv         python3             python
test  pyheader:Python.h            python3-dev          python3-devel       python
test  header:gtest/gtest.h         libgtest-dev         gtest-devel         gtest
test  header:gmock/gmock.h         libgmock-dev         gmock-devel         gtest
test  command:mpicc                libopenmpi-dev       openmpi-devel       openmpi
test  command:mpirun               openmpi-bin          openmpi             openmpi
test  command:ccache               ccache               ccache              ccache
test  browser:chromium             chromium             chromium            chromium
check fuzzer:clang++               clang                clang               clang
check fuzzer:runtime               FUZZER_RUNTIME       compiler-rt         compiler-rt
check header:benchmark/benchmark.h libbenchmark-dev     google-benchmark-devel benchmark
package command:dpkg-shlibdeps     dpkg-dev             dpkg-dev            dpkg
package command:python3            python3              python3             python
arm   command:aarch64-linux-gnu-g++ g++-aarch64-linux-gnu gcc-c++-aarch64-linux-gnu aarch64-linux-gnu-gcc
arm   command:qemu-aarch64         qemu-user            qemu-user           qemu-user
TABLE
}

# The newest clang++: Debian's have their version in the name.
clang() { compgen -c clang++ | grep -E '^clang\+\+(-[0-9]+)?$' | sort -t- -k2 -n | tail -1; }

present() {
  local kind=${1%%:*} name=${1#*:}
  case "$kind" in
    command) command -v "$name" ;;
    header) printf '#if !__has_include(<%s>)\n#error none\n#endif\n' "$name" | g++ -E -x c++ - ;;
    python) python3 -c "import $name" ;;
    pyheader) test -f "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/$name" ;;
    # Ubuntu has it as a snap alone, which a container cannot install: there the page's tests skip.
    browser) command -v "$name" || command -v google-chrome || grep -qx ID=ubuntu /etc/os-release ;;
    fuzzer)
      [ -n "$(clang)" ] || return 1
      [ "$name" = clang++ ] || "$(clang)" -fsanitize=fuzzer,address -x c++ -o /dev/null - <<'CODE'
extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }
CODE
      ;;
  esac >/dev/null 2>&1
}

# ---- Rust first: no package manager's line below brings a version that is new enough everywhere.

export PATH="$PATH:$HOME/.cargo/bin"  # rustup's place, which a new shell would have in its PATH
version=$(rustc --version 2>/dev/null | sed -nE 's/rustc ([0-9]+\.[0-9]+).*/\1/p') || true
IFS=. read -r major minor <<<"$version"
if ! command -v cargo >/dev/null || [ -z "$version" ] || { [ "$major" = 1 ] && [ "$minor" -lt 87 ]; }; then
  echo "cargo of Rust 1.87 or newer is needed; found: ${version:-none}. Run:" >&2
  if [ -n "$version" ] && command -v rustup >/dev/null; then
    echo "  rustup update stable" >&2
  else
    echo "  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal" >&2
  fi
  exit 1
fi

# ---- Packages

system=apt
for manager in apt dnf pacman; do
  if command -v "${manager/%apt/apt-get}" >/dev/null; then system=$manager; break; fi
done

missing=()
while read -r step what apt dnf pacman; do
  if [[ " $steps " == *" $step "* ]] && ! present "$what"; then missing+=("${!system}"); fi
done < <(needed)
[ ${#missing[@]} -gt 0 ] || exit 0

# Ubuntu 22.04 has the fuzzers' runtime in another package.
runtime=libclang-rt-dev
apt-cache show "$runtime" >/dev/null 2>&1 || runtime=libclang-common-14-dev
missing=("${missing[@]/FUZZER_RUNTIME/$runtime}")

case "$system" in
  apt) line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" ;;
  dnf) line="dnf install ${missing[*]}" ;;
  pacman) line="pacman -S --needed ${missing[*]}" ;;
esac
if ! command -v apt-get >/dev/null; then
  echo "Something is missing. This line should bring it; nobody has tried it yet on this system:" >&2
  echo "  $line" >&2
  exit 1
fi

if [ "$(id -u)" = 0 ]; then
  sudo=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
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
