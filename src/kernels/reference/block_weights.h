// What a strip of tensor/block_format.h holds, value by value.
#pragma once

#include <cstring>

#include "base/bf16.h"
#include "tensor/packed_matrix.h"

namespace tiercel::kernels::reference {

// `format` is not kNone.
class StripReader {
 public:
  StripReader(BlockFormat format, const void* data)
      : info_(InfoOf(format)), data_(static_cast<const uint8_t*>(data)) {}

  const BlockFormatInfo& info() const { return info_; }

  int Code(int64_t k, int64_t column) const {
    const uint8_t* codes =
        Unit(k) + info_.ScaleBytes() + k % info_.unit / kCodeGroup * info_.CodeBytes();
    const int64_t quad = k % kCodeGroup / kQuad, at = column * kQuad + k % kQuad;
    if (info_.scales == BlockScales::kFloat) return codes[k % kCodeGroup * kStripColumns + column];
    if (info_.bits == 8) return codes[quad * kCodeLine + at];
    const int low = codes[quad / 2 * kCodeLine + at] >> quad % 2 * 4 & 15;
    const uint8_t* high = codes + 4 * kCodeLine;
    if (info_.bits == 5) return low | (high[at] >> quad & 1) << 4;
    if (info_.bits == 6) return low | (high[quad / 4 * kCodeLine + at] >> quad % 4 * 2 & 3) << 4;
    return low;
  }

  float Scale(int64_t group, int64_t column) const {
    const uint8_t* unit = Unit(group * info_.group);
    const int64_t g = group % info_.groups();
    switch (info_.scales) {
      case BlockScales::kSubMin: return Half(unit, column) * static_cast<float>(Sub(unit, g, column, 0));
      case BlockScales::kSub: {
        const auto a = static_cast<int8_t>(unit[2 * kStripColumns + g * kStripColumns + column]);
        return Half(unit, column) * static_cast<float>(a);
      }
      case BlockScales::kFloat: {
        float scale;
        std::memcpy(&scale, unit + 4 * (g * kStripColumns + column), sizeof(scale));
        return scale;
      }
      default: return Half(unit, g * kStripColumns + column);
    }
  }

  bool has_min() const {
    return info_.scales == BlockScales::kHalfMin || info_.scales == BlockScales::kHalfZero ||
           info_.scales == BlockScales::kSubMin;
  }
  // 0 where the format has none.
  float Min(int64_t group, int64_t column) const {
    const uint8_t* unit = Unit(group * info_.group);
    const int64_t g = group % info_.groups(), groups = info_.groups();
    switch (info_.scales) {
      case BlockScales::kHalfMin: return -Half(unit, (groups + g) * kStripColumns + column);
      case BlockScales::kHalfZero:
        return Scale(group, column) *
               static_cast<float>(unit[2 * groups * kStripColumns + g * kStripColumns + column]);
      case BlockScales::kSubMin:
        return Half(unit, kStripColumns + column) * static_cast<float>(Sub(unit, g, column, 1));
      default: return 0;
    }
  }

 private:
  const uint8_t* Unit(int64_t k) const { return data_ + k / info_.unit * info_.UnitBytes(); }
  static float Half(const uint8_t* unit, int64_t index) {
    uint16_t bits;
    std::memcpy(&bits, unit + 2 * index, sizeof(bits));
    return HalfToFloat(bits);
  }
  // Of kSubMin the six-bit scale (part 0) or minimum (1).
  int Sub(const uint8_t* unit, int64_t g, int64_t column, int part) const {
    const uint8_t* low = unit + 4 * kStripColumns;
    const uint8_t* high = low + info_.groups() * kStripColumns;
    const int four = low[g * kStripColumns + column] >> 4 * part & 15;
    return four | (high[g / 2 * kStripColumns + column] >> (g % 2 * 4 + 2 * part) & 3) << 4;
  }

  const BlockFormatInfo info_;
  const uint8_t* const data_;
};

}  // namespace tiercel::kernels::reference
