#include "model/cpu_causal_lm.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "kernels/attention_work.h"
#include "model/kv_block.h"
#include "model/step_parts.h"

namespace tiercel::model {

bool GraphOptions::SplitsKeys(int64_t rows, int64_t seqs) const {
  return rows != seqs ||
         std::find(pa_shape_list.begin(), pa_shape_list.end(), rows) == pa_shape_list.end();
}

CpuCausalLm::CpuCausalLm(ModelConfig config, Weights weights, GraphOptions graph,
                         WeightPrefetch prefetch, kernels::Environment* environment)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      graph_options_(std::move(graph)),
      prefetch_(PlanPrefetch(prefetch, weights_, environment->team->size(),
                             environment->topology.l2_bytes)),
      rope_(MakeRopeTable(config_.rope, config_.head_dim, config_.max_position_embeddings)),
      environment_(environment) {}

int CpuCausalLm::workers() const { return environment_->team->size(); }

int64_t CpuCausalLm::KvBlockBytes(int block_size) const {
  kernels::KvLayout layout{static_cast<int>(config_.num_kv_heads),
                           static_cast<int>(config_.head_dim), block_size};
  layout.dtype = weights_.kv_dtype;
  return config_.num_layers * layout.BlockSize() * static_cast<int64_t>(SizeOf(layout.dtype));
}

int64_t CpuCausalLm::ActivationBytes(const RunLimits& limits) const {
  return ActivationMemory::Bytes(config_, weights_, *environment_->kernels, workers(), KvOptions{},
                                 limits);
}

Status CpuCausalLm::Prepare(const KvOptions& kv, const RunLimits& limits) {
  if (kv.block_size < kKvBlockMultiple || kv.block_size % kKvBlockMultiple != 0) {
    return InvalidArgument("block_size: found {}, expected a multiple of {} (128 is the default)",
                           kv.block_size, kKvBlockMultiple)
        .WithParam("block_size");
  }
  CHECK_GE(kv.num_blocks, 2);
  CHECK(limits.max_rows >= 1 && limits.max_seqs >= 1 && limits.logit_group_rows >= 1);
  limits_ = limits;
  num_blocks_ = kv.num_blocks;
  ASSIGN_OR_RETURN(memory_, ActivationMemory::Allocate(config_, weights_, *environment_->kernels,
                                                       workers(), kv, limits));
  if (!graph_options_.pa_shape_list.empty() &&
      kernels::AttentionOwnsGroups(static_cast<int>(config_.num_kv_heads), workers())) {
    LOG_INFO("pa_shape_list has no effect: each of {} workers has whole KV heads ({} in all)",
             workers(), config_.num_kv_heads);
  }
  return Capture();
}

StepShape CpuCausalLm::ShapeOf(int64_t rows, int64_t seqs, int64_t logit_rows) const {
  StepShape shape{.rows = rows, .seqs = seqs, .logit_rows = logit_rows};
  shape.head_rows = limits_.logit_group_rows;
  shape.prefetch = prefetch_;
  shape.fuse_norm_quant = graph_options_.fuse_norm_quant;
  shape.split_keys = graph_options_.SplitsKeys(rows, seqs);
  return shape;
}

// Records one Program for each captured batch size that a step of this engine can have.
Status CpuCausalLm::Capture() {
  graphs_ = GraphCache();
  if (graph_options_.mode == GraphMode::kNone) return OkStatus();
  CaptureOptions options;
  options.sizes = graph_options_.capture_sizes;
  options.max_size = graph_options_.max_capture_size;
  options.max_num_seqs = limits_.max_seqs;
  options.max_num_batched_tokens = limits_.max_rows;
  ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, ResolveCaptureSizes(options));
  const int64_t largest =
      std::min({limits_.max_seqs, limits_.logit_group_rows, limits_.max_rows, kStepRows});
  std::string names;
  for (const int64_t size : sizes) {
    if (size > largest) break;
    Program program;
    RecordForward(config_, weights_, rope_, memory_.get(), ShapeOf(size, size, size), &program);
    graphs_.Add(size, std::move(program));
    names += fmt::format("{}{}", names.empty() ? "" : ", ", size);
  }
  LOG_INFO("captured decode steps of {} sequences",
           names.empty() ? "no size: every capture size exceeds max_num_seqs, so 0" : names);
  return OkStatus();
}

void CpuCausalLm::CheckBounds(const StepBatch& batch) const {
  const int64_t rows = std::ssize(batch.token_ids);
  const int64_t seqs = std::ssize(batch.context_len);
  CHECK_GE(rows, 1);
  CHECK_LE(rows, limits_.max_rows);
  CHECK_GE(seqs, 1);
  CHECK_LE(seqs, limits_.max_seqs);
  CHECK_EQ(std::ssize(batch.positions), rows);
  CHECK_EQ(std::ssize(batch.query_start), seqs + 1);
  CHECK_EQ(batch.query_start[seqs], rows);
  CHECK(std::adjacent_find(batch.logit_rows.begin(), batch.logit_rows.end(),
                           std::greater_equal<>()) == batch.logit_rows.end());
  CHECK(batch.logit_rows.empty() ||
        (batch.logit_rows.front() >= 0 && batch.logit_rows.back() < rows));
}

