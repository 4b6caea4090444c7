#!/bin/bash
# arm_tests.sh [ctest's arguments]: builds the program and the tests of kernels and forward pass for aarch64 on another
# machine, and runs them under QEMU (`make arm-test`). That they are right, not how fast. Needs Debian, for its
# packages of the other architecture (arm_sysroot.sh), and rustup.
set -euo pipefail
cd "$(dirname "$0")/.."

tests="topology_test kernels_conformance_test kernels_attention_test kernels_attention_work_test kernels_kv_int8_test kernels_kv_fp8_test
  kernels_kv_reuse_test kernels_elementwise_test kernels_quant_test parity_test batch_invariance_test nan_isolation_test
  w8a8_test block_format_test fp8_test fp8_cache_test sampler_parity_test"

rust=aarch64-unknown-linux-gnu
rustup target list --installed | grep -qx $rust || rustup target add $rust
scripts/arm_sysroot.sh build/aarch64-sysroot
cmake --preset aarch64 >build/configure.log || { cat build/configure.log; exit 1; }
# shellcheck disable=SC2086
cmake --build build/aarch64 -j "${JOBS:-$(nproc)}" --target tiercel $tests
qemu-aarch64 -cpu max -L build/aarch64-sysroot build/aarch64/tiercel collect-env
# Not what takes an emulator hours: many workers, long contexts.
export GTEST_FILTER='-RanksTest.*:LongContextTest.*:LongStepTest.*'
# shellcheck disable=SC2086
ctest --test-dir build/aarch64 --output-on-failure -R "^($(echo $tests | tr ' ' '|'))\$" "$@"
