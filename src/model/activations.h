// Activations: the buffers at fixed addresses that a Program reads and writes, and the KV cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "checkpoint/config.h"
#include "comm/rank_places.h"
#include "comm/transport.h"
#include "kernels/ops.h"
#include "model/access.h"
#include "model/causal_lm.h"
#include "model/rank.h"
#include "model/weights.h"
#include "platform/buffer.h"

namespace tiercel::model {

// Rows of BF16, `stride` elements apart; with worker_stride > 0 every worker has its own copy.
struct Rows {
  BF16* data = nullptr;
  int64_t stride = 0;
  int64_t worker_stride = 0;
};

// Rows of INT8 inputs as kernels::QuantizedRows describes them, QuantizedStride(k, kind) bytes apart for k
// values; with worker_stride > 0 every worker has its own copy.
struct QuantRows {
  uint8_t* data = nullptr;
  int64_t worker_stride = 0;
  float* row_scale = nullptr;
  int64_t scale_worker_stride = 0;
};

// Bytes of a row of k values, padded.
constexpr int64_t QuantizedBytes(int64_t k, checkpoint::InputKind kind) {
  if (kind == checkpoint::InputKind::kBlocks) {
    return (k + kBlockInputs - 1) / kBlockInputs * static_cast<int64_t>(sizeof(kernels::QuantizedBlock));
  }
  return (k + kKBlockI8 - 1) / kKBlockI8 * kKBlockI8;
}

// From row to row; a line or a block more where 16 rows would meet in a few sets of a first-level cache.
constexpr int64_t QuantizedStride(int64_t k, checkpoint::InputKind kind) {
  const int64_t bytes = QuantizedBytes(k, kind);
  if (bytes % 1024 != 0) return bytes;
  return bytes + (kind == checkpoint::InputKind::kBlocks ? static_cast<int64_t>(sizeof(kernels::QuantizedBlock)) : kKBlockI8);
}

// A longer step passes through its widest places in chunks of so many rows: the MLP, the norms before linears,
// and what ranks have computed before it is added up. Two panels of the tile kernels, so that the halves of two
// ranks are whole ones: of fewer rows the weights would be read more often. With 5120 columns in FP32 10 MiB.
inline constexpr int64_t kChunkRows = 512;

// Up to this many rows every worker computes the norms itself instead of meeting the others: a
// row takes a fraction of a microsecond, a barrier one or more.
inline constexpr int64_t kFewRows = 8;

// What ranks read of each other. Some may be ranks of other processes: what they have computed comes here before
// it is read (Program), and lies in this process's copy of what is shared, and in `copies`.
struct RankBuffers {
  std::vector<const float*> parts;   // Activations::part of each rank; null where a process sends the sum of its ranks'
  // The same as kernels::RankParts takes them; and this process's ranks' are from `first_term_here` on.
  std::vector<const float*> terms;
  std::vector<int32_t> term_ranks;
  int first_term_here = 0;
  float* sum = nullptr;  // of this process's parts, as others get it; a part's size
  std::vector<Region> shared;        // Activations::shared of this process's first
  std::vector<int64_t> head_columns;  // where each rank's columns of the logits begin
  comm::RankPlaces places;
  comm::Transport* transport = nullptr;  // null: every rank is here
  platform::Buffer copies;               // of other processes' parts, and `sum`
};

struct Activations {
  // The step's inputs, see StepBatch. T ≤ max_rows and kStepRows, S ≤ max_seqs, R ≤ T.
  int32_t* token_ids = nullptr;    // [T]
  int32_t* positions = nullptr;    // [T]
  int64_t* kv_slot = nullptr;      // [T]
  int32_t* query_start = nullptr;  // [S + 1]
  int32_t* context_len = nullptr;  // [S]
  int32_t* block_table = nullptr;  // [S, block_table_stride]
  int64_t block_table_stride = 0;
  int32_t* logit_rows = nullptr;  // [R]

