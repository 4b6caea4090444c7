#include "model/cpu_causal_lm.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/round_up.h"
#include "comm/agreement.h"
#include "kernels/attention_work.h"
#include "model/kv_block.h"
#include "model/order.h"
#include "model/step_parts.h"

namespace tiercel::model {

namespace {

checkpoint::ModelConfig StageOf(checkpoint::ModelConfig config, const Weights& weights) {
  config.num_layers = std::ssize(weights.layers);
  return config;
}

}  // namespace

bool GraphOptions::SplitsKeys(int64_t rows, int64_t seqs) const {
  return rows != seqs ||
         std::find(pa_shape_list.begin(), pa_shape_list.end(), rows) == pa_shape_list.end();
}

CpuCausalLm::CpuCausalLm(checkpoint::ModelConfig config, SharedWeights weights, GraphOptions graph,
                         WeightPrefetch prefetch, kernels::Environment* environment,
                         std::shared_ptr<comm::Transport> transport, int stages)
    : places_(comm::RankPlaces::Of(transport == nullptr ? comm::Process{} : transport->process(), stages,
                                   environment->team->ranks())),
      config_(StageOf(std::move(config), (*weights)[0])),
      weights_(std::move(weights)),
      graph_options_(std::move(graph)),
      rope_(MakeRopeTable(config_.rope, config_.head_dim, config_.max_position_embeddings)),
      environment_(environment),
      transport_(std::move(transport)) {
  CHECK_EQ(std::ssize(*weights_), places_.local);
  int64_t all_columns = 0;
  for (int r = 0; r < places_.ranks(); ++r) {
    const bool has_head = (*weights_)[0].head == checkpoint::Head::kLogits;
    head_columns_.push_back(has_head ? HeadColumnsOf(config_, {r, places_.ranks()}) : 0);
    all_columns += head_columns_.back();
  }
  ranks_.reserve(weights_->size());
  if (leads() && places_.stages > 1) steps_.resize(static_cast<size_t>(places_.stages));
  for (int r = 0; r < places_.local; ++r) {
    RankState& rank = ranks_.emplace_back((*weights_)[static_cast<size_t>(r)]);
    rank.team = {environment->team->size() / places_.local, places_.RankHere(r), places_.first_here(), all_columns};
    if (leads()) rank.team.logit_groups = places_.stages;
    CHECK(!places_.is_last_stage() ||
          rank.weights.lm_head.weight.n == head_columns_[static_cast<size_t>(rank.team.rank.index)]);
    rank.config = PartOf(config_, rank.team.rank);
    rank.prefetch =
        PlanPrefetch(prefetch, rank.weights, rank.team.workers, environment->topology.l2_bytes);
  }
}

CpuCausalLm::~CpuCausalLm() {
  if (leads() && !transport_->failed() && !is_lost_) (void)Tell({.kind = Order::Kind::kEnd});
}

int CpuCausalLm::workers() const { return environment_->team->size(); }

int64_t CpuCausalLm::WeightBytes() const {
  int64_t bytes = 0;
  for (const RankState& rank : ranks_) bytes += rank.weights.bytes;
  return bytes;
}

int64_t CpuCausalLm::WeightBytesInMemory() const {
  int64_t bytes = 0;
  for (const RankState& rank : ranks_) bytes += rank.weights.bytes_in_memory;
  return bytes;
}

void CpuCausalLm::EmptyCache() {
  if (leads()) (void)Tell({.kind = Order::Kind::kEmptyCache});  // the next step would fail, too
  for (RankState& rank : ranks_) {
    rank.memory.EmptyCache();
    rank.cache_ahead.Forget();
  }
}

bool CpuCausalLm::UseIdleTime() {
  bool any = false;
  for (RankState& rank : ranks_) any |= rank.cache_ahead.BeginIdle();
  if (!any) return false;
  platform::WorkerTeam& team = *environment_->team;
  const int rank_size = team.size() / team.ranks();
  team.Run([&](int worker) { ranks_[static_cast<size_t>(worker / rank_size)].cache_ahead.Touch(worker % rank_size); });
  return true;
}

void CpuCausalLm::BeginCacheAhead(int64_t rows) {
  const int64_t* const slots = inputs().kv_slot;
  const int64_t blocks = *std::max_element(slots, slots + rows) / kv_.block_size + 1;
  for (RankState& rank : ranks_) {
    const int64_t block_bytes = KvBlockBytes(rank, kv_.block_size);
    rank.cache_ahead.BeginStep(blocks * block_bytes, rows * block_bytes / kv_.block_size);
  }
}

// Of fewer KV heads than ranks several have the same.
int64_t CpuCausalLm::KvBlockBytes(int block_size) const {
  int64_t bytes = 0;
  for (const RankState& rank : ranks_) bytes += KvBlockBytes(rank, block_size);
  return bytes;
}

int64_t CpuCausalLm::KvBlockBytes(const RankState& rank, int block_size) {
  kernels::KvLayout layout{static_cast<int>(rank.config.num_kv_heads), static_cast<int>(rank.config.head_dim), block_size};
  layout.dtype = rank.weights.kv_dtype;
  return rank.config.num_layers * layout.BlockSize() * static_cast<int64_t>(SizeOf(layout.dtype));
}

int64_t CpuCausalLm::ActivationBytes(const RunLimits& limits) const {
  int64_t bytes = 0;
  for (const RankState& rank : ranks_) {
    bytes += ActivationMemory::Bytes(rank.config, rank.weights, *environment_->kernels, rank.team,
                                     KvOptions{}, limits);
  }
  return bytes;
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
  kv_ = kv;
  if (leads()) RETURN_IF_ERROR(Tell({.kind = Order::Kind::kPrepare, .kv = kv, .limits = limits}));
  const Status here = PrepareHere();
  return transport_ == nullptr ? here : comm::Agree(here, transport_.get());
}

Status CpuCausalLm::PrepareHere() {
  std::vector<ActivationMemory*> memories;
  for (RankState& rank : ranks_) {
    ASSIGN_OR_RETURN(rank.memory,
                     ActivationMemory::Allocate(rank.config, rank.weights, *environment_->kernels,
                                                rank.team, kv_, limits_));
    const int64_t longest = limits_.max_context > 0 ? limits_.max_context : max_position();
    rank.cache_ahead = CacheAhead(rank.memory.get().kv, rank.memory.cache_bytes(),
                                  CeilDiv(longest, kv_.block_size) * KvBlockBytes(rank, kv_.block_size),
                                  rank.team.workers);
    memories.push_back(&rank.memory);
  }
  RETURN_IF_ERROR(ActivationMemory::Join(memories, head_columns_, places_, transport_.get(), &buffers_));
  const RankState& first = ranks_[0];
  if (!graph_options_.pa_shape_list.empty() &&
      kernels::AttentionOwnsGroups(static_cast<int>(first.config.num_kv_heads),
                                   first.weights.layers[0].qkv.weight.ShareOf(0))) {
    LOG_INFO("pa_shape_list has no effect: each of {} workers has whole KV heads ({} in all)",
             workers(), config_.num_kv_heads);
  }
  if (first.team.rank.count > 1 && graph_options_.flashcomm_rows >= 0) LogFlashComm();
  return Capture();
}

void CpuCausalLm::LogFlashComm() {
  RankState& first = ranks_[0];
  LOG_INFO("FlashComm: in steps of more than {} tokens each of {} ranks norms its own rows, and takes the "
           "others' from them", graph_options_.flashcomm_rows, first.team.rank.count);
  const int64_t rows = std::min(limits_.max_rows, kStepRows);
  if (rows <= graph_options_.flashcomm_rows) return;
  const auto counts = [&](bool scatter) {
    StepShape shape = ShapeOf(first, rows, 1, 1);
    shape.scatter = scatter;
    RecordForward(first.config, first.weights, rope_, first.memory.get(), shape, &first.eager);
    return first.eager.counts();
  };
  const RankCounts with = counts(true), without = counts(false);
  LOG_INFO("FlashComm: of {} tokens a rank norms {} rows instead of {}, and reads {:.0f} MB that others have "
           "computed instead of {:.0f}", rows, with.norm_rows, without.norm_rows, with.bytes_of_others * 1e-6,
           without.bytes_of_others * 1e-6);
}

StepShape CpuCausalLm::ShapeOf(const RankState& rank, int64_t rows, int64_t seqs,
                               int64_t logit_rows) const {
  StepShape shape{.rows = rows, .seqs = seqs, .logit_rows = logit_rows};
  shape.head_rows = limits_.logit_group_rows;
  shape.prefetch = rank.prefetch;
  shape.fuse_norm_quant = graph_options_.fuse_norm_quant;
  shape.scatter = rank.team.rank.count > 1 && graph_options_.flashcomm_rows >= 0 &&
                  rows > graph_options_.flashcomm_rows;
  shape.fuse_sum = graph_options_.fuse_sum == FuseSum::kAlways ||
                   (graph_options_.fuse_sum == FuseSum::kWithFlashComm && shape.scatter);
  shape.split_keys = graph_options_.SplitsKeys(rows, seqs);
  return shape;
}

Status CpuCausalLm::Capture() {
  for (RankState& rank : ranks_) rank.graphs = GraphCache();
  if (graph_options_.mode == GraphMode::kNone) return OkStatus();
  CaptureOptions options;
  options.sizes = graph_options_.capture_sizes;
  options.max_size = graph_options_.max_capture_size;
  options.max_num_seqs = limits_.max_seqs;
  options.max_num_batched_tokens = limits_.max_rows;
  if (graph_options_.flashcomm_rows >= 0) options.multiples_of = places_.ranks();
  ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, ResolveCaptureSizes(options));
  const int64_t largest =
      std::min({limits_.max_seqs, limits_.logit_group_rows, limits_.max_rows, kStepRows});
  std::string names;
  for (const int64_t size : sizes) {
    if (size > largest) break;
    CaptureSize(size);
    names += fmt::format("{}{}", names.empty() ? "" : ", ", size);
  }
  LOG_INFO("captured decode steps of {} sequences",
           names.empty() ? "no size: every capture size exceeds max_num_seqs, so 0" : names);
  return OkStatus();
}

