// Chooses the kernels of this machine once, at start.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"
#include "platform/cpu_features.h"

namespace tiercel::kernels {

// All tables that this CPU can run, in ascending order, scalar first.
std::vector<const KernelTable*> RunnableKernels(const platform::CpuFeatures& cpu);
// The others that are built.
std::vector<const KernelTable*> MissingKernels(const platform::CpuFeatures& cpu);

// What one core does by the instruction that multiplies BF16 in a table.
struct Peak {
  const KernelTable* kernels = nullptr;
  double gflop_per_s = 0;
};

// Of the tables between which only a measure can tell: AVX-512's FP32 FMA, vdpbf16ps and the tile
// products, as far as the CPU has them, in this order. Takes less than a millisecond where nothing else runs, up to
// 30 ms beside busy neighbors. Empty without AVX-512: there is nothing to choose.
std::vector<Peak> MeasurePeaks(const platform::CpuFeatures& cpu);
std::vector<Peak> MeasurePeaks(std::span<const KernelTable* const> tables);

// Those of this CPU, measured once in a process: all of its models run by the same kernels.
const std::vector<Peak>& MachinePeaks();

// The first of `peaks`, not empty, unless a later one is decisively faster. The instructions differ by
// factors of 2 to 16 where they differ, a measure beside busy neighbors by less than this asks for:
// the choice, and with it the bits of the results, is the same at each start.
inline constexpr double kDecisive = 1.3;
const KernelTable* ChooseByPeak(std::span<const Peak> peaks);
// Whether the others are about as fast as the chosen one, or so much slower or faster that a disturbed measure cannot have
// been the cause. (Of Zen 4's 2.0 a neighbor on the core's other hardware thread leaves 1.25.)
bool Decided(std::span<const Peak> peaks);

// The table to use: the one that `override` names ("", or TIERCEL_CPU_ISA's value: scalar, avx2,
// avx512, avx512_bf16, amx; neon, neon_dot, neon_bf16, neon_i8mm), else the one that `peaks` decide for, else the last that
// runs. A name that is unknown, not built or not runnable here is an error that lists those that are.
Expected<const KernelTable*> SelectKernels(const platform::CpuFeatures& cpu,
                                           std::string_view override, std::span<const Peak> peaks);

}  // namespace tiercel::kernels
