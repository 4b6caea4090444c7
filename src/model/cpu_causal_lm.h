// CpuCausalLm: runs a model's Programs on the worker team, each of its ranks with a part of the model. In a job of
// several processes each has as many of the ranks; the first one says what is run.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/config.h"
#include "comm/rank_places.h"
#include "comm/transport.h"
#include "kernels/environment.h"
#include "model/activations.h"
#include "model/cache_ahead.h"
#include "model/causal_lm.h"
#include "model/graph_cache.h"
#include "model/order.h"
#include "model/program.h"
#include "model/qwen3.h"
#include "model/rope.h"
#include "model/weights.h"

namespace tiercel::model {

// vLLM-Ascend's: FlashComm in steps of more tokens.
inline constexpr int64_t kFlashCommRows = 1000;

// In which steps ranks add up in one pass with the matmul (StepShape::fuse_sum).
enum class FuseSum { kNever, kWithFlashComm, kAlways };

struct GraphOptions {
  GraphMode mode = GraphMode::kNone;
  std::optional<std::vector<int64_t>> capture_sizes = {};
  std::optional<int64_t> max_capture_size = {};
  bool fuse_norm_quant = true;  // see StepShape
  // FlashComm (StepShape::scatter) in steps of more rows than this, where there are ranks; −1: never.
  int64_t flashcomm_rows = -1;
  FuseSum fuse_sum = FuseSum::kWithFlashComm;
  // Decode-only steps of so many rows do not split keys (StepShape::split_keys).
  std::vector<int64_t> pa_shape_list = {};

  bool SplitsKeys(int64_t rows, int64_t seqs) const;
};

// The weights of each rank of a team. They are only read, so models of teams alike share them.
using SharedWeights = std::shared_ptr<const std::vector<Weights>>;

// One thread at a time calls Prepare and Run, not always the same one. `environment` outlives it.
class CpuCausalLm final : public CausalLm {
 public:
  // `weights` were loaded for a team with as many ranks, and as many workers in each; and, with a transport, for this
  // process's place among the others.
  CpuCausalLm(checkpoint::ModelConfig config, SharedWeights weights, GraphOptions graph, WeightPrefetch prefetch,
              kernels::Environment* environment, std::shared_ptr<comm::Transport> transport = nullptr,
              int stages = 1);
  ~CpuCausalLm() override;  // of the first process: the others are told that this was all

  int64_t vocab_size() const override { return config_.vocab_size; }
  checkpoint::Head head() const override { return ranks_[0].weights.head; }
  int64_t hidden_size() const override { return config_.hidden_size; }
  int64_t max_position() const override { return config_.DerivedMaxModelLen(); }
  int workers() const override;
  int64_t KvBlockBytes(int block_size) const override;
  int64_t WeightBytes() const override;
  int64_t WeightBytesInMemory() const override;
  int64_t ActivationBytes(const RunLimits& limits) const override;
  Status Prepare(const KvOptions& kv, const RunLimits& limits) override;
  Status Run(const StepBatch& batch, UseLogits after) override;
  int max_under_way() const override { return places_.stages; }
  Status Start(const StepBatch& batch, UseLogits after) override;
  Status Finish() override;
  Status Check() override;
  double SecondsBetweenChecks() const override;
  Status Follow() override;
  void EmptyCache() override;
  bool UseIdleTime() override;
  void BindThread() override;
  GraphStats graph_stats() const override;

 private:
  // One rank: its part of the model, and what it runs.
  struct RankState {
    explicit RankState(const Weights& part) : weights(part) {}

    checkpoint::ModelConfig config;
    const Weights& weights;
    PrefetchBytes prefetch;
    RankTeam team;
    ActivationMemory memory;
    CacheAhead cache_ahead;
    GraphCache graphs;
    Program eager;
    std::vector<Program> heads;  // as many as were ever needed; the first num_heads_ are the part's
    const Program* program = nullptr;  // of the part that is run
  };

  // Of several stages: a step that has been started, whose logits are still to come from the last one.
  struct UnderWay {
    LogitGroup group;
    std::optional<UseLogits> after;
    bool is_here = true;
  };

  bool leads() const { return transport_ != nullptr && transport_->process().is_first(); }
  Status PrepareHere();
  void LogFlashComm();
  // Records a Program for each captured size: decode steps of up to the largest are replayed.
  Status Capture();
  void CaptureSize(int64_t rows);
  StepShape ShapeOf(const RankState& rank, int64_t rows, int64_t seqs, int64_t logit_rows) const;
  // Copies a part of a step, of at most kStepRows rows, into the input buffers, and chooses or records
  // each rank's program, and those of the further groups of logit rows.
  Status Stage(const StepBatch& part);
  void Record(RankState* rank, const StepShape& shape);
  // The same once the inputs are there: of so many rows, sequences and logit rows.
  void ChooseProgram(int64_t rows, int64_t seqs, int64_t logit_rows);
  static int64_t KvBlockBytes(const RankState& rank, int block_size);  // in its cache, with all layers
  // How far the part that was staged writes the cache, for CacheAhead.
  void BeginCacheAhead(int64_t rows);
  // Replays the part that was staged, and for each group of its logit rows, the first one `first`, calls `after`
  // on each worker.
  Status Dispatch(int64_t first, int64_t logit_rows, UseLogits after);
  // Of the first stage: replays the part that was staged. Its logits come into `step`, by groups: it remains with the last.
  Status DispatchInStages(int64_t first, int64_t logit_rows, UnderWay* step);
  Status PostLogits(UnderWay* step);
  // Until its logits have come, then calls its `after`, if any are wanted.
  Status UseLogitsOf(UnderWay* step);
  // Of the first process: tells the others what to do, or with which inputs.
  Status Tell(const Order& order);
  Status TellInputs(const StepBatch& part);
  void AddInputs(int peer, const Order& order, std::vector<comm::Transfer>* transfers) const;
  Status FollowStep(const Order& order);
  void CheckBounds(const StepBatch& batch) const;
  void CopyInputs(const StepBatch& batch);
  // The inputs, which all ranks share, and the logits.
  const Activations& inputs() const { return ranks_[0].memory.get(); }

  const comm::RankPlaces places_;
  const checkpoint::ModelConfig config_;  // of the stage
  const SharedWeights weights_;
  const GraphOptions graph_options_;
  const RopeTable rope_;
  kernels::Environment* const environment_;
  const std::shared_ptr<comm::Transport> transport_;  // null: this process is alone
  std::vector<int64_t> head_columns_;  // of every rank's head

  RunLimits limits_;
  KvOptions kv_;
  std::vector<RankState> ranks_;
  RankBuffers buffers_;
  size_t num_heads_ = 0;
  int64_t program_logit_rows_ = 0;  // that the chosen program gives at once
  std::vector<UnderWay> steps_;     // of several stages, in turn
  uint64_t num_started_ = 0, num_finished_ = 0;
  std::vector<UnderWay*> awaited_;  // whose logits have been posted and have not come, the oldest first
  std::vector<comm::Transfer> transfers_;
  bool is_lost_ = false;  // another process has gone
  std::atomic<uint64_t> replayed_{0};
  std::atomic<uint64_t> eager_steps_{0};
};

}  // namespace tiercel::model
