// Element conversions of checkpoint data to BF16 and FP32. Sources are bytes of a mapped file and
// need no alignment.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bf16.h"
#include "tensor/dtype.h"

namespace tiercel::checkpoint {

constexpr bool IsConvertible(DType type) {
  return type == DType::kBF16 || type == DType::kF16 || type == DType::kF32;
}

// The convertible type that files of safetensors call by this name.
std::optional<DType> ConvertibleType(std::string_view name);

// `type` is convertible; `out` has room for `count`.
void Convert(const uint8_t* source, DType type, int64_t count, BF16* out);
void Convert(const uint8_t* source, DType type, int64_t count, float* out);

// Rounds to nearest even, as ToBF16.
void RoundToBF16(const float* source, int64_t count, BF16* out);

}  // namespace tiercel::checkpoint
