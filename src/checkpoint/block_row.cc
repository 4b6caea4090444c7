#include "checkpoint/block_row.h"

#include <algorithm>
#include <cmath>

#include "base/bf16.h"
#include "base/check.h"

namespace tiercel::checkpoint {

void BlockRow::Resize(const BlockFormatInfo& format, int64_t k) {
  const bool sub = format.scales == BlockScales::kSubMin || format.scales == BlockScales::kSub;
  const auto units = static_cast<size_t>((k + format.unit - 1) / format.unit);
  const auto groups = static_cast<size_t>((k + format.group - 1) / format.group);
  const auto none = size_t{0};
  codes.resize(static_cast<size_t>(k));
  const bool wide = format.scales == BlockScales::kFloat;
  scale.resize(sub ? units : wide ? none : groups);
  float_scale.resize(wide ? groups : none);
  min.resize(format.scales == BlockScales::kHalfMin ? groups : format.scales == BlockScales::kSubMin ? units : none);
  sub_scale.resize(sub ? groups : none);
  sub_min.resize(format.scales == BlockScales::kSubMin || format.scales == BlockScales::kHalfZero ? groups : none);
}

void QuantizeToInt4(const float* w, int64_t k, BlockRow* out) {
  constexpr BlockFormatInfo kInfo = InfoOf(BlockFormat::kI4);
  out->Resize(kInfo, k);
  for (int64_t begin = 0, g = 0; begin < k; begin += kInfo.group, ++g) {
    const int64_t end = std::min(begin + kInfo.group, k);
    float largest = 0;
    for (int64_t i = begin; i < end && !std::isnan(largest); ++i) {
      if (!(std::abs(w[i]) <= std::abs(largest))) largest = w[i];
    }
    const uint16_t bits = ToHalf(largest / -8.0f);
    const float scale = HalfToFloat(bits);
    out->scale[static_cast<size_t>(g)] = bits;
    for (int64_t i = begin; i < end; ++i) {
      const float code = scale == 0 ? 8.0f : std::nearbyint(w[i] / scale) + 8.0f;
      out->codes[static_cast<size_t>(i)] = static_cast<uint8_t>(std::clamp(code, 0.0f, 15.0f));
    }
  }
}

}  // namespace tiercel::checkpoint
