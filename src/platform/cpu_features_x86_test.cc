#include "platform/cpu_features.h"

#include <gtest/gtest.h>

#include <string>

#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

TEST(CpuFeatures, AreConsistent) {
  const CpuFeatures f = CpuFeatures::Detect();
  EXPECT_FALSE(f.model_name.empty());
  if (f.avx512_bf16 || f.avx512_vbmi || f.avx512_vnni || f.amx_bf16) {
    EXPECT_TRUE(f.avx512);
  }
  if (f.avx512) {
    EXPECT_TRUE(f.avx2);
  }
  // The kernel's own list agrees.
  const std::string flags = ReadTextFile("/proc/cpuinfo").value_or("");
  EXPECT_EQ(f.avx2, flags.find(" avx2 ") != std::string::npos);
  EXPECT_EQ(f.avx512_vbmi, flags.find(" avx512vbmi ") != std::string::npos);
  EXPECT_EQ(f.avx512_bf16, flags.find(" avx512_bf16 ") != std::string::npos);
}

}  // namespace
}  // namespace tiercel::platform
