// Sizes in whole steps.
#pragma once

#include <cstdint>

namespace tiercel {

// How many steps hold `value` ≥ 0.
constexpr int64_t CeilDiv(int64_t value, int64_t step) { return (value + step - 1) / step; }

// The least multiple of `step` that is no less than `value` ≥ 0.
constexpr int64_t RoundUp(int64_t value, int64_t step) { return CeilDiv(value, step) * step; }

}  // namespace tiercel
