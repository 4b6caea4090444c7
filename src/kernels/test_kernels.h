// For tests: the kernel tables that this CPU runs.
#pragma once

#include <vector>

#include "kernels/registry.h"

namespace tiercel::kernels {

// Ready to run on the thread of the first call, scalar first.
inline const std::vector<const KernelTable*>& Kernels() {
  static const auto tables = [] {
    auto all = RunnableKernels(platform::CpuFeatures::Detect());
    for (const KernelTable* table : all) table->init_thread();
    return all;
  }();
  return tables;
}

}  // namespace tiercel::kernels
