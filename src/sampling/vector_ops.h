// VectorOps: the row operators that the sampler needs, as plain function pointers, so that
// sampling/ does not know the kernels. The engine fills them in from the ISA's kernel table,
// whose kernels/ops.h RowOps gives their exact meaning.
#pragma once

#include <cstdint>
#include <limits>

namespace tiercel::sampling {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();  // all but −inf are at least this

struct VectorOps {
  // Index of the first maximum; *max its value. NaN counts as −inf. n ≥ 1.
  int64_t (*argmax)(const float* x, int64_t n, float* max);
  // Σ exp((x[i] − max) · scale), in a fixed order for a given n. NaN and −inf add nothing.
  float (*sum_exp)(const float* x, int64_t n, float max, float scale);
  // Writes the indices i (ascending) with x[i] ≥ threshold, at most capacity; returns how many
  // there are in all.
  int64_t (*collect_at_least)(const float* x, int64_t n, float threshold, int32_t* indices,
                              int64_t capacity);
  // How many i have x[i] ≥ threshold.
  int64_t (*count_at_least)(const float* x, int64_t n, float threshold);
  // x[i] = −inf where bit i % 32 of allowed[i / 32] is 0.
  void (*keep_allowed)(float* x, int64_t n, const uint32_t* allowed);
};

// The same in portable C++: for tests, and for an engine that runs without a kernel table.
VectorOps PortableVectorOps();

}  // namespace tiercel::sampling
