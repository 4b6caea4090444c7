// The sampler's row operators: the portable ones and those of every ISA that this CPU runs.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "kernels/registry.h"
#include "sampling/vector_ops.h"

namespace tiercel::parity {

struct NamedOps {
  std::string name;
  sampling::VectorOps ops;
};

inline void PrintTo(const NamedOps& ops, std::ostream* out) { *out << ops.name; }

inline std::vector<NamedOps> AllSamplerOps() {
  std::vector<NamedOps> all = {{"portable", sampling::PortableVectorOps()}};
  for (const kernels::KernelTable* table :
       kernels::RunnableKernels(platform::CpuFeatures::Detect())) {
    if (all.back().name == table->isa) continue;  // differs in its matmuls only
    const kernels::RowOps& rows = table->rows;
    all.push_back({table->isa, {rows.argmax, rows.sum_exp, rows.collect_at_least,
                                rows.count_at_least}});
  }
  return all;
}

}  // namespace tiercel::parity
