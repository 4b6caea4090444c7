// Sizes in whole steps.
#pragma once

#include <cstdint>

namespace tiercel {

// The least multiple of `step` that is no less than `value` ≥ 0.
constexpr int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace tiercel
