#include "model/activations.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "base/check.h"
#include "base/round_up.h"
#include "kernels/attention_work.h"
#include "model/step_parts.h"

namespace tiercel::model {
namespace {

// Hands out pieces of one buffer; with a null base it only counts.
class Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}

  template <typename T>
  T* Take(int64_t count) {
    T* const piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ = RoundUp(used_ + count * static_cast<int64_t>(sizeof(T)), kAlignment);
    return piece;
  }
  int64_t used() const { return used_; }
  void Rewind(int64_t used) { used_ = used; }

 private:
  // A page: no two workers' own pieces share a cache line or a TLB entry.
  static constexpr int64_t kAlignment = 4096;
  std::byte* base_;
  int64_t used_ = 0;
};

// Leading dimension for rows that a matmul reads (up to the padded k) or writes. A stride of a
// multiple of 1 KiB would put 16 rows into four sets or fewer of a first-level cache; one line more
// spreads them.
int64_t Stride(int64_t columns) {
  const int64_t stride = RoundUp(columns, kKBlock);
  return stride % 512 == 0 ? stride + kKBlock : stride;
}

Rows TakeRows(Arena* arena, int64_t rows, int64_t stride) {
  // The last row may be read up to a whole kKBlock.
  return {arena->Take<BF16>(rows * stride + kKBlock), stride, 0};
}

// Of several ranks the first of the process has them.
void TakeInputs(Arena* arena, int64_t rows, const RunLimits& limits, int64_t max_context,
                Activations* a) {
  a->block_table_stride = (max_context + a->layout.block_size - 1) / a->layout.block_size;
  if (a->rank.index != a->first_here) return;
  a->token_ids = arena->Take<int32_t>(rows);
  a->positions = arena->Take<int32_t>(rows);
  a->kv_slot = arena->Take<int64_t>(rows);
  a->query_start = arena->Take<int32_t>(limits.max_seqs + 1);
  a->context_len = arena->Take<int32_t>(limits.max_seqs);
  a->block_table = arena->Take<int32_t>(limits.max_seqs * a->block_table_stride);
  a->logit_rows = arena->Take<int32_t>(rows);
}

// Whether a linear takes bytes of this kind: kBlocks, or one of the others.
bool TakesBytes(const Weights& weights, bool blocks) {
  const auto one = [=](const Linear& l) { return l.takes_bytes() && (l.input.kind == checkpoint::InputKind::kBlocks) == blocks; };
  const auto any = [&](const Linear& linear) {
    return one(linear) || std::any_of(linear.more.begin(), linear.more.end(), one);
  };
  return any(weights.lm_head) ||
         std::any_of(weights.layers.begin(), weights.layers.end(), [&](const LayerWeights& layer) {
           return any(layer.qkv) || any(layer.o) || any(layer.gate_up) || any(layer.down);
         });
}

// The widest stride of k values among the kinds that are taken; 0: none is.
int64_t WidestStride(const Weights& weights, int64_t k) {
  int64_t stride = 0;
  if (TakesBytes(weights, false)) stride = QuantizedStride(k, checkpoint::InputKind::kPerToken);
  if (TakesBytes(weights, true)) stride = std::max(stride, QuantizedStride(k, checkpoint::InputKind::kBlocks));
  return stride;
}

struct RowCounts {
  int64_t step, chunk, normed;
};

// With several ranks: what they read of each other, and what each has of its own instead.
void TakeRanks(Arena* arena, const checkpoint::ModelConfig& c, const RowCounts& rows, Activations* a) {
  a->part_stride = RoundUp(c.hidden_size, 16);
  a->part_rows = std::min(kChunkRows, 2 * rows.step);
  a->part = arena->Take<float>(a->part_rows * a->part_stride);
  const int64_t few = std::min(rows.step, comm::kFewValues / c.hidden_size);
  a->few_hidden = TakeRows(arena, few, c.hidden_size);
  a->few_logit_hidden = TakeRows(arena, few, c.hidden_size);
}

// What ranks share.
void TakeShared(Arena* arena, const checkpoint::ModelConfig& c, const Weights& weights, const RowCounts& rows, Activations* a) {
  if (a->rank.index != a->first_here) return;
  const int64_t begin = arena->used();
  a->hidden = TakeRows(arena, rows.step, c.hidden_size);
  a->logit_hidden = TakeRows(arena, rows.step, c.hidden_size);
  if (a->rank.count == 1) return;
  const int64_t crossing = arena->used();
  a->crossing = TakeRows(arena, rows.normed, Stride(c.hidden_size));
  // Bytes in their place, unless BF16 rows have a pad: that stays zero.
  const int64_t end = arena->used();
  if (c.hidden_size % kKBlockI8 == 0) arena->Rewind(crossing);
  a->crossing_quantized.data = arena->Take<uint8_t>(rows.normed * WidestStride(weights, c.hidden_size));
  arena->Rewind(std::max(end, arena->used()));
  a->crossing_quantized.row_scale = arena->Take<float>(rows.normed);
  const int64_t bytes = arena->used() - begin;
  a->shared = RegionOf(reinterpret_cast<const std::byte*>(a->hidden.data), 1, bytes, bytes);
}

