#include <gtest/gtest.h>

#include "platform/cpu_features.h"

namespace tiercel::platform {
namespace {

// Of every AArch64 CPU, and of the one that tests are emulated on (cmake/aarch64.cmake). An emulator's /proc/cpuinfo is its
// machine's: nothing to compare with.
TEST(CpuFeatures, AreConsistent) {
  const CpuFeatures f = CpuFeatures::Detect();
  EXPECT_TRUE(f.neon);
  EXPECT_FALSE(f.model_name.empty());
  EXPECT_FALSE(f.avx2);
  if (f.neon_bf16 || f.neon_i8mm) {
    EXPECT_TRUE(f.neon_dotprod);  // no CPU has one of the first alone
  }
}

}  // namespace
}  // namespace tiercel::platform
