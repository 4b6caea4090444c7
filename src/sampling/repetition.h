// Repetition: an output that says the same tokens again and again at its end.
#pragma once

#include <cstdint>
#include <span>

namespace tiercel::sampling {

// The longest pattern that a request may ask to look for: what a look costs per token is bounded by it.
inline constexpr int kMaxPatternSize = 2048;

// vLLM's RepetitionDetectionParams: a request ends when its output ends with min_count copies, one
// behind the other, of a pattern of min_pattern_size to max_pattern_size tokens.
struct RepetitionDetection {
  int max_pattern_size = 0;  // 0: off
  int min_pattern_size = 0;  // 0: 1
  int min_count = 0;         // ≥ 2 unless off
};

// Whether `output` ends so. Cost: a comparison for each size, and more only where the end agrees.
bool EndsInRepetition(std::span<const int32_t> output, const RepetitionDetection& detection);

}  // namespace tiercel::sampling
