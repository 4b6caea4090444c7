#include "kernels/architecture.h"

#include "kernels/arm/neon/table.h"

namespace tiercel::kernels {

std::vector<const KernelTable*> VectorKernels(const platform::CpuFeatures& cpu) {
  std::vector<const KernelTable*> tables;
  if (cpu.neon) tables.push_back(&neon::Table());
  if (cpu.neon && cpu.neon_dotprod) tables.push_back(&neon::DotTable());
  if (cpu.neon && cpu.neon_dotprod && cpu.neon_bf16) tables.push_back(&neon::Bf16DotTable());
  if (cpu.neon && cpu.neon_dotprod && cpu.neon_bf16 && cpu.neon_i8mm) tables.push_back(&neon::MmlaTable());
  return tables;
}

platform::CpuFeatures EveryFeature() {
  platform::CpuFeatures all;
  all.neon = all.neon_dotprod = all.neon_bf16 = all.neon_i8mm = true;
  return all;
}

}  // namespace tiercel::kernels
