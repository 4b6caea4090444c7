#include "checkpoint/gguf_blocks.h"

#include <cstring>

#include "base/check.h"

namespace tiercel::checkpoint {
namespace {

uint16_t HalfBits(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return bits;
}

uint8_t Low(uint8_t byte) { return byte & 15; }
uint8_t High(uint8_t byte) { return byte >> 4; }

// The layouts are those of gguf_types.cc. `i` is the block's number, y its codes.

// Four bits of elements j and j + 16 share a byte; `fifth` is null or where the word of fifth bits lies.
void Codes32(const uint8_t* nibbles, const uint8_t* fifth, uint8_t* y) {
  uint32_t bits = 0;
  if (fifth != nullptr) std::memcpy(&bits, fifth, sizeof(bits));
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<uint8_t>(Low(nibbles[j]) | (bits >> j & 1) << 4);
    y[j + 16] = static_cast<uint8_t>(High(nibbles[j]) | (bits >> (j + 16) & 1) << 4);
  }
}

void Q8_0(const uint8_t* b, uint8_t* y) {
  for (int j = 0; j < 32; ++j) y[j] = static_cast<uint8_t>(b[2 + j] ^ 0x80);
}

// Twelve bytes of six-bit scales and minima.
void ScalesAndMins(const uint8_t* s, uint8_t* scale, uint8_t* min) {
  for (int g = 0; g < 8; ++g) {
    scale[g] = static_cast<uint8_t>(g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4);
    min[g] = static_cast<uint8_t>(g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4);
  }
}

// Codes of 256: `fifth` is null or 32 bytes of which bit g of byte j is that of element j of group g.
void Codes256(const uint8_t* nibbles, const uint8_t* fifth, uint8_t* y) {
  for (int g = 0; g < 8; ++g) {
    for (int j = 0; j < 32; ++j) {
      const int high = fifth == nullptr ? 0 : (fifth[j] >> g & 1) << 4;
      y[g * 32 + j] = static_cast<uint8_t>((nibbles[g / 2 * 32 + j] >> g % 2 * 4 & 15) | high);
    }
  }
}

void Q6_K(const uint8_t* b, uint8_t* y) {
  for (int i = 0; i < 8; ++i) {
    const int quarter = i % 4;
    const uint8_t* const low = b + i / 4 * 64 + quarter % 2 * 32;
    const uint8_t* const high = b + 128 + i / 4 * 32;
    for (int j = 0; j < 32; ++j) {
      y[i * 32 + j] = static_cast<uint8_t>((low[j] >> quarter / 2 * 4 & 15) | (high[j] >> quarter * 2 & 3) << 4);
    }
  }
}

}  // namespace

BlockFormat BlockFormatOf(GgufTensorType type) {
  switch (type) {
    case GgufTensorType::kQ4_0: return BlockFormat::kQ4_0;
    case GgufTensorType::kQ4_1: return BlockFormat::kQ4_1;
    case GgufTensorType::kQ5_0: return BlockFormat::kQ5_0;
    case GgufTensorType::kQ5_1: return BlockFormat::kQ5_1;
    case GgufTensorType::kQ8_0: return BlockFormat::kQ8_0;
    case GgufTensorType::kQ4_K: return BlockFormat::kQ4_K;
    case GgufTensorType::kQ5_K: return BlockFormat::kQ5_K;
    case GgufTensorType::kQ6_K: return BlockFormat::kQ6_K;
    case GgufTensorType::kF32:
    case GgufTensorType::kF16:
    case GgufTensorType::kBF16: break;
  }
  return BlockFormat::kNone;
}

void ReadBlocks(GgufTensorType type, const uint8_t* source, int64_t k, BlockRow* out) {
  const BlockFormat format = BlockFormatOf(type);
  const GgufBlock block = *GgufBlockOf(static_cast<uint32_t>(type));
  CHECK_EQ(k % block.elements, 0);
  out->Resize(InfoOf(format), k);
  const auto blocks = static_cast<size_t>(k / block.elements);
  const uint8_t* b = source;
  for (size_t i = 0; i < blocks; ++i, b += block.bytes) {
    uint8_t* const y = out->codes.data() + i * static_cast<size_t>(block.elements);
    if (type != GgufTensorType::kQ6_K) out->scale[i] = HalfBits(b);
    switch (type) {
      case GgufTensorType::kQ4_0: Codes32(b + 2, nullptr, y); break;
      case GgufTensorType::kQ4_1:
        out->min[i] = HalfBits(b + 2);
        Codes32(b + 4, nullptr, y);
        break;
      case GgufTensorType::kQ5_0: Codes32(b + 6, b + 2, y); break;
      case GgufTensorType::kQ5_1:
        out->min[i] = HalfBits(b + 2);
        Codes32(b + 8, b + 4, y);
        break;
      case GgufTensorType::kQ8_0: Q8_0(b, y); break;
      case GgufTensorType::kQ4_K:
      case GgufTensorType::kQ5_K: {
        const bool five = type == GgufTensorType::kQ5_K;
        out->min[i] = HalfBits(b + 2);
        ScalesAndMins(b + 4, out->sub_scale.data() + 8 * i, out->sub_min.data() + 8 * i);
        Codes256(b + (five ? 48 : 16), five ? b + 16 : nullptr, y);
        break;
      }
      case GgufTensorType::kQ6_K:
        out->scale[i] = HalfBits(b + 208);
        std::memcpy(out->sub_scale.data() + 16 * i, b + 192, 16);
        Q6_K(b, y);
        break;
      default: CHECK_MSG(false, "a type without a block format");
    }
  }
}

}  // namespace tiercel::checkpoint