void CpuCausalLm::CaptureSize(int64_t rows) {
  for (RankState& rank : ranks_) {
    RecordForward(rank.config, rank.weights, rope_, rank.memory.get(), ShapeOf(rank, rows, rows, rows),
                  rank.graphs.Add(rows));
  }
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
  const Activations& a = inputs();
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
    const int64_t used = CeilDiv(batch.context_len[s], block_size);
    CHECK_LE(used, a.block_table_stride);
    std::copy_n(blocks, used, a.block_table + s * a.block_table_stride);
    for (int64_t t = batch.query_start[s]; t < batch.query_start[s + 1]; ++t) {
      const int64_t position = batch.positions[t];
      CHECK_LT(position, batch.context_len[s]);
      const int64_t block = blocks[position / block_size];
      CHECK_MSG(block > 0 && block < kv_.num_blocks, "block {} of {}", block, kv_.num_blocks);
      a.kv_slot[t] = block * block_size + position % block_size;
    }
  }
}

Status CpuCausalLm::Stage(const StepBatch& part) {
  CopyInputs(part);
  if (leads()) RETURN_IF_ERROR(TellInputs(part));
  ChooseProgram(std::ssize(part.token_ids), std::ssize(part.context_len), std::ssize(part.logit_rows));
  return OkStatus();
}

