// BlockRow: one row of a checkpoint's matrix whose weights have few bits, taken apart but not dequantized
// (tensor/block_format.h: codes, scales, minima).
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/block_format.h"

namespace tiercel::checkpoint {

// Each list is as long as the format needs it: those of a group first, then those of a unit.
struct BlockRow {
  std::vector<uint8_t> codes;       // [k]
  std::vector<uint16_t> scale;      // binary16. kHalf, kHalfMin, kHalfZero: [groups]; kSubMin, kSub: d [units]
  std::vector<uint16_t> min;        // kHalfMin: minus the minimum [groups]; kSubMin: dmin [units]
  std::vector<uint8_t> sub_scale;   // kSubMin: six bits, kSub: a signed byte [groups]
  std::vector<float> float_scale;   // kFloat: [groups]
  std::vector<uint8_t> sub_min;     // kSubMin: six bits, kHalfZero: the zero point [groups]

  // Room for k inputs, a multiple of the group (of the unit with kSubMin and kSub).
  void Resize(const BlockFormatInfo& format, int64_t k);
};

// Symmetric, in groups of 128 (kI4): the scale is the value of the largest magnitude over −8, rounded to binary16, a
// code round(w / scale) + 8 within [0, 15]. `w` must be finite: else the row's first such group has a scale that is not.
void QuantizeToInt4(const float* w, int64_t k, BlockRow* out);

}  // namespace tiercel::checkpoint
