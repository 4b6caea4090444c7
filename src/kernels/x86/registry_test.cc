#include "kernels/registry.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace tiercel::kernels {
namespace {

TEST(Registry, TablesOfKnownCpus) {
  platform::CpuFeatures cpu;
  const auto last = [&] { return *SelectKernels(cpu, "", {}); };
  EXPECT_STREQ(last()->isa, "scalar");
  EXPECT_FALSE(SelectKernels(cpu, "avx2", {}).has_value());
  EXPECT_EQ(RunnableKernels(cpu).size() + MissingKernels(cpu).size(), 6u);
  cpu.avx2 = true;
  EXPECT_STREQ(last()->isa, "avx2");
  const KernelTable* by_madd = last();
  cpu.avx_vnni = true;
  EXPECT_STREQ(last()->isa, "avx2");
  EXPECT_NE(last()->quant_matmul, by_madd->quant_matmul);
  cpu.avx512 = true;
  EXPECT_STREQ(last()->isa, "avx512");
  EXPECT_EQ(last()->quant_matmul, by_madd->quant_matmul);
  cpu.avx512_vnni = true;
  EXPECT_NE(last()->quant_matmul, by_madd->quant_matmul);
  cpu.avx512_bf16 = true;
  EXPECT_STREQ(last()->isa, "avx512_bf16");
  const KernelTable* by_fma = last();
  cpu.amx_bf16 = cpu.amx_int8 = true;
  EXPECT_EQ(last(), by_fma);  // all CPUs with tiles have AVX512-VBMI
  cpu.amx_bf16 = cpu.amx_int8 = false;
  cpu.avx512_vbmi = true;
  EXPECT_STREQ(last()->isa, "avx512_bf16");
  EXPECT_NE(last()->attention, by_fma->attention);
  EXPECT_NE(last()->fp8_matmul, by_fma->fp8_matmul);
  cpu.amx_bf16 = true;
  EXPECT_STREQ(last()->isa, "avx512_bf16");  // tiles of both types or none
  cpu.amx_int8 = true;
  EXPECT_STREQ(last()->isa, "amx");
  EXPECT_TRUE(MissingKernels(cpu).empty());
  std::vector<std::string> names;
  for (const KernelTable* table : RunnableKernels(cpu)) names.push_back(table->isa);
  EXPECT_EQ(names, (std::vector<std::string>{"scalar", "avx2", "avx2", "avx512", "avx512_bf16",
                                             "amx"}));
}

// Rates of one core in GFLOP/s: FP32 FMA, vdpbf16ps and, where there is one, the tile product.
TEST(Registry, PeaksDecide) {
  platform::CpuFeatures cpu;
  cpu.avx2 = cpu.avx512 = cpu.avx512_vnni = cpu.avx512_bf16 = cpu.avx512_vbmi = true;
  cpu.amx_bf16 = cpu.amx_int8 = true;
  struct Case {
    const char* what;
    std::vector<double> rates;
    const char* chosen;
  };
  const Case cases[] = {
      {"Sapphire Rapids", {219, 113, 1750}, "amx"},
      {"Sapphire Rapids, AMX masked", {219, 113}, "avx512"},
      {"Zen 4", {165, 330}, "avx512_bf16"},
      {"Zen 4, disturbed", {165, 260}, "avx512_bf16"},
      {"Zen 4, disturbed by the other hardware thread", {150, 188}, "avx512"},
      {"Cooper Lake", {200, 200}, "avx512"},
      {"Cooper Lake, disturbed", {170, 200}, "avx512"},
      {"an emulated tile unit", {200, 100, 20}, "avx512"},
      {"AVX-512 alone", {200}, "avx512"},
  };
  for (const Case& c : cases) {
    std::vector<Peak> peaks;
    const std::vector<const KernelTable*> tables = RunnableKernels(cpu);
    for (size_t i = 0; i < c.rates.size(); ++i) peaks.push_back({tables[2 + i], c.rates[i]});
    EXPECT_STREQ((*SelectKernels(cpu, "", peaks))->isa, c.chosen) << c.what;
    EXPECT_EQ(Decided(peaks), std::string_view(c.what).find("disturbed") == std::string_view::npos) << c.what;
    EXPECT_STREQ((*SelectKernels(cpu, "avx512", peaks))->isa, "avx512");
  }
}

TEST(Registry, PeaksAreThoseOfTheTablesThatRun) {
  const platform::CpuFeatures cpu = platform::CpuFeatures::Detect();
  const std::vector<Peak> peaks = MeasurePeaks(cpu);
  if (!cpu.avx512) {
    EXPECT_TRUE(peaks.empty());
    GTEST_SKIP() << "this CPU has no AVX-512: nothing to choose";
  }
  const std::vector<const KernelTable*> tables = RunnableKernels(cpu);
  ASSERT_LE(peaks.size(), tables.size());
  for (size_t i = 0; i < peaks.size(); ++i) {
    EXPECT_EQ(peaks[i].kernels, tables[tables.size() - peaks.size() + i]);
    EXPECT_GT(peaks[i].gflop_per_s, 0);
  }
}

}  // namespace
}  // namespace tiercel::kernels