void CpuCausalLm::ChooseProgram(int64_t rows, int64_t seqs, int64_t logit_rows) {
  BeginCacheAhead(rows);
  num_heads_ = 0;
  // A pure decode step: one row a sequence, every row's logits wanted.
  const bool replays = rows == seqs && rows == logit_rows && rows <= ranks_[0].graphs.largest();
  const bool is_new = !replays || ranks_[0].graphs.Find(rows) == nullptr;
  (is_new ? eager_steps_ : replayed_).fetch_add(1, std::memory_order_relaxed);
  program_logit_rows_ = std::min(logit_rows, limits_.logit_group_rows);
  if (replays) {
    if (is_new) CaptureSize(rows);
    for (RankState& rank : ranks_) rank.program = rank.graphs.Find(rows);
    return;
  }
  if (places_.is_last_stage() && logit_rows > limits_.logit_group_rows) {
    num_heads_ = static_cast<size_t>((logit_rows - 1) / limits_.logit_group_rows);
  }
  for (RankState& rank : ranks_) Record(&rank, ShapeOf(rank, rows, seqs, logit_rows));
}

void CpuCausalLm::Record(RankState* rank, const StepShape& shape) {
  const Activations& a = rank->memory.get();
  RecordForward(rank->config, rank->weights, rope_, a, shape, &rank->eager);
  rank->program = &rank->eager;
  if (rank->heads.size() < num_heads_) rank->heads.resize(num_heads_);
  for (size_t i = 0; i < num_heads_; ++i) {
    const int64_t first = (static_cast<int64_t>(i) + 1) * shape.head_rows;
    RecordHead(rank->config, rank->weights, rope_, a, shape, first, &rank->heads[i]);
  }
}

