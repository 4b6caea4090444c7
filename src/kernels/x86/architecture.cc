#include "kernels/architecture.h"

#include "kernels/x86/amx/table.h"
#include "kernels/x86/avx2/table.h"
#include "kernels/x86/avx512/table.h"

namespace tiercel::kernels {

std::vector<const KernelTable*> VectorKernels(const platform::CpuFeatures& cpu) {
  std::vector<const KernelTable*> tables;
  if (cpu.avx2) tables.push_back(&avx2::Table());
  if (cpu.avx2 && cpu.avx_vnni) tables.push_back(&avx2::VnniTable());
  if (cpu.avx512) tables.push_back(cpu.avx512_vnni ? &avx512::VnniTable() : &avx512::Table());
  if (cpu.avx512_bf16 && cpu.avx512_vnni) {  // no CPU has the first alone
    tables.push_back(cpu.avx512_vbmi ? &avx512::Bf16DotVbmiTable() : &avx512::Bf16DotTable());
    if (cpu.avx512_vbmi && cpu.amx_bf16 && cpu.amx_int8) tables.push_back(&amx::Table());
  }
  return tables;
}

platform::CpuFeatures EveryFeature() {
  platform::CpuFeatures all;
  all.avx2 = all.avx_vnni = all.avx512 = all.avx512_vnni = all.avx512_bf16 = true;
  all.avx512_vbmi = all.amx_bf16 = all.amx_int8 = true;
  return all;
}

}  // namespace tiercel::kernels