  float* cos = nullptr;  // [T, head_dim / 2]
  float* sin = nullptr;
  Rows hidden;     // [T, hidden] the residual stream, which ranks share
  Rows normed;     // [chunk or logit group, hidden] shared among the workers
  Rows own_normed;  // [kFewRows, hidden] of each worker
  Rows qkv;        // [T, (q heads + 2 · KV heads) · head_dim] by KV group
  Rows attention;  // [T, q heads · head_dim]
  // [chunk, intermediate]. Shares its memory with qkv: the one is dead before the other
  // is written.
  Rows mlp;
  // Only of models with linears that take bytes: the input of the next one, shared among the workers [T of o, a chunk of
  // others], and each worker's own [kFewRows].
  QuantRows quantized, own_quantized;
  // Only where gate and up are quantized in different ways: [chunk, 2 · intermediate] in the packed column
  // order.
  Rows gate_up;
  Rows logit_hidden;  // [R, hidden] the rows of the residual stream that become logits; ranks share them
  // [logit groups, logit_group_rows, logits_stride]; with Head::kHidden the hidden states. Of several ranks the first
  // has them all (that of each process has room for them), and each points to where its columns begin.
  float* logits = nullptr;
  int64_t logits_stride = 0;
  // With several ranks. What this one's row-parallel linears give of a chunk, [part_rows, hidden] in FP32, to
  // be added to the others'. Of up to half as many rows there is room for two in turn: the next one is written
  // while who is late still reads the one before it.
  float* part = nullptr;
  int64_t part_rows = 0, part_stride = 0;
  // Each rank's own residual stream where it adds up all of it by itself: [few, hidden], see comm::AddsAlone.
  Rows few_hidden, few_logit_hidden;
  // Normed rows of a chunk that each rank has a part of, which all read: BF16, or bytes.
  Rows crossing;
  QuantRows crossing_quantized;
  Region shared;  // of the first rank: what all have in common, but for inputs and logits
  Rank rank;
  int first_here = 0;
  const RankBuffers* of_ranks = nullptr;
  void* attention_scratch = nullptr;
  int64_t attention_scratch_bytes = 0;  // of each worker
  void* attention_partials = nullptr;   // null where every worker owns whole KV groups
  int64_t attention_partials_bytes = 0;

  // [blocks][layers]: a block's layers lie together, so that the huge pages that a few blocks take
  // are few too.
  std::byte* kv = nullptr;
  kernels::KvLayout layout;  // block_stride is set
};

// For whom activations are.
struct RankTeam {
  int workers = 1;  // of the rank
  Rank rank = {};
  int first_here = 0;  // the first rank of this process
  int64_t head_columns = 0;  // of all the ranks' heads together; 0: there is one rank
  int logit_groups = 1;      // so many groups of logits have room, one after the other
};

// Owns the memory of one rank's Activations. `config` is the rank's, see PartOf.
class ActivationMemory {
 public:
  // Bytes beside the KV cache.
  static int64_t Bytes(const checkpoint::ModelConfig& config, const Weights& weights,
                       const kernels::KernelTable& kernels, const RankTeam& team,
                       const KvOptions& kv, const RunLimits& limits);
  static Expected<ActivationMemory> Allocate(const checkpoint::ModelConfig& config, const Weights& weights,
                                             const kernels::KernelTable& kernels,
                                             const RankTeam& team, const KvOptions& kv,
                                             const RunLimits& limits);
  void EmptyCache() { kv_buffer_.Empty(); }
  int64_t cache_bytes() const { return static_cast<int64_t>(kv_buffer_.size()); }
  // What the ranks of this process, `memories`, have in common is the first one's, and each gets a place for its
  // logits there. Once, when all have been allocated; `memories` and `buffers` then stay where they are.
  // `head_columns`: of the heads of all ranks.
  static Status Join(std::span<ActivationMemory* const> memories, std::span<const int64_t> head_columns,
                     const comm::RankPlaces& places, comm::Transport* transport, RankBuffers* buffers);
  const Activations& get() const { return activations_; }

 private:
  Activations activations_;
  platform::Buffer buffer_;
  platform::Buffer kv_buffer_;
};

}  // namespace tiercel::model
