#include "checkpoint/convert.h"

#include <bit>
#include <cstring>

#include "base/check.h"

namespace tiercel::checkpoint {
namespace {

template <typename T>
T Load(const uint8_t* source, int64_t i) {
  T value;
  std::memcpy(&value, source + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// HalfToFloat and ToBF16 with selects in place of branches, so that the loops vectorize.
inline float HalfBits(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const uint32_t special = 0x7f800000u | ((magnitude & 0x3ffu) << 13);
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  const uint32_t finite = magnitude >= 0x400u ? normal : subnormal;
  const uint32_t bits = magnitude >= 0x7c00u ? special : finite;
  return std::bit_cast<float>(bits | uint32_t{h & 0x8000u} << 16);
}

inline BF16 Round(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const uint32_t quiet = (u >> 16) | 0x40u;
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  return BF16{static_cast<uint16_t>(nan ? quiet : rounded)};
}

}  // namespace

std::optional<DType> ConvertibleType(std::string_view name) {
  if (name == "BF16") return DType::kBF16;
  if (name == "F16") return DType::kF16;
  if (name == "F32") return DType::kF32;
  return std::nullopt;
}

void Convert(const uint8_t* source, DType type, int64_t count, BF16* out) {
  switch (type) {
    case DType::kBF16:
      std::memcpy(out, source, static_cast<size_t>(count) * sizeof(BF16));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < count; ++i) out[i] = Round(HalfBits(Load<uint16_t>(source, i)));
      return;
    case DType::kF32:
      for (int64_t i = 0; i < count; ++i) out[i] = Round(Load<float>(source, i));
      return;
    default:
      CHECK_MSG(false, "{} is not convertible", Name(type));
  }
}

void Convert(const uint8_t* source, DType type, int64_t count, float* out) {
  switch (type) {
    case DType::kBF16:
      for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(BF16{Load<uint16_t>(source, i)});
      return;
    case DType::kF16:
      for (int64_t i = 0; i < count; ++i) out[i] = HalfBits(Load<uint16_t>(source, i));
      return;
    case DType::kF32:
      std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
      return;
    default:
      CHECK_MSG(false, "{} is not convertible", Name(type));
  }
}

void RoundToBF16(const float* source, int64_t count, BF16* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = Round(source[i]);
}

}  // namespace tiercel::checkpoint
