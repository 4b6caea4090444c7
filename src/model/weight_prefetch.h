// Weight prefetch: while a worker waits at a barrier, it asks for the first part of its share of
// the next matmul's weights, so that the memory is not idle and the matmul begins in the cache.
#pragma once

#include <cstdint>

#include "model/weights.h"

namespace tiercel::model {

// A step of more rows than this computes for long enough to hide the first access.
inline constexpr int64_t kPrefetchRows = 500;
// At most so much of a matrix, over all workers.
inline constexpr int64_t kMaxPrefetchBytes = int64_t{18} << 20;

// weight_prefetch_config: shares of each matrix, within [0, 1]; 0: none. The MLP's may have caps of their
// own, in bytes over all workers.
struct WeightPrefetch {
  bool enabled = false;
  double qkv = 1, o = 1, gate_up = 1, down = 1;
  int64_t gate_up_bytes = kMaxPrefetchBytes, down_bytes = kMaxPrefetchBytes;
};

// Bytes to ask for of each matrix of a layer, over all workers. Zeros: no prefetch.
struct PrefetchBytes {
  int64_t qkv = 0, o = 0, gate_up = 0, down = 0, lm_head = 0;
};

// What the ratios come to for the model's matrices: at most kMaxPrefetchBytes each, and at most half
// of the workers' second-level caches, as more would push out what was asked for first. The lm_head
// goes with qkv.
PrefetchBytes PlanPrefetch(const WeightPrefetch& options, const Weights& weights, int workers,
                           int64_t l2_bytes);

}  // namespace tiercel::model
