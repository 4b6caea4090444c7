// Weights: a model's tensors, checked, fused and packed for the kernels.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "base/function_ref.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config.h"
#include "checkpoint/kv_channel_scales.h"
#include "checkpoint/kv_tensor_scales.h"
#include "checkpoint/linear_tensors.h"
#include "comm/transport.h"
#include "kernels/ops.h"
#include "platform/buffer.h"
#include "platform/worker_team.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

// A linear of the forward pass; its shards (q, k, v or gate, up) lie in one matrix.
struct Linear {
  PackedMatrix weight;  // kBF16; kI8, then `input` is static or per token; or of block formats, then it is kBlocks, or of FP8 kBF16ForFp8
  std::vector<BlockStrip> strips;  // weight.strips
  std::vector<float> bias;  // [weight.n] in the packed column order; empty: none
  // INT8, see kernels::QuantMatmulArgs.
  checkpoint::InputQuantization input;
  std::vector<int32_t> acc_bias;  // [weight.n]
  std::vector<float> scale;       // [weight.n]
  // Where shards are quantized in different ways, each way is a matrix over all the columns, with
  // zeros in the others': the output is the sum of this one's and of these.
  std::vector<Linear> more;

  bool is_int8() const { return weight.dtype == DType::kI8; }
  bool takes_bytes() const { return !checkpoint::IsBF16(input.kind); }
  const float* bias_data() const { return bias.empty() ? nullptr : bias.data(); }
};

struct NormWeights {
  std::vector<float> weight;  // empty: no norm
  std::vector<float> bias;    // as long, or empty: none
  const float* weight_data() const { return weight.empty() ? nullptr : weight.data(); }
  const float* bias_data() const { return bias.empty() ? nullptr : bias.data(); }
};

struct KvCacheScales {
  // Of an INT8 cache, [KV heads · head_dim] each or empty: a checkpoint's, or scales of keys alone (kv_channels.h).
  checkpoint::KvChannelScales int8;
  checkpoint::KvTensorScales fp8;  // of an FP8 cache
  kernels::KvScales view() const {
    const auto of = [](const std::vector<float>& channels) { return channels.empty() ? nullptr : channels.data(); };
    return {of(int8.k_scale), of(int8.k_offset), of(int8.v_scale), of(int8.v_offset), fp8.key, fp8.value};
  }
};

struct LayerWeights {
  NormWeights input_norm;      // [hidden]
  Linear qkv;                  // columns by KV group: [q heads of g][k head g][v head g]
  NormWeights q_norm, k_norm;  // [head_dim], or none
  KvCacheScales kv;
  Linear o;
  NormWeights post_attention_norm;  // [hidden]
  Linear gate_up;                   // columns alternate 16 gate, 16 up
  Linear down;
  std::span<const std::byte> on_disk;  // the part of its matrices that is read from disk
};

// Those of one rank.
struct Weights {
  std::vector<int32_t> bounds;  // of the workers' Shares, which the matrices point to; empty: the workers are equal
  // [vocab, hidden], the same of every rank; or null: then the columns of packed matrices, the ranks' heads (tied),
  // or one of a block format that the first rank has.
  const BF16* embedding = nullptr;
  std::vector<PackedMatrix> packed_embedding;
  Linear block_embedding;
  std::vector<LayerWeights> layers;  // of the stage
  NormWeights final_norm;  // [hidden]
  checkpoint::Head head = checkpoint::Head::kLogits;
  Linear lm_head;  // of kLogits: [the rank's part of the vocabulary]
  DType kv_dtype = DType::kBF16;  // of the cache that the model is to have; or kI8, kF8E4M3
  platform::Buffer buffer;  // every matrix
  int64_t bytes = 0;        // of all of it
  int64_t bytes_in_memory = 0;  // with room for what is read from disk
};

// Where packed weights are kept from one start to the next.
struct PackedWeights {
  std::string path;   // of the files, without what tells ranks apart; empty: they are not kept
  std::string model;  // whatever tells the checkpoint's files from others: what is packed of others is packed anew
};

struct WeightOptions {
  // The ranks of the team are those of this process, of a job of several alike, and the layers those of its stage.
  comm::Process process = {};
  int stages = 1;
  std::vector<int64_t> stage_layers = {};  // of each stage; empty: see stages.h
  checkpoint::Head head = checkpoint::Head::kLogits;      // kHidden: lm_head is not loaded
  checkpoint::QuantizeTo quantize = checkpoint::QuantizeTo::kNone;  // what is made of float weights of the layers
  bool quantize_lm_head = false;            // of the head's, too
  bool keep_blocks = true;                  // weights of a block format (GGUF's) stay in it; else they become BF16
  bool mix_static = false;        // W8A8_MIX: the static reading; by default the dynamic one
  // kBF16, kI8 or kF8E4M3; not given: what the checkpoint is meant for (Quantization::kv_cache), else kBF16.
  std::optional<DType> kv_dtype = {};
  // Matrices that do not fit into this many bytes lie on disk, in a nameless file in the first of the
  // folders that takes it, and are read from there in every step.
  int64_t max_bytes_in_memory = std::numeric_limits<int64_t>::max();
  std::vector<std::string> disk_folders = {};
  // Mapped instead of packed if they are there, else written once they are packed. Not for weights that do not fit
  // into memory.
  PackedWeights packed = {};
  // How much of the work each worker of the team gets, beside the others of its rank: positive. Empty: they are equal.
  std::vector<int> shares = {};
  const std::atomic<bool>* cancelled = nullptr;  // once true, loading ends before the next matrix
};

// What is loaded so far, of the packed bytes in all. Called on the thread that called LoadWeights.
using LoadProgress = FunctionRef<void(int64_t bytes_done, int64_t bytes_total)>;

// Checks that every tensor is there with the shape that the configuration asks for, then packs
// them layer by layer on the team, each worker the columns that it will read. File pages are
// dropped after use, so memory peaks near the weights' own size.
Expected<Weights> LoadWeights(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                              platform::WorkerTeam& team, LoadProgress progress);

// The same for each rank of the team: it reads its part alone of every matrix. Biases of row-parallel
// linears go to the first rank of all.
Expected<std::vector<Weights>> LoadRanks(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                                         platform::WorkerTeam& team, LoadProgress progress);

}  // namespace tiercel::model
