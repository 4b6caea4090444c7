#include "checkpoint/gguf_types.h"

#include <array>
#include <cstring>
#include <string_view>

#include "base/bf16.h"
#include "base/check.h"
#include "checkpoint/convert.h"

namespace tiercel::checkpoint {
namespace {

struct TypeInfo {
  uint32_t type;
  std::string_view name;
  GgufBlock block;  // bytes 0: known by name only
};

constexpr std::array<TypeInfo, 34> kTypes = {{
    {0, "F32", {1, 4}},       {1, "F16", {1, 2}},       {2, "Q4_0", {32, 18}},
    {3, "Q4_1", {32, 20}},    {6, "Q5_0", {32, 22}},    {7, "Q5_1", {32, 24}},
    {8, "Q8_0", {32, 34}},    {9, "Q8_1", {}},          {10, "Q2_K", {}},
    {11, "Q3_K", {}},         {12, "Q4_K", {256, 144}}, {13, "Q5_K", {256, 176}},
    {14, "Q6_K", {256, 210}}, {15, "Q8_K", {}},         {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},       {18, "IQ3_XXS", {}},      {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},       {21, "IQ3_S", {}},        {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},       {24, "I8", {}},           {25, "I16", {}},
    {26, "I32", {}},          {27, "I64", {}},          {28, "F64", {}},
    {29, "IQ1_M", {}},        {30, "BF16", {1, 2}},     {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},        {39, "MXFP4", {}},        {40, "NVFP4", {}},
    {41, "Q1_0", {}},
}};

const TypeInfo* FindType(uint32_t type) {
  for (const TypeInfo& info : kTypes) {
    if (info.type == type) return &info;
  }
  return nullptr;
}

float Half(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return HalfToFloat(bits);
}

uint32_t Word(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

int Low(uint8_t byte) { return byte & 15; }
int High(uint8_t byte) { return byte >> 4; }

// Blocks of 32. Four-bit values of elements i and i + 16 share byte i; the fifth bits are a word.

void Q4_0(const uint8_t* b, float* y) {  // half d; 16 bytes
  const float d = Half(b);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>(Low(b[2 + i]) - 8) * d;
    y[i + 16] = static_cast<float>(High(b[2 + i]) - 8) * d;
  }
}

void Q4_1(const uint8_t* b, float* y) {  // half d, m; 16 bytes
  const float d = Half(b), m = Half(b + 2);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>(Low(b[4 + i])) * d + m;
    y[i + 16] = static_cast<float>(High(b[4 + i])) * d + m;
  }
}

int FifthBit(uint32_t bits, int i) { return static_cast<int>(bits >> i & 1) << 4; }

void Q5_0(const uint8_t* b, float* y) {  // half d; word; 16 bytes
  const float d = Half(b);
  const uint32_t bits = Word(b + 2);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>((Low(b[6 + i]) | FifthBit(bits, i)) - 16) * d;
    y[i + 16] = static_cast<float>((High(b[6 + i]) | FifthBit(bits, i + 16)) - 16) * d;
  }
}

void Q5_1(const uint8_t* b, float* y) {  // half d, m; word; 16 bytes
  const float d = Half(b), m = Half(b + 2);
  const uint32_t bits = Word(b + 4);
  for (int i = 0; i < 16; ++i) {
    y[i] = static_cast<float>(Low(b[8 + i]) | FifthBit(bits, i)) * d + m;
    y[i + 16] = static_cast<float>(High(b[8 + i]) | FifthBit(bits, i + 16)) * d + m;
  }
}

