#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "platform/cpu_features.h"
#include "platform/sysfs.h"

namespace tiercel::platform {

// Linux, Documentation/arch/arm64/elf_hwcaps.rst.
CpuFeatures CpuFeatures::Detect() {
  CpuFeatures features;
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  features.neon = (first & HWCAP_ASIMD) != 0;
  features.neon_dotprod = features.neon && (first & HWCAP_ASIMDDP) != 0;
  features.neon_bf16 = features.neon && (second & HWCAP2_BF16) != 0;
  features.neon_i8mm = features.neon && (second & HWCAP2_I8MM) != 0;
  // AArch64's /proc/cpuinfo has numbers for names: 0x41 is Arm, 0xd40 its Neoverse V1.
  const std::string info = ReadTextFile("/proc/cpuinfo").value_or("");
  features.vendor = "implementer " + FindTextField(info, "CPU implementer").value_or("unknown");
  features.model_name = "part " + FindTextField(info, "CPU part").value_or("unknown");
  return features;
}

}  // namespace tiercel::platform
