// For tests: the kernel tables that this CPU runs.
#pragma once

#include <cstdio>
#include <vector>

#include "kernels/registry.h"

namespace tiercel::kernels {

// Ready to run on the thread of the first call, scalar first. Says once which ones a test leaves out.
inline const std::vector<const KernelTable*>& Kernels() {
  static const auto tables = [] {
    const platform::CpuFeatures cpu = platform::CpuFeatures::Detect();
    for (const KernelTable* table : MissingKernels(cpu)) {
      std::printf("[  SKIPPED ] not on this CPU: %s\n", table->detail);
    }
    auto all = RunnableKernels(cpu);
    for (const KernelTable* table : all) table->init_thread();
    return all;
  }();
  return tables;
}

// The scalar kernels compute each row by itself, and take most of a test's time: one way to cut a prompt shows it.
inline bool TakesRowsTogether(const KernelTable& kernels) { return &kernels != Kernels()[0]; }

}  // namespace tiercel::kernels
