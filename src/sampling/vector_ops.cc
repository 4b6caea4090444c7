#include "sampling/vector_ops.h"

#include <cmath>

namespace tiercel::sampling {
namespace {

int64_t Argmax(const float* x, int64_t n, float* max) {
  int64_t best = 0;
  float value = kMinusInfinity;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > value) {
      value = x[i];
      best = i;
    }
  }
  *max = value;
  return best;
}

float SumExp(const float* x, int64_t n, float max, float scale) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > kMinusInfinity) sum += std::exp((x[i] - max) * scale);
  }
  return sum;
}

int64_t CollectAtLeast(const float* x, int64_t n, float threshold, int32_t* indices,
                       int64_t capacity) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!(x[i] >= threshold)) continue;
    if (count < capacity) indices[count] = static_cast<int32_t>(i);
    ++count;
  }
  return count;
}

int64_t CountAtLeast(const float* x, int64_t n, float threshold) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += x[i] >= threshold;
  return count;
}

void KeepAllowed(float* x, int64_t n, const uint32_t* allowed) {
  for (int64_t i = 0; i < n; ++i) {
    if ((allowed[i / 32] >> (i % 32) & 1) == 0) x[i] = kMinusInfinity;
  }
}

}  // namespace

VectorOps PortableVectorOps() { return {Argmax, SumExp, CollectAtLeast, CountAtLeast, KeepAllowed}; }

}  // namespace tiercel::sampling