void CpuCausalLm::BindThread() { environment_->kernels->init_thread(); }

Status CpuCausalLm::Run(const StepBatch& batch, UseLogits after) {
  RETURN_IF_ERROR(Start(batch, after));
  return Finish();
}

Status CpuCausalLm::Start(const StepBatch& batch, UseLogits after) {
  CheckBounds(batch);
  UnderWay* step = nullptr;
  if (!steps_.empty()) {
    CHECK_LT(num_started_ - num_finished_, steps_.size());
    const size_t i = num_started_++ % steps_.size();
    const Activations& a = inputs();
    step = &steps_[i];
    *step = {.group = {.logits = a.logits + static_cast<int64_t>(i) * limits_.logit_group_rows * a.logits_stride,
                       .stride = a.logits_stride},
             .after = after};
  }
  StepParts parts(batch, kStepRows);
  while (parts.Next()) {
    if (step != nullptr) RETURN_IF_ERROR(UseLogitsOf(step));  // of the part before
    RETURN_IF_ERROR(Stage(parts.part()));
    const int64_t first = parts.first_logit_row(), logit_rows = std::ssize(parts.part().logit_rows);
    RETURN_IF_ERROR(step == nullptr ? Dispatch(first, logit_rows, after) : DispatchInStages(first, logit_rows, step));
  }
  return OkStatus();
}

Status CpuCausalLm::Dispatch(int64_t first, int64_t logit_rows, UseLogits after) {
  const Activations& a = inputs();
  platform::WorkerTeam& team = *environment_->team;
  const int rank_size = team.size() / team.ranks();
  const int64_t group_rows = limits_.logit_group_rows;
  team.Run([&](int worker) {
    const RankState& rank = ranks_[static_cast<size_t>(worker / rank_size)];
    rank.cache_ahead.Touch(worker % rank_size);
    rank.program->Replay(*environment_->kernels, team, worker % rank_size);
    LogitGroup group{first, std::min(group_rows, logit_rows), a.logits, a.logits_stride};
    const auto use = [&] {
      if (transport_ == nullptr || !transport_->failed()) after(group, worker);
    };
    if (group.count > 0) use();
    for (size_t i = 0; i < num_heads_; ++i) {
      team.BarrierOfRanks();  // the logits before these are done with
      rank.heads[i].Replay(*environment_->kernels, team, worker % rank_size);
      group.first += group_rows;
      group.count = std::min(group_rows, first + logit_rows - group.first);
      use();
    }
  });
  return transport_ == nullptr ? OkStatus() : transport_->Exchange({}, {});  // whether one before has failed
}

GraphStats CpuCausalLm::graph_stats() const {
  return {replayed_.load(std::memory_order_relaxed), eager_steps_.load(std::memory_order_relaxed)};
}

}  // namespace tiercel::model
