// WeightLoader: one rank's weights, from a checkpoint's tensors to packed matrices: planned, then packed or mapped.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/function_ref.h"
#include "base/round_up.h"
#include "comm/rank_places.h"
#include "model/pack_matrix.h"
#include "model/packed_file.h"
#include "model/rank.h"
#include "model/weights.h"

namespace tiercel::model {

class WeightLoader {
 public:
  // `workers` of the rank. The checkpoint outlives this.
  WeightLoader(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options, const comm::RankPlaces& places,
               Rank rank, int workers);

  // Plans every matrix and reads what is small.
  Status Plan();

  // Memory for the matrices, which are then packed.
  Status Allocate();

  // Or: the matrices of an earlier start, if there are some that fit.
  std::string PackedPath() const;
  std::optional<MappedWeights> FindPacked() const;
  void Take(MappedWeights mapped);
  Status WritePacked(FunctionRef<void(int64_t)> progress) const;
  // Worker `worker`'s part of what is mapped comes from disk, if it isn't in memory.
  void ReadAhead(int worker, FunctionRef<void(int64_t)> progress) const;

  // The matrices, one after the other; every rank has as many.
  size_t num_jobs() const { return jobs_.size(); }
  Status Pack(size_t job, int worker) const {
    return PackMatrix(checkpoint_, part_, jobs_[job], DataOf(jobs_[job]), worker, workers_);
  }
  void WillNeed(size_t job) const {
    for (const Shard& shard : jobs_[job].source->shards) checkpoint_.WillNeed(shard.name + ".weight");
  }
  void DontNeed(size_t job) const {
    for (const Shard& shard : jobs_[job].source->shards) checkpoint_.DontNeed(shard.name + ".weight");
  }
  int64_t BytesUpTo(size_t job) const {
    return std::min(jobs_[job].offset + RoundUp(jobs_[job].bytes, 64), total_);
  }
  int64_t total() const { return total_; }
  bool fits_in_memory() const { return total_ <= options_.max_bytes_in_memory; }
  Weights TakeWeights() { return std::move(weights_); }

 private:
  // A tensor of `rows` rows, of which the rank takes some.
  struct ShardName {
    std::string name;
    int64_t rows;
    Range taken;
  };

  bool IsFirstHere() const { return rank_.index == places_.first_here(); }
  Status PlanEnds();
  Status PlanHead(const std::string& name, checkpoint::QuantizeTo quantize);
  Status PlanLayer(int64_t i);
  void PointToBuffer();
  std::vector<std::span<std::byte>> Aside() const;
  PackedFile FileOfPacked() const;
  Status AllocatePartlyOnDisk(int64_t in_memory);
  Status PlanEmbedding(const std::string& name);
  // By columns: each rank takes rows of the tensors. By rows (of the packed matrix): a slice of their k.
  Status PlanByColumns(Linear* linear, ColumnOrder order, std::vector<ShardName> shards, int64_t k,
                       bool has_bias, checkpoint::QuantizeTo quantize) {
    return Plan(linear, order, std::move(shards), k, {0, k}, has_bias, quantize);
  }
  Status PlanByRows(Linear* linear, const std::string& name, int64_t k, Range slice, bool has_bias,
                    checkpoint::QuantizeTo quantize) {
    const int64_t rows = config_.hidden_size;
    return Plan(linear, ColumnOrder::kPlain, {{name, rows, {0, rows}}}, k, slice, has_bias, quantize);
  }
  Status Plan(Linear* linear, ColumnOrder order, std::vector<ShardName> shards, int64_t k, Range slice,
              bool has_bias, checkpoint::QuantizeTo quantize);
  Status PlanStrips(Linear* linear, const FusedLinear& source);
  Status PlanMatrix(Linear* linear, const FusedLinear& source, const checkpoint::InputQuantization& input);
  Status ReadVector(const std::string& name, int64_t n, std::vector<float>* out);
  Status ReadNorm(const std::string& name, int64_t n, NormWeights* out);
  Status FindKvChannels(const FusedLinear& qkv, LayerWeights& layer);
  std::byte* DataOf(const MatrixJob& job) const {
    return weights_.buffer.as<std::byte>() + job.offset;
  }

  const checkpoint::Checkpoint& checkpoint_;
  const checkpoint::ModelConfig& config_;
  const checkpoint::ModelConfig part_;  // the rank's
  const WeightOptions options_;
  const comm::RankPlaces places_;
  const Range layers_;  // the stage's
  const Rank rank_;
  const int workers_;  // of the rank
  Weights weights_;
  std::vector<std::unique_ptr<FusedLinear>> sources_;  // jobs point to them
  std::vector<MatrixJob> jobs_;
  int64_t total_ = 0;
  int64_t cut_orders_ = 0;            // linears whose reordered inputs ranks would have to share
  std::vector<int64_t> layer_begin_;  // offset of each layer's matrices; with the end of the last
};

}  // namespace tiercel::model
