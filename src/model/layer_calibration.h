// LayerCalibration: what the linears of a float model get as inputs, layer by layer, so that a model
// larger than memory can be calibrated.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "kernels/environment.h"

namespace tiercel::model {

// The least and the largest value of every channel.
struct ChannelRanges {
  std::vector<float> min, max;
  std::vector<float> Largest() const;  // max|x|
};

// What the linears of a layer get: every input feature's range, the inputs of some tokens, and, where they were asked
// for, the features' products XᵀX over all of them.
struct LinearInputs {
  ChannelRanges ranges;
  std::vector<BF16> sample;      // [tokens, features]
  std::vector<float> products;   // [features, features], or empty
};

struct LayerInputs {
  LinearInputs qkv, o, gate_up, down;
  ChannelRanges k, v;  // [KV heads · head_dim], k as rotated: what the cache gets
};

class LayerCalibration {
 public:
  static constexpr int64_t kMaxTokens = 512;  // of a sequence

  // Each sequence has 1 … kMaxTokens ids within the vocabulary. Checkpoint and environment outlive
  // this.
  static Expected<std::unique_ptr<LayerCalibration>> Create(
      const checkpoint::Checkpoint& checkpoint, kernels::Environment* environment,
      std::vector<std::vector<int32_t>> sequences);

  // Of layer 0, then 1, and so on: runs all sequences through the layer. Holds that layer's weights
  // meanwhile, and the residual stream of all tokens always. With `products`: those of every input.
  Expected<LayerInputs> NextLayer(bool products = false);

 private:
  LayerCalibration(const checkpoint::Checkpoint& checkpoint, kernels::Environment* environment)
      : checkpoint_(checkpoint), environment_(environment) {}

  const checkpoint::Checkpoint& checkpoint_;
  kernels::Environment* const environment_;
  int64_t layer_ = 0;
  std::vector<std::vector<BF16>> hidden_;  // of each sequence [tokens, hidden]
};

}  // namespace tiercel::model
