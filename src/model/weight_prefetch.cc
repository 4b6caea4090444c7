#include "model/weight_prefetch.h"

#include <algorithm>

namespace tiercel::model {

PrefetchBytes PlanPrefetch(const WeightPrefetch& options, const Weights& weights, int workers,
                           int64_t l2_bytes) {
  if (!options.enabled || weights.layers.empty()) return {};
  int64_t most = kMaxPrefetchBytes;
  if (l2_bytes > 0) most = std::min(most, workers * (l2_bytes / 2));
  const auto bytes = [&](const Linear& linear, double ratio, int64_t cap = kMaxPrefetchBytes) {
    const PackedMatrix& w = linear.weight;
    const int64_t size = w.Offset(w.n);
    return std::min({most, cap, static_cast<int64_t>(ratio * static_cast<double>(size))});
  };
  const LayerWeights& layer = weights.layers[0];
  return {.qkv = bytes(layer.qkv, options.qkv),
          .o = bytes(layer.o, options.o),
          .gate_up = bytes(layer.gate_up, options.gate_up, options.gate_up_bytes),
          .down = bytes(layer.down, options.down, options.down_bytes),
          .lm_head = bytes(weights.lm_head, options.qkv)};
}

}  // namespace tiercel::model
