// A tensor's sizes, the outermost first.
#pragma once

#include <cstdint>
#include <vector>

namespace tiercel {

// A scalar has 1. Shapes of files have been checked: the product fits.
inline int64_t ElementsOf(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

}  // namespace tiercel
