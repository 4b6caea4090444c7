// The kernels of the architecture that the program is built for: x86/architecture.cc or arm/architecture.cc, as CMake
// chooses.
#pragma once

#include <vector>

#include "kernels/ops.h"
#include "platform/cpu_features.h"

namespace tiercel::kernels {

// Those beside the scalar ones that this CPU can run, in ascending order.
std::vector<const KernelTable*> VectorKernels(const platform::CpuFeatures& cpu);

// A CPU that can run all of them.
platform::CpuFeatures EveryFeature();

}  // namespace tiercel::kernels
