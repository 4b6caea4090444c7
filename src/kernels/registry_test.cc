#include "kernels/registry.h"

#include <gtest/gtest.h>

#include <chrono>

#include "kernels/reference/table.h"

namespace tiercel::kernels {
namespace {

TEST(Registry, OverrideNamesAnIsaOrListsThoseThatRun) {
  const platform::CpuFeatures cpu = platform::CpuFeatures::Detect();
  for (const KernelTable* table : RunnableKernels(cpu)) {
    const auto chosen = SelectKernels(cpu, table->isa, MeasurePeaks(cpu));
    ASSERT_TRUE(chosen.has_value());
    EXPECT_STREQ((*chosen)->isa, table->isa);
  }
  const auto unknown = SelectKernels(cpu, "sse9", {});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message().find("\"sse9\""), std::string::npos);
  EXPECT_NE(unknown.error().message().find("scalar"), std::string::npos);
}

// A product that takes 0.1 us by the clock, of which a neighbor's share, of so many calls, counts less.
template <int kFlop, int kBeside>
int64_t FakePeak(int64_t iterations) {
  static int calls = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(100 * iterations);
  while (std::chrono::steady_clock::now() < end) {
  }
  return iterations * (calls++ < 60 ? kBeside : kFlop);
}

TEST(Registry, ANeighborThatComesAndGoesDoesNotDecide) {
  KernelTable one = reference::Table(), other = reference::Table();
  one.peak_matmul = FakePeak<1000, 900>;
  other.peak_matmul = FakePeak<2000, 1125>;  // 1.25 times the first's while the neighbor is there: too little to be chosen
  const KernelTable* const tables[] = {&one, &other};
  const std::vector<Peak> peaks = MeasurePeaks(tables);
  EXPECT_TRUE(Decided(peaks));
  EXPECT_EQ(ChooseByPeak(peaks), &other);
}

}  // namespace
}  // namespace tiercel::kernels
