#!/bin/bash
# portable.sh GLIBC FOLDER: what it takes to link programs that run with this C library (2.28, say) and newer ones, on a system
# that may have a newer one: the old C library's symbols to link with, libcurl as a static library, and FOLDER/cache.cmake,
# which has CMake use both (cmake -C). The symbols come with Zig's compiler, a package of PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
glibc=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
if [ -f "$folder/cache.cmake" ]; then exit 0; fi

# ---- The C library's symbols: Zig makes them when it links a program.
scripts/make_venv.sh build/zig-venv scripts/portable_requirements.txt
export ZIG_GLOBAL_CACHE_DIR=$folder/zig ZIG_LOCAL_CACHE_DIR=$folder/zig
zig() { build/zig-venv/bin/python -m ziglang "$@"; }
echo 'int main(void) { return 0; }' >"$folder/empty.c"
for kind in -pie -no-pie; do
  zig cc -target "x86_64-linux-gnu.$glibc" -fPIE $kind "$folder/empty.c" -o "$folder/empty"
done
mkdir -p "$folder/lib"
find "$folder/zig/o" \( -name 'lib*.so.*' -o -name libc_nonshared.a -o -name crt1.o -o -name Scrt1.o \) -exec cp {} "$folder/lib/" \;
for name in crti.o crtn.o; do cp "$(gcc -print-file-name=$name)" "$folder/lib/"; done
for library in "$folder"/lib/lib*.so.*; do
  name=${library##*/}
  if [ "$name" != libc.so.6 ]; then ln -sf "$name" "$folder/lib/${name%.so.*}.so"; fi
done
gcc -c -O2 -fPIC -Wall -Werror cmake/old_glibc.c -o "$folder/old_glibc.o"
ar rcs "$folder/lib/libold_glibc.a" "$folder/old_glibc.o"
echo "GROUP(libc.so.6 libc_nonshared.a libold_glibc.a libdl.so.2 AS_NEEDED(/lib64/ld-linux-x86-64.so.2))" >"$folder/lib/libc.so"

# ---- libcurl, with this system's OpenSSL
libraries=$(dirname "$(gcc -print-file-name=libcrypto.a)")
OPENSSL_STATIC=1 OPENSSL_LIB_DIR=$libraries OPENSSL_INCLUDE_DIR=/usr/include \
  cargo build --locked --quiet --release --manifest-path rust/static_curl/Cargo.toml --target-dir "$folder/curl"
curl=$(dirname "$(find "$folder/curl/release/build" -path '*/out/include/curl/curl.h' | head -1)")/../..

# This system's libgcc_s and libz ask for its C library; those of the systems that run the program do not.
flags="-B $folder/lib -L $folder/lib -static-libstdc++ -Wl,--as-needed,--allow-shlib-undefined"
cat >"$folder/cache.cmake" <<CACHE
set(TIERCEL_PORTABLE ON CACHE BOOL "")
set(OPENSSL_USE_STATIC_LIBS ON CACHE BOOL "")
set(CURL_INCLUDE_DIR "$(realpath "$curl/include")" CACHE PATH "")
set(CURL_LIBRARY "$(realpath "$curl/build/libcurl.a")" CACHE FILEPATH "")
foreach(kind EXE SHARED MODULE)
  set(CMAKE_\${kind}_LINKER_FLAGS "$flags" CACHE STRING "")
endforeach()
set(CMAKE_CXX_STANDARD_LIBRARIES "-lz -lpthread -ldl -lm" CACHE STRING "")
CACHE
