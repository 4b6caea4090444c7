#include "sampling/repetition.h"

#include <algorithm>

namespace tiercel::sampling {

bool EndsInRepetition(std::span<const int32_t> output, const RepetitionDetection& detection) {
  const int64_t length = std::ssize(output);
  for (int64_t size = std::max(detection.min_pattern_size, 1); size <= detection.max_pattern_size;
       ++size) {
    // The last `shifted` tokens equal those `size` before them: then all copies are equal.
    const int64_t shifted = size * (detection.min_count - 1);
    if (size + shifted > length) return false;
    if (std::equal(output.rbegin(), output.rbegin() + shifted, output.rbegin() + size)) return true;
  }
  return false;
}

}  // namespace tiercel::sampling
