// Chooses the kernels of this machine once, at start.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"
#include "platform/cpu_features.h"

namespace tiercel::kernels {

// The best table that the CPU runs. `override` ("", or TIERCEL_CPU_ISA's value: scalar, avx2,
// avx512, amx) picks another; a name that is unknown, not built or not runnable here is an error
// that lists those that are.
Expected<const KernelTable*> SelectKernels(const platform::CpuFeatures& cpu,
                                           std::string_view override);

// All tables that this CPU can run, scalar first. For tests and benchmarks.
std::vector<const KernelTable*> RunnableKernels(const platform::CpuFeatures& cpu);

}  // namespace tiercel::kernels