// Token placeholders are resolved here: the step that wrote `sampled` is over.
void CpuCausalLm::CopyInputs(const StepBatch& batch) {
  const Activations& a = memory_.get();
  for (int64_t t = 0; t < std::ssize(batch.token_ids); ++t) {
    int32_t id = batch.token_ids[t];
    if (id < 0) {
      CHECK_LT(-1 - int64_t{id}, std::ssize(batch.sampled));
      id = batch.sampled[-1 - id];
    }
    CHECK_MSG(id >= 0 && id < config_.vocab_size, "token {} in row {}", id, t);
    a.token_ids[t] = id;
  }
  std::copy(batch.positions.begin(), batch.positions.end(), a.positions);
  std::copy(batch.query_start.begin(), batch.query_start.end(), a.query_start);
  std::copy(batch.context_len.begin(), batch.context_len.end(), a.context_len);
  std::copy(batch.logit_rows.begin(), batch.logit_rows.end(), a.logit_rows);

  const int64_t block_size = a.layout.block_size;
  for (int64_t s = 0; s < std::ssize(batch.context_len); ++s) {
    const int32_t* blocks = batch.block_tables[s];
    const int64_t used = (batch.context_len[s] + block_size - 1) / block_size;
    CHECK_LE(used, a.block_table_stride);
    std::copy_n(blocks, used, a.block_table + s * a.block_table_stride);
    for (int64_t t = batch.query_start[s]; t < batch.query_start[s + 1]; ++t) {
      const int64_t position = batch.positions[t];
      CHECK_LT(position, batch.context_len[s]);
      const int64_t block = blocks[position / block_size];
      CHECK_MSG(block > 0 && block < num_blocks_, "block {} of {}", block, num_blocks_);
      a.kv_slot[t] = block * block_size + position % block_size;
    }
  }
}

// Rows [from, to) of a decode step become sequences of one token that read the dummy block 0 and
// write nowhere.
void CpuCausalLm::AddPadding(int64_t from, int64_t to) {
  const Activations& a = memory_.get();
  for (int64_t row = from; row < to; ++row) {
    a.token_ids[row] = 0;
    a.positions[row] = 0;
    a.kv_slot[row] = -1;
    a.query_start[row + 1] = static_cast<int32_t>(row + 1);
    a.context_len[row] = 1;
    a.block_table[row * a.block_table_stride] = 0;
    a.logit_rows[row] = static_cast<int32_t>(row);
  }
}

const Program& CpuCausalLm::Stage(const StepBatch& part) {
  CopyInputs(part);
  const StepShape shape = ShapeOf(std::ssize(part.token_ids), std::ssize(part.context_len),
                                  std::ssize(part.logit_rows));
  num_heads_ = 0;
  // A pure decode step: one row a sequence, every row's logits wanted.
  if (!graphs_.empty() && shape.rows == shape.seqs && shape.rows == shape.logit_rows) {
    if (const auto* entry = graphs_.Find(shape.rows); entry != nullptr) {
      AddPadding(shape.rows, entry->first);
      replayed_.fetch_add(1, std::memory_order_relaxed);
      return entry->second;
    }
  }
  eager_steps_.fetch_add(1, std::memory_order_relaxed);
  const Activations& a = memory_.get();
  RecordForward(config_, weights_, rope_, a, shape, &eager_);
  for (int64_t first = shape.head_rows; first < shape.logit_rows; first += shape.head_rows) {
    if (num_heads_ == heads_.size()) heads_.emplace_back();
    RecordHead(config_, weights_, rope_, a, shape, first, &heads_[num_heads_++]);
  }
  return eager_;
}

void CpuCausalLm::BindThread() { environment_->kernels->init_thread(); }

Status CpuCausalLm::Run(const StepBatch& batch,
                        FunctionRef<void(const LogitGroup& group, int worker)> after) {
  CheckBounds(batch);
  const Activations& a = memory_.get();
  platform::WorkerTeam& team = *environment_->team;
  StepParts parts(batch, kStepRows);
  while (parts.Next()) {
    const Program& program = Stage(parts.part());
    const int64_t first = parts.first_logit_row();
    const int64_t end = first + std::ssize(parts.part().logit_rows);
    const int64_t group_rows = limits_.logit_group_rows;
    team.Run([&](int worker) {
      program.Replay(*environment_->kernels, team, worker);
      LogitGroup group{first, std::min(group_rows, end - first), a.logits, a.logits_stride};
      if (group.count > 0) after(group, worker);
      for (size_t i = 0; i < num_heads_; ++i) {
        team.Barrier();  // the logits before these are done with
        heads_[i].Replay(*environment_->kernels, team, worker);
        group.first += group_rows;
        group.count = std::min(group_rows, end - group.first);
        after(group, worker);
      }
    });
  }
  return OkStatus();
}

GraphStats CpuCausalLm::graph_stats() const {
  return {replayed_.load(std::memory_order_relaxed), eager_steps_.load(std::memory_order_relaxed)};
}

}  // namespace tiercel::model
