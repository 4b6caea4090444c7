// Weights: a model's tensors, checked, fused and packed for the kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bf16.h"
#include "base/function_ref.h"
#include "base/status.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "platform/buffer.h"
#include "platform/worker_team.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

struct Linear {
  PackedMatrix weight;
  std::vector<float> bias;  // [weight.n] in the packed column order; empty: none
  const float* bias_data() const { return bias.empty() ? nullptr : bias.data(); }
};

struct LayerWeights {
  std::vector<float> input_norm;      // [hidden]
  Linear qkv;                         // columns by KV group: [q heads of g][k head g][v head g]
  std::vector<float> q_norm, k_norm;  // [head_dim], or empty
  Linear o;
  std::vector<float> post_attention_norm;  // [hidden]
  Linear gate_up;                          // columns alternate 16 gate, 16 up
  Linear down;
};

struct Weights {
  const BF16* embedding = nullptr;  // [vocab, hidden], or null: then the rows of lm_head (tied)
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;  // [hidden]
  Linear lm_head;
  platform::Buffer buffer;  // every matrix
  int64_t bytes = 0;        // of all of it
};

// What is loaded so far, of the packed bytes in all. Called on the thread that called LoadWeights.
using LoadProgress = FunctionRef<void(int64_t bytes_done, int64_t bytes_total)>;

// Checks that every tensor is there with the shape that the configuration asks for, then packs
// them layer by layer on the team, each worker the columns that it will read. File pages are
// dropped after use, so memory peaks near the weights' own size.
Expected<Weights> LoadWeights(const Checkpoint& checkpoint, platform::WorkerTeam& team,
                              LoadProgress progress);

}  // namespace tiercel::model
