// GGUF's tensor types: names, block sizes, and dequantization of the ones that are supported.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace tiercel::checkpoint {

// The numbers are the file format's.
enum class GgufTensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgufBlock {
  int64_t elements = 1;
  int64_t bytes = 0;
};

// "Q4_K"; "type 99" for numbers that have no known name.
std::string GgufTypeName(uint32_t type);
// Error for types that cannot be read here: names the type and the supported ones.
Expected<GgufBlock> GgufBlockOf(uint32_t type);

// Dequantizes `count` elements, a multiple of the block's, from `source` (any alignment).
void Dequantize(GgufTensorType type, const uint8_t* source, int64_t count, float* out);

}  // namespace tiercel::checkpoint