void Q8_0(const uint8_t* b, float* y) {  // half d; 32 signed bytes
  const float d = Half(b);
  for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

// Blocks of 256 ("K").

struct ScaleMin {
  int scale;
  int min;
};

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each in the low six
// bits of bytes 0 … 7; the others' low four bits in bytes 8 … 11, their high two bits above the
// first four's.
ScaleMin UnpackScale(const uint8_t* s, int i) {
  if (i < 4) return {s[i] & 63, s[i + 4] & 63};
  return {(s[i + 4] & 15) | (s[i - 4] >> 6) << 4, (s[i + 4] >> 4) | (s[i] >> 6) << 4};
}

void Q4_K(const uint8_t* b, float* y) {  // half d, dmin; 12 scale bytes; 128 bytes
  const float d = Half(b), dmin = Half(b + 2);
  const uint8_t* const scales = b + 4;
  for (int i = 0; i < 8; ++i) {  // 32 elements each; two neighbors share 32 bytes
    const ScaleMin s = UnpackScale(scales, i);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    const uint8_t* const q = b + 16 + i / 2 * 32;
    const int shift = i % 2 * 4;
    for (int j = 0; j < 32; ++j)
      y[i * 32 + j] = scale * static_cast<float>(q[j] >> shift & 15) - min;
  }
}

void Q5_K(const uint8_t* b,
          float* y) {  // half d, dmin; 12 scale bytes; 32 bytes of bits; 128 bytes
  const float d = Half(b), dmin = Half(b + 2);
  const uint8_t* const scales = b + 4;
  const uint8_t* const bits = b + 16;  // bit i of byte j: the fifth bit of element j of part i
  for (int i = 0; i < 8; ++i) {
    const ScaleMin s = UnpackScale(scales, i);
    const float scale = d * static_cast<float>(s.scale), min = dmin * static_cast<float>(s.min);
    const uint8_t* const q = b + 48 + i / 2 * 32;
    const int shift = i % 2 * 4;
    for (int j = 0; j < 32; ++j) {
      const int value = (q[j] >> shift & 15) | (bits[j] >> i & 1) << 4;
      y[i * 32 + j] = scale * static_cast<float>(value) - min;
    }
  }
}

void Q6_K(const uint8_t* b, float* y) {  // 128 bytes low; 64 bytes high; 16 signed scales; half d
  const float d = Half(b + 208);
  for (int i = 0; i < 8; ++i) {  // 32 elements each: half i / 4, quarter i % 4 of the half
    const int quarter = i % 4;
    const uint8_t* const low = b + i / 4 * 64 + quarter % 2 * 32;
    const uint8_t* const high = b + 128 + i / 4 * 32;
    const int low_shift = quarter / 2 * 4, high_shift = quarter * 2;
    for (int j = 0; j < 32; ++j) {
      const auto scale = static_cast<int8_t>(b[192 + i * 2 + j / 16]);
      const int value = (low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4;
      y[i * 32 + j] = d * static_cast<float>(scale) * static_cast<float>(value - 32);
    }
  }
}

template <void (*Block)(const uint8_t*, float*)>
void ForEachBlock(GgufBlock block, const uint8_t* source, int64_t count, float* out) {
  for (int64_t i = 0; i < count / block.elements; ++i) {
    Block(source + i * block.bytes, out + i * block.elements);
  }
}

}  // namespace

std::string GgufTypeName(uint32_t type) {
  const TypeInfo* info = FindType(type);
  return info != nullptr ? std::string(info->name) : fmt::format("type {}", type);
}

Expected<GgufBlock> GgufBlockOf(uint32_t type) {
  const TypeInfo* info = FindType(type);
  if (info != nullptr && info->block.bytes > 0) return info->block;
  std::string supported;
  for (const TypeInfo& known : kTypes) {
    if (known.block.bytes > 0)
      supported += (supported.empty() ? "" : ", ") + std::string(known.name);
  }
  return Unexpected(
      Unimplemented("found type {}, expected one of {}", GgufTypeName(type), supported));
}

void Dequantize(GgufTensorType type, const uint8_t* source, int64_t count, float* out) {
  const GgufBlock block = *GgufBlockOf(static_cast<uint32_t>(type));
  CHECK_EQ(count % block.elements, 0);
  switch (type) {
    case GgufTensorType::kF32:
      return Convert(source, DType::kF32, count, out);
    case GgufTensorType::kF16:
      return Convert(source, DType::kF16, count, out);
    case GgufTensorType::kBF16:
      return Convert(source, DType::kBF16, count, out);
    case GgufTensorType::kQ4_0:
      return ForEachBlock<Q4_0>(block, source, count, out);
    case GgufTensorType::kQ4_1:
      return ForEachBlock<Q4_1>(block, source, count, out);
    case GgufTensorType::kQ5_0:
      return ForEachBlock<Q5_0>(block, source, count, out);
    case GgufTensorType::kQ5_1:
      return ForEachBlock<Q5_1>(block, source, count, out);
    case GgufTensorType::kQ8_0:
      return ForEachBlock<Q8_0>(block, source, count, out);
    case GgufTensorType::kQ4_K:
      return ForEachBlock<Q4_K>(block, source, count, out);
    case GgufTensorType::kQ5_K:
      return ForEachBlock<Q5_K>(block, source, count, out);
    case GgufTensorType::kQ6_K:
      return ForEachBlock<Q6_K>(block, source, count, out);
  }
}

}  // namespace tiercel::checkpoint
