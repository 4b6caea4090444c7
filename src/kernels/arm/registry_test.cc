#include "kernels/registry.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tiercel::kernels {
namespace {

TEST(Registry, TablesOfKnownCpus) {
  struct Case {
    const char* what;
    bool dotprod, bf16, i8mm;
    std::vector<std::string> tables;
  };
  const Case cases[] = {
      {"Cortex-A72", false, false, false, {"scalar", "neon"}},
      {"Neoverse N1, Apple M1", true, false, false, {"scalar", "neon", "neon_dot"}},
      {"Neoverse V1, N2, V2, Apple M2", true, true, true, {"scalar", "neon", "neon_dot", "neon_bf16", "neon_i8mm"}},
      {"none: without products of bytes", true, true, false, {"scalar", "neon", "neon_dot", "neon_bf16"}},
      {"none: without those of BF16", true, false, true, {"scalar", "neon", "neon_dot"}},
      {"none: BFDOT alone", false, true, false, {"scalar", "neon"}},
  };
  for (const Case& c : cases) {
    platform::CpuFeatures cpu;
    cpu.neon = true;
    cpu.neon_dotprod = c.dotprod;
    cpu.neon_bf16 = c.bf16;
    cpu.neon_i8mm = c.i8mm;
    std::vector<std::string> names;
    for (const KernelTable* table : RunnableKernels(cpu)) names.push_back(table->isa);
    EXPECT_EQ(names, c.tables) << c.what;
    EXPECT_EQ((*SelectKernels(cpu, "", {}))->isa, c.tables.back()) << c.what;
    EXPECT_EQ(RunnableKernels(cpu).size() + MissingKernels(cpu).size(), 5u) << c.what;
    EXPECT_FALSE(SelectKernels(cpu, "avx2", {}).has_value());
  }
}

TEST(Registry, NothingIsMeasured) { EXPECT_TRUE(MeasurePeaks(platform::CpuFeatures::Detect()).empty()); }

}  // namespace
}  // namespace tiercel::kernels
