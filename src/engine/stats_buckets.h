// The histograms' buckets, which are vLLM's: dashboards are written for them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/stats.h"

namespace tiercel::engine {

// 1, 2, 5, 10, 20, 50, … up to max.
std::vector<double> OneTwoFiveBuckets(int64_t max);

// All zero, with every histogram's buckets in place.
Stats EmptyStats(int64_t max_model_len);

}  // namespace tiercel::engine