// What linears of bytes need beside the BF16 buffers.
void TakeQuantized(Arena* arena, const checkpoint::ModelConfig& c, const Weights& weights, int workers,
                   const RowCounts& rows, Activations* a) {
  const int64_t hidden = WidestStride(weights, c.hidden_size);
  if (hidden > 0) {
    const int64_t heads = WidestStride(weights, c.num_heads * c.head_dim);
    const int64_t mlp = WidestStride(weights, c.intermediate_size);
    a->quantized.data = arena->Take<uint8_t>(
        std::max({rows.step * heads, rows.normed * hidden, rows.chunk * mlp}));
    a->quantized.row_scale = arena->Take<float>(rows.step);
    // Pages, and whole blocks.
    a->own_quantized.worker_stride =
        RoundUp(kFewRows * std::max({hidden, heads, mlp}), std::lcm(int64_t{4096}, int64_t{sizeof(kernels::QuantizedBlock)}));
    a->own_quantized.data = arena->Take<uint8_t>(workers * a->own_quantized.worker_stride);
    a->own_quantized.scale_worker_stride = RoundUp(kFewRows, 16);  // a cache line
    a->own_quantized.row_scale =
        arena->Take<float>(workers * a->own_quantized.scale_worker_stride);
  }
  const auto mixed = std::find_if(
      weights.layers.begin(), weights.layers.end(),
      [](const LayerWeights& layer) { return !layer.gate_up.more.empty(); });
  if (mixed != weights.layers.end()) {
    a->gate_up = TakeRows(arena, rows.chunk, Stride(mixed->gate_up.weight.n));
  }
}

// Fills in every pointer but the KV cache's; returns the bytes used.
int64_t LayOut(std::byte* base, const checkpoint::ModelConfig& c, const Weights& weights,
               const kernels::KernelTable& kernels, const RankTeam& team, const KvOptions& kv,
               const RunLimits& limits, Activations* a) {
  const int workers = team.workers;
  a->rank = team.rank;
  a->first_here = team.first_here;
  a->layout = {static_cast<int>(c.num_kv_heads), static_cast<int>(c.head_dim), kv.block_size};
  a->layout.dtype = weights.kv_dtype;
  a->layout.block_stride = c.num_layers * a->layout.BlockSize();
  const int64_t max_context = limits.max_context > 0 ? limits.max_context : c.DerivedMaxModelLen();
  Arena arena(base);
  const int64_t rows = std::min(limits.max_rows, kStepRows);
  const int64_t chunk = std::min(rows, kChunkRows);
  const int64_t normed = std::min(rows, std::max(kChunkRows, limits.logit_group_rows));
  const RowCounts counts = {rows, chunk, normed};
  TakeInputs(&arena, rows, limits, max_context, a);

  a->cos = arena.Take<float>(rows * c.head_dim / 2);
  a->sin = arena.Take<float>(rows * c.head_dim / 2);
  TakeShared(&arena, c, weights, counts, a);
  const int64_t normed_stride = Stride(c.hidden_size);
  a->normed = TakeRows(&arena, normed, normed_stride);
  a->own_normed = {nullptr, normed_stride,
                   RoundUp(kFewRows * normed_stride + kKBlock, 4096 / sizeof(BF16))};
  a->own_normed.data = arena.Take<BF16>(workers * a->own_normed.worker_stride);
  a->attention = TakeRows(&arena, rows, Stride(c.num_heads * c.head_dim));

  const int64_t shared = arena.used();
  a->qkv = TakeRows(&arena, rows, Stride((c.num_heads + 2 * c.num_kv_heads) * c.head_dim));
  const int64_t qkv_end = arena.used();
  // One is done with before the other is written. But the matmul after the MLP multiplies its rows' pad
  // by zeros, and what q, k and v left there need not be finite: a padded one has its own memory, whose
  // pad stays zero.
  if (c.intermediate_size % kKBlock == 0) arena.Rewind(shared);
  a->mlp = TakeRows(&arena, chunk,
                    Stride(RoundUp(c.intermediate_size, kColumnGroup)));
  arena.Rewind(std::max(qkv_end, arena.used()));
  TakeQuantized(&arena, c, weights, workers, counts, a);

  const int64_t head_columns = team.head_columns > 0 ? team.head_columns : weights.lm_head.weight.n;
  a->logits_stride = weights.head == checkpoint::Head::kLogits ? head_columns : RoundUp(c.hidden_size, 16);
  if (team.rank.index == team.first_here) {
    a->logits = arena.Take<float>(team.logit_groups * limits.logit_group_rows * a->logits_stride);
  }
  if (team.rank.count > 1) TakeRanks(&arena, c, counts, a);
  kernels::AttentionArgs attention;
  attention.layout = a->layout;
  attention.num_q_heads = static_cast<int>(c.num_heads);
  attention.ldqkv = a->qkv.stride;
  attention.ldo = a->attention.stride;
  attention.num_seqs = static_cast<int>(limits.max_seqs);
  attention.block_table_stride = a->block_table_stride;
  a->attention_scratch_bytes = RoundUp(kernels.attention_scratch_bytes(attention, workers), 4096);
  a->attention_scratch = arena.Take<std::byte>(workers * a->attention_scratch_bytes);
  a->attention_partials_bytes = kernels::AttentionPartialsBytes(attention, weights.layers[0].qkv.weight.ShareOf(0));
  if (a->attention_partials_bytes > 0) {
    a->attention_partials = arena.Take<std::byte>(a->attention_partials_bytes);
  }
  return arena.used();
}

}  // namespace

