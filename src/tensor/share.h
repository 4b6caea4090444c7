// Share: a worker's part of an operator's work, and the one rule by which a team divides any of it.
//
// The workers of a team are equal, or have weights: small integers that are about as fast as their cores. No bit
// of a result depends on either.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tiercel {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  friend bool operator==(Range, Range) = default;
};

// The part that one call does: worker `index` of `count`. Of bounds[count] units of work it has those from
// bounds[index] to bounds[index + 1]: bounds ascend from 0. Without bounds each worker has one unit.
struct Share {
  int index = 0;
  int count = 1;
  const int32_t* bounds = nullptr;  // [count + 1], or null

  constexpr int64_t begin() const { return bounds == nullptr ? index : bounds[index]; }
  constexpr int64_t end() const { return bounds == nullptr ? index + 1 : bounds[index + 1]; }
  constexpr int64_t whole() const { return bounds == nullptr ? count : bounds[count]; }
};

// Splits n items in whole granules (the last granule may be short); each share is off by less than one granule. The
// result depends on nothing but the arguments.
constexpr Range SplitRange(int64_t n, int64_t granule, Share share) {
  const int64_t granules = (n + granule - 1) / granule;
  const int64_t begin = granules * share.begin() / share.whole();
  const int64_t end = granules * share.end() / share.whole();
  return {std::min(begin * granule, n), std::min(end * granule, n)};
}

}  // namespace tiercel
