#include "model/stages.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace tiercel::model {
namespace {

// How many layers have as many weights as the head.
double HeadInLayers(const checkpoint::ModelConfig& c, checkpoint::Head head) {
  if (head != checkpoint::Head::kLogits) return 0;
  const int64_t attention = 2 * (c.num_heads + c.num_kv_heads) * c.head_dim;  // q and o, k and v
  const int64_t layer = c.hidden_size * (attention + 3 * c.intermediate_size);
  return static_cast<double>(c.vocab_size * c.hidden_size) / static_cast<double>(layer);
}

// Of the last stage.
int64_t LayersOfLast(const checkpoint::ModelConfig& c, const WeightOptions& options) {
  const int64_t others = options.stages - 1;
  const double head = HeadInLayers(c, options.head);
  const double each = (static_cast<double>(c.num_layers) + head) / options.stages;
  return std::clamp<int64_t>(std::lround(each - head), 1, c.num_layers - others);
}

}  // namespace

Status CheckStages(const checkpoint::ModelConfig& config, const WeightOptions& options) {
  if (options.stages > config.num_layers) {
    return InvalidArgument("argument --pipeline-parallel-size: found {}, expected at most the model's {} layers",
                           options.stages, config.num_layers);
  }
  const auto& given = options.stage_layers;
  if (given.empty()) return OkStatus();
  CHECK_EQ(std::ssize(given), options.stages);
  const int64_t sum = std::accumulate(given.begin(), given.end(), int64_t{0});
  if (sum != config.num_layers) {
    return InvalidArgument("VLLM_PP_LAYER_PARTITION: found {} layers in all, expected the model's {}", sum, config.num_layers);
  }
  return OkStatus();
}

Range LayersOf(const checkpoint::ModelConfig& config, const WeightOptions& options, int stage) {
  if (!options.stage_layers.empty()) {
    const auto begin = options.stage_layers.begin();
    const int64_t before = std::accumulate(begin, begin + stage, int64_t{0});
    return {before, before + begin[stage]};
  }
  if (options.stages == 1) return {0, config.num_layers};
  const int64_t others = config.num_layers - LayersOfLast(config, options);
  if (stage == options.stages - 1) return {others, config.num_layers};
  return SplitRange(others, 1, {stage, options.stages - 1});
}

}  // namespace tiercel::model