int64_t ActivationMemory::Bytes(const checkpoint::ModelConfig& config, const Weights& weights,
                                const kernels::KernelTable& kernels, const RankTeam& team,
                                const KvOptions& kv, const RunLimits& limits) {
  Activations unused;
  return LayOut(nullptr, config, weights, kernels, team, kv, limits, &unused);
}

Expected<ActivationMemory> ActivationMemory::Allocate(const checkpoint::ModelConfig& config,
                                                      const Weights& weights,
                                                      const kernels::KernelTable& kernels,
                                                      const RankTeam& team, const KvOptions& kv,
                                                      const RunLimits& limits) {
  ActivationMemory memory;
  Activations* a = &memory.activations_;
  const int64_t bytes = LayOut(nullptr, config, weights, kernels, team, kv, limits, a);
  ASSIGN_OR_RETURN(memory.buffer_, platform::Buffer::Allocate(bytes));
  LayOut(memory.buffer_.as<std::byte>(), config, weights, kernels, team, kv, limits, a);
  ASSIGN_OR_RETURN(memory.kv_buffer_,
                   platform::Buffer::Allocate(kv.num_blocks * a->layout.block_stride *
                                              static_cast<int64_t>(SizeOf(a->layout.dtype))));
  a->kv = memory.kv_buffer_.as<std::byte>();
  return memory;
}

Status ActivationMemory::Join(std::span<ActivationMemory* const> memories, std::span<const int64_t> head_columns,
                              const comm::RankPlaces& places, comm::Transport* transport, RankBuffers* buffers) {
  const auto ranks = static_cast<size_t>(places.ranks());
  CHECK_EQ(head_columns.size(), ranks);
  CHECK_EQ(std::ssize(memories), places.local);
  if (ranks == 1 && transport == nullptr) return OkStatus();
  const Activations& first = memories[0]->activations_;
  *buffers = RankBuffers();
  buffers->shared = {first.shared};
  buffers->head_columns = {0};
  buffers->places = places;
  buffers->transport = transport;
  for (size_t r = 0; r < ranks; ++r) buffers->head_columns.push_back(buffers->head_columns[r] + head_columns[r]);
  const int64_t part = first.part_rows * first.part_stride;
  const int each = places.sums_first() ? places.local : 1;  // ranks of another process's part
  const int64_t elsewhere = (places.ranks() - places.local) / each + (places.sums_first() ? 1 : 0);
  if (elsewhere > 0) {
    ASSIGN_OR_RETURN(buffers->copies,
                     platform::Buffer::Allocate(elsewhere * part * static_cast<int64_t>(sizeof(float))));
  }
  float* copy = buffers->copies.as<float>();
  if (places.sums_first()) buffers->sum = std::exchange(copy, copy + part);
  const auto add_term = [&](const float* data, int of_ranks) {
    buffers->terms.push_back(data);
    buffers->term_ranks.push_back(of_ranks);
  };
  for (int r = 0; r < places.ranks(); ++r) {
    if (r == places.first_here()) buffers->first_term_here = static_cast<int>(buffers->terms.size());
    if (!places.IsHere(r)) {
      buffers->parts.push_back(r % each == 0 ? copy : nullptr);
      if (r % each != 0) continue;
      add_term(copy, each);
      copy += part;
      continue;
    }
    Activations& a = memories[static_cast<size_t>(r - places.first_here())]->activations_;
    a.token_ids = first.token_ids;
    a.positions = first.positions;
    a.kv_slot = first.kv_slot;
    a.query_start = first.query_start;
    a.context_len = first.context_len;
    a.block_table = first.block_table;
    a.logit_rows = first.logit_rows;
    a.hidden = first.hidden;
    a.logit_hidden = first.logit_hidden;
    a.crossing = first.crossing;
    a.crossing_quantized = first.crossing_quantized;
    buffers->parts.push_back(a.part);
    add_term(a.part, 1);
    a.of_ranks = buffers;
  }
  float* const logits = first.logits;
  for (ActivationMemory* memory : memories) {
    Activations& a = memory->activations_;
    a.logits = logits + buffers->head_columns[static_cast<size_t>(a.rank.index)];
  }
  return OkStatus();
}

}  // namespace tiercel::model
