// libFuzzer: the header of a safetensors file, and reads of what it was found to hold.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "fuzz/one_line.h"
#include "model/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  const auto header = model::ParseSafetensorsHeader({data, size}, "fuzz.safetensors");
  fuzz::ExpectOneLineError(header);
  if (!header) return 0;
  uint64_t sum = 0;
  for (const auto& [name, entry] : *header) {
    CHECK_LE(entry.begin, entry.end);
    CHECK_LE(entry.end, size);
    for (uint64_t i = entry.begin; i < entry.end; ++i) sum += data[i];  // AddressSanitizer looks on
  }
  volatile uint64_t sink = sum;
  (void)sink;
  return 0;
}
