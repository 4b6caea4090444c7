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
  if (f.neon_bf16) {
    EXPECT_TRUE(f.neon_dotprod);  // no CPU has the first alone
  }
  EXPECT_EQ(f.neon_i8mm, f.neon_bf16);  // of Armv8.6 both
}

}  // namespace
}  // namespace tiercel::platform
