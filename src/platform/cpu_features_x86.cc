#include "platform/cpu_features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

struct CpuidRegisters {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters Cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);  // zeros beyond the last leaf
  return r;
}

constexpr bool Bit(uint64_t value, int bit) { return (value >> bit & 1) != 0; }

// Which register states the operating system saves (XGETBV of XCR0; needs OSXSAVE).
uint64_t SavedStates() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Linux grants the 8 KiB of AMX tile data only on demand, for the process and its later threads.
bool RequestTileData() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

// Intel's Software Developer's Manual, volume 2A, CPUID: leaves 1 and 7; volume 1, 13.3 for XCR0.
void DetectX86(CpuFeatures& f) {
  const CpuidRegisters vendor = Cpuid(0, 0);
  char name[12];
  std::memcpy(name, &vendor.ebx, 4);
  std::memcpy(name + 4, &vendor.edx, 4);
  std::memcpy(name + 8, &vendor.ecx, 4);
  f.vendor.assign(name, sizeof(name));

  const CpuidRegisters leaf1 = Cpuid(1, 0);
  const CpuidRegisters leaf7 = Cpuid(7, 0);
  const CpuidRegisters leaf7_1 = leaf7.eax >= 1 ? Cpuid(7, 1) : CpuidRegisters{};
  if (!Bit(leaf1.ecx, 27)) return;  // OSXSAVE
  const uint64_t saved = SavedStates();
  constexpr uint64_t kAvxStates = 0x6;       // XMM, YMM
  constexpr uint64_t kAvx512States = 0xe6;   // and opmask, upper ZMM, ZMM 16 … 31
  constexpr uint64_t kTileStates = 0x60000;  // TILECFG, TILEDATA

  const bool ymm = (saved & kAvxStates) == kAvxStates && Bit(leaf1.ecx, 28);
  f.avx2 =
      ymm && Bit(leaf7.ebx, 5) && Bit(leaf7.ebx, 8) && Bit(leaf1.ecx, 12) && Bit(leaf1.ecx, 29);
  f.avx_vnni = f.avx2 && Bit(leaf7_1.eax, 4);
  f.avx512 = f.avx2 && (saved & kAvx512States) == kAvx512States && Bit(leaf7.ebx, 16) &&
             Bit(leaf7.ebx, 17) && Bit(leaf7.ebx, 28) && Bit(leaf7.ebx, 30) && Bit(leaf7.ebx, 31);
  f.avx512_vnni = f.avx512 && Bit(leaf7.ecx, 11);
  f.avx512_bf16 = f.avx512 && Bit(leaf7_1.eax, 5);
  f.avx512_vbmi = f.avx512 && Bit(leaf7.ecx, 1);
  if (f.avx512 && Bit(leaf7.edx, 24) && (saved & kTileStates) == kTileStates && RequestTileData()) {
    f.amx_bf16 = Bit(leaf7.edx, 22);
    f.amx_int8 = Bit(leaf7.edx, 25);
  }
}

}  // namespace

CpuFeatures CpuFeatures::Detect() {
  CpuFeatures features;
  DetectX86(features);
  features.model_name = FindTextField(ReadTextFile("/proc/cpuinfo").value_or(""), "model name").value_or("unknown");
  return features;
}

}  // namespace tiercel::platform
