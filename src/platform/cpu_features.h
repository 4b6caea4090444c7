// What the CPU and the operating system let a kernel use.
#pragma once

#include <string>

namespace tiercel::platform {

struct CpuFeatures {
  // x86-64
  bool avx2 = false;    // with FMA, F16C and BMI2
  bool avx512 = false;  // F, BW, DQ, VL, CD
  bool avx512_bf16 = false;
  bool avx512_vbmi = false;
  bool avx512_vnni = false;
  bool avx_vnni = false;
  bool amx_bf16 = false;  // amx-tile and amx-bf16, and the kernel grants the tile state
  bool amx_int8 = false;
  // AArch64
  bool neon = false;          // with FP32 FMA and conversions of binary16
  bool neon_dotprod = false;  // SDOT, UDOT
  bool neon_bf16 = false;     // BFDOT, BFMMLA
  bool neon_i8mm = false;     // SMMLA, USMMLA
  std::string vendor;         // "GenuineIntel"
  std::string model_name;     // /proc/cpuinfo's

  // Reads CPUID and asks the operating system (XCR0; arch_prctl for AMX, for the whole process), or reads what it tells
  // of an AArch64 CPU.
  static CpuFeatures Detect();
};

}  // namespace tiercel::platform
