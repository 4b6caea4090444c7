#include "kernels/registry.h"

#include <string>

#include "kernels/reference/table.h"
#include "kernels/x86/amx/table.h"
#include "kernels/x86/avx2/table.h"
#include "kernels/x86/avx512/table.h"

namespace tiercel::kernels {
namespace {

// vdpbf16ps or FP32 FMA on unpacked pairs? AMD's Zen 4 and 5 issue vdpbf16ps at the rate of FMA
// with twice the products: twice as fast. Intel's cores with AMX run it at a quarter of that rate
// (measured: 113 GFLOP/s a core against 219 by FMA), because AMX is meant there; so does Cooper
// Lake issue it on one port only, where it at best equals FMA without the unpacking. So: on Intel
// only where there is no AMX to point to the slow unit.
bool Bf16DotIsFast(const platform::CpuFeatures& cpu) {
  if (!cpu.avx512_bf16 || !cpu.avx512_vnni) return false;  // no CPU has the first alone
  return cpu.vendor != "GenuineIntel" || !cpu.amx_bf16;
}

}  // namespace

std::vector<const KernelTable*> RunnableKernels(const platform::CpuFeatures& cpu) {
  std::vector<const KernelTable*> tables = {&reference::Table()};
  if (cpu.avx2) tables.push_back(&avx2::Table());
  if (cpu.avx2 && cpu.avx_vnni) tables.push_back(&avx2::VnniTable());
  if (cpu.avx512) {
    // The better of the two last, for SelectKernels.
    const bool bf16_dot_last = Bf16DotIsFast(cpu);
    if (cpu.avx512_bf16 && cpu.avx512_vnni && !bf16_dot_last) {
      tables.push_back(&avx512::Bf16DotTable());
    }
    tables.push_back(cpu.avx512_vnni ? &avx512::VnniTable() : &avx512::Table());
    if (bf16_dot_last) tables.push_back(&avx512::Bf16DotTable());
  }
  if (cpu.avx512_bf16 && cpu.avx512_vnni && cpu.amx_bf16 && cpu.amx_int8) {
    tables.push_back(&amx::Table());
  }
  return tables;
}

Expected<const KernelTable*> SelectKernels(const platform::CpuFeatures& cpu,
                                           std::string_view override) {
  const std::vector<const KernelTable*> tables = RunnableKernels(cpu);
  if (override.empty()) return tables.back();
  std::string names;
  const KernelTable* chosen = nullptr;
  for (const KernelTable* table : tables) {  // ascending: the last of a name is the best of it
    if (table->isa == override) chosen = table;
    if (names.ends_with(table->isa)) continue;
    names += names.empty() ? "" : ", ";
    names += table->isa;
  }
  if (chosen != nullptr) return chosen;
  return Unexpected(FailedPrecondition(
      "TIERCEL_CPU_ISA: found \"{}\", expected one that this CPU runs: {}", override, names));
}

}  // namespace tiercel::kernels
