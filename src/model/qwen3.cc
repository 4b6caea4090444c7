#include "model/qwen3.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "model/linear_args.h"

namespace tiercel::model {
namespace {

using kernels::Epilogue;
using Input = LinearInput;
using Output = LinearOutput;

// Fewer rows of its own than this a rank does not compute apart from the others': it would read the weights
// once more for too little work. At 128 FLOP a byte they come from a last-level cache in time.
constexpr int64_t kFusedRows = 128;

OwnRows OwnOf(const Input& x) {
  return {x.rows.worker_stride, x.quantized.worker_stride, x.quantized.scale_worker_stride};
}

// `rows` as an operator writes them for `linear`.
kernels::QuantizedRows QuantizedFor(const Linear& linear, const QuantRows& rows) {
  kernels::QuantizedRows quantized;
  quantized.data = rows.data;
  quantized.ld = QuantizedStride(linear.weight.k, linear.input.kind);
  quantized.blocks = linear.input.kind == checkpoint::InputKind::kBlocks;
  quantized.row_scale = linear.input.kind == checkpoint::InputKind::kPerToken ? rows.row_scale : nullptr;
  quantized.scale = linear.input.scale;
  quantized.offset = linear.input.offset;
  return quantized;
}

// Bytes in the place of BF16 rows that nobody needs.
Input BytesIn(const Rows& rows) { return {{}, {reinterpret_cast<uint8_t*>(rows.data)}}; }

Rows From(const Rows& rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride, rows.worker_stride};
}

// A linear's input from row `first` on.
Input From(const Input& x, const Linear& linear, int64_t first) {
  Input from = x;
  if (x.rows.data != nullptr) from.rows = From(x.rows, first);
  if (x.quantized.data != nullptr) from.quantized.data += first * QuantizedStride(linear.weight.k, linear.input.kind);
  if (x.quantized.row_scale != nullptr) from.quantized.row_scale += first;
  return from;
}

// Rows of the residual stream. Of several ranks each has all of few rows for itself (kEach); many are one
// memory that they share, where each adds to its own (kOwners).
struct Residual {
  Rows rows;
  Who who = Who::kEach;
};

// One recording: the model, its buffers and the shape of the step. Shapes in the comments:
// T rows, R logit rows, H hidden size, G KV groups of (q heads + k + v) · D columns.
class Forward {
 public:
  Forward(const checkpoint::ModelConfig& config, const Weights& weights, const RopeTable& rope,
          const Activations& activations, const StepShape& shape, Program* program)
      : c_(config), w_(weights), rope_(rope), a_(activations), shape_(shape), p_(*program) {
    if (shape.rows < kPrefetchRows) prefetch_ = shape.prefetch;
    hidden_ = ResidualOf(shape.rows, a_.hidden, a_.few_hidden);
    tail_ = shape.logit_rows == shape.rows ? hidden_
                                           : ResidualOf(shape.logit_rows, a_.logit_hidden, a_.few_logit_hidden);
  }

  void Record() {
    IsFirstStage() ? Embed() : ReceiveHidden();
    RopeAngles();
    const int64_t last = c_.num_layers - 1;
    for (int64_t i = 0; i < (IsLastStage() ? last : c_.num_layers); ++i) {
      Fetch(i);
      Attention(w_.layers[i], KvOf(i));
      Mlp(w_.layers[i], hidden_, shape_.rows);
    }
    if (!IsLastStage()) return HandOn();
    Fetch(last);
    // Beyond the last layer's keys and values only the rows that become logits matter.
    WriteKv(w_.layers[last], KvOf(last));
    if (shape_.logit_rows == 0) return;
    Attend(w_.layers[last], KvOf(last));
    GatherLogitRows();
    Mlp(w_.layers[last], tail_, shape_.logit_rows);
    GiveRows(0);
  }

  // logits [≤ head_rows, vocabulary] = lm_head(norm(the logit rows from `first` on)), or of a model
  // that pools [≤ head_rows, H], without lm_head. In the last stage.
  void GiveRows(int64_t first);

 private:
  bool IsFirstStage() const { return a_.of_ranks == nullptr || a_.of_ranks->places.is_first_stage(); }
  bool IsLastStage() const { return a_.of_ranks == nullptr || a_.of_ranks->places.is_last_stage(); }
  void Embed();
  void RopeAngles();
  void ReceiveHidden();
  void HandOn();
  // Of weights on disk the next layer's come while layer i is computed; the one before it is done.
  void Fetch(int64_t i) {
    const int64_t last = c_.num_layers - 1;
    p_.Fetch(w_.layers[i < last ? i + 1 : 0].on_disk, w_.layers[i > 0 ? i - 1 : last].on_disk);
  }
  void Attention(const LayerWeights& layer, void* kv) {
    WriteKv(layer, kv);
    Attend(layer, kv);
  }
  void WriteKv(const LayerWeights& layer, void* kv);
  void Attend(const LayerWeights& layer, void* kv);
  void Mlp(const LayerWeights& layer, const Residual& hidden, int64_t rows);
  void GatherLogitRows();

  Residual ResidualOf(int64_t rows, const Rows& shared, const Rows& few) const {
    if (a_.rank.count == 1) return {shared};
    if (comm::AddsAlone(rows * c_.hidden_size)) return {few};
    return {shared, Who::kOwners};
  }
  void* KvOf(int64_t layer) const {
    return a_.kv + layer * a_.layout.BlockSize() * static_cast<int64_t>(SizeOf(a_.layout.dtype));
  }
  kernels::RmsNormArgs NormOf(const Rows& x, const NormWeights& weight, int64_t rows) const;
  Input Norm(const Residual& hidden, int64_t first, const NormWeights& weight, const Linear& next,
             int64_t rows);
  Input SwiGlu(const Input& x, const LayerWeights& layer, int64_t rows);
  bool TakesStaticBytes(const Linear& linear) const;
  Input InputOf(const Linear& linear, const Rows& x, int64_t rows);
  Input Quantize(const Linear& linear, const Rows& x, int64_t rows);
  void AddProduct(const Input& x, const Linear& linear, const Residual& hidden, int64_t first,
                  int64_t rows, int64_t prefetch);
  void AddProductOfRanks(const Input& x, const Linear& linear, const Rows& hidden, Who who, int64_t rows,
                         int64_t prefetch);
  kernels::RankParts PartsOf(int64_t rows);
  void Project(const Input& x, const Linear& linear, Epilogue epilogue, const Output& out,
               int64_t rows, int64_t prefetch);

  const checkpoint::ModelConfig& c_;
  const Weights& w_;
  const RopeTable& rope_;
  const Activations& a_;
  const StepShape shape_;
  PrefetchBytes prefetch_;
  Program& p_;
  Residual hidden_, tail_;  // of the step's rows, and of those that become logits
  int num_parts_ = 0;       // of few rows, that were computed so far
};

// A step passes in chunks through what needs room for each row.
template <typename F>
void ForEachChunk(int64_t rows, F&& f) {
  for (int64_t begin = 0; begin < rows; begin += kChunkRows) f(begin, std::min(kChunkRows, rows - begin));
}

// hidden [T, H] = embedding[token_ids]
void Forward::Embed() {
  kernels::EmbedArgs embed;
  embed.token_ids = a_.token_ids;
  embed.table = w_.embedding;
  embed.packed = w_.embedding == nullptr ? w_.packed_embedding.data() : nullptr;
  embed.num_packed = static_cast<int>(w_.packed_embedding.size());
  embed.out = hidden_.rows.data;
  embed.hidden = c_.hidden_size;
  embed.rows = shape_.rows;
  p_.Embed(embed, hidden_.who);
}

// hidden [T, H] as the stage before has left it: what each process's ranks own, or what every rank has of few rows, which
// comes once and is copied.
void Forward::ReceiveHidden() {
  const bool few = hidden_.rows.data != a_.hidden.data;
  const auto rows_of = [&](int64_t first, int64_t rows) {
    return RegionOf(From(a_.hidden, first).data, rows, c_.hidden_size, c_.hidden_size);
  };
  if (few) {
    p_.ReceiveRows(rows_of(0, shape_.rows), Who::kEach);
    p_.Meet();
    return p_.GatherRows({a_.hidden.data, shape_.rows, nullptr, hidden_.rows.data, c_.hidden_size, shape_.rows}, Who::kEach);
  }
  ForEachChunk(shape_.rows, [&](int64_t first, int64_t rows) { p_.ReceiveRows(rows_of(first, rows), hidden_.who); });
  p_.Meet();
  ForEachChunk(shape_.rows, [&](int64_t first, int64_t rows) { p_.Received(rows_of(first, rows)); });
}

// The same for the stage behind.
void Forward::HandOn() {
  ForEachChunk(shape_.rows, [&](int64_t first, int64_t rows) {
    p_.SendRows(RegionOf(From(hidden_.rows, first).data, rows, c_.hidden_size, c_.hidden_size), hidden_.who);
  });
  p_.Meet();
}

// cos, sin [T, D / 2] for all layers
void Forward::RopeAngles() {
  kernels::RopeTableArgs table;
  table.positions = a_.positions;
  table.inv_freq = rope_.inv_freq.data();
  table.attention_factor = rope_.attention_factor;
  table.cos = a_.cos;
  table.sin = a_.sin;
  table.half = c_.head_dim / 2;
  table.rows = shape_.rows;
  p_.RopeTable(table);
}

// q, k, v = qkv(norm(hidden)); q = rope(norm(q)); the cache gets rope(norm(k)) and v
void Forward::WriteKv(const LayerWeights& layer, void* kv) {
  ForEachChunk(shape_.rows, [&](int64_t first, int64_t rows) {
    const Input x = Norm(hidden_, first, layer.input_norm, layer.qkv, rows);  // [rows, H]
    // [rows, G · (q + k + v) · D]
    Project(x, layer.qkv, Epilogue::kStore, From(a_.qkv, first), rows, prefetch_.qkv);
  });

  kernels::QkNormRopeArgs rope;
  rope.qkv = a_.qkv.data;
  rope.ldqkv = a_.qkv.stride;
  rope.q_norm = layer.q_norm.weight_data();
  rope.k_norm = layer.k_norm.weight_data();
  rope.q_norm_bias = layer.q_norm.bias_data();
  rope.k_norm_bias = layer.k_norm.bias_data();
  rope.eps = c_.rms_norm_eps;
  rope.cos = a_.cos;
  rope.sin = a_.sin;
  rope.kv = kv;
  rope.layout = a_.layout;
  rope.kv_scales = layer.kv.view();
  rope.kv_slot = a_.kv_slot;
  rope.num_q_heads = static_cast<int>(c_.num_heads);
  rope.rows = shape_.rows;
  p_.QkNormRope(rope);
}

// hidden += o(attention(q, cache))
void Forward::Attend(const LayerWeights& layer, void* kv) {
  kernels::AttentionArgs attention;
  attention.qkv = a_.qkv.data;
  attention.ldqkv = a_.qkv.stride;
  attention.kv = kv;
  attention.layout = a_.layout;
  attention.kv_scales = layer.kv.view();
  attention.num_q_heads = static_cast<int>(c_.num_heads);
  attention.scale = 1.0f / std::sqrt(static_cast<float>(c_.head_dim));
  attention.query_start = a_.query_start;
  attention.context_len = a_.context_len;
  attention.block_table = a_.block_table;
  attention.block_table_stride = a_.block_table_stride;
  attention.num_seqs = static_cast<int>(shape_.seqs);
  Input x = {a_.attention, {}};
  const bool quantize = TakesStaticBytes(layer.o);
  if (quantize) {
    x = BytesIn(a_.attention);
    attention.quantized = QuantizedFor(layer.o, x.quantized);
  } else {
    attention.out = a_.attention.data;
    attention.ldo = a_.attention.stride;
  }
  attention.scratch = a_.attention_scratch;
  if (shape_.split_keys) attention.partials = a_.attention_partials;
  p_.Attention(attention, shape_.rows,
               {a_.attention_scratch_bytes, a_.attention_partials_bytes});  // [T, q heads · D]

  if (!quantize) x = InputOf(layer.o, a_.attention, shape_.rows);
  AddProduct(x, layer.o, hidden_, 0, shape_.rows, prefetch_.o);
}

// hidden += down(silu(gate(x)) · up(x)) with x = norm(hidden)
void Forward::Mlp(const LayerWeights& layer, const Residual& hidden, int64_t all_rows) {
  ForEachChunk(all_rows, [&](int64_t first, int64_t rows) {
    const Input x = Norm(hidden, first, layer.post_attention_norm, layer.gate_up, rows);  // [rows, H]
    const Input inner = SwiGlu(x, layer, rows);  // [rows, intermediate]
    AddProduct(inner, layer.down, hidden, first, rows, prefetch_.down);
  });
}

// hidden[first, first + rows) += x · Wᵀ. Of several ranks each has a slice of x's columns and of W: then
// the sum of their products.
void Forward::AddProduct(const Input& x, const Linear& linear, const Residual& hidden, int64_t first,
                         int64_t rows, int64_t prefetch) {
  if (a_.rank.count == 1) {
    return Project(x, linear, Epilogue::kAdd, From(hidden.rows, first), rows, prefetch);
  }
  CHECK(linear.more.empty());
  ForEachChunk(rows, [&](int64_t begin, int64_t count) {
    AddProductOfRanks(From(x, linear, begin), linear, From(hidden.rows, first + begin), hidden.who, count,
                      prefetch);
  });
}

// The same for one chunk.
void Forward::AddProductOfRanks(const Input& x, const Linear& linear, const Rows& hidden, Who who,
                                int64_t rows, int64_t prefetch) {
  kernels::RankParts parts = PartsOf(rows);
  Output part(a_.part + parts.offset, parts.ld);
  part.of_first_rank = parts.parts[0] + parts.offset;
  const bool fuse = shape_.fuse_sum && who == Who::kOwners && rows >= kFusedRows * a_.rank.count;
  if (!fuse) {
    p_.Linear({x, linear, Epilogue::kStoreF32, part, rows, prefetch});
    return p_.AddParts({parts, hidden.data, hidden.stride, hidden.data, hidden.stride, c_.hidden_size, rows},
                       who);
  }
  const Range own = comm::OwnedBy(a_.rank, rows);
  p_.Linear({x, linear, Epilogue::kStoreF32, part, rows, 0, {0, own.begin}});
  p_.Linear({x, linear, Epilogue::kStoreF32, part, rows, 0, {own.end, rows}});
  parts.own = a_.of_ranks->first_term_here + a_.rank.index - a_.first_here;
  Output sum(hidden);
  sum.parts = parts;
  p_.Linear({x, linear, Epilogue::kAddParts, sum, rows, 0, own});
}

// Where the ranks' next parts lie.
kernels::RankParts Forward::PartsOf(int64_t rows) {
  const RankBuffers& ranks = *a_.of_ranks;
  kernels::RankParts parts{ranks.terms.data(), static_cast<int>(ranks.terms.size()), -1, a_.part_stride, 0,
                           ranks.term_ranks.data()};
  const int64_t half = a_.part_rows / 2;
  if (rows <= half) parts.offset = num_parts_++ % 2 * half * parts.ld;
  return parts;
}

// The operator that makes `linear`'s input can quantize it by itself.
bool Forward::TakesStaticBytes(const Linear& linear) const {
  return shape_.fuse_norm_quant && linear.more.empty() &&
         linear.input.kind == checkpoint::InputKind::kStatic;
}

// silu(gate(x)) · up(x), as the down projection takes it
Input Forward::SwiGlu(const Input& x, const LayerWeights& layer, int64_t rows) {
  const Linear& gate_up = layer.gate_up;
  const Linear& down = layer.down;
  if (!gate_up.more.empty()) {
    // Gate and up are quantized in different ways: no one matmul has both in its epilogue.
    Project(x, gate_up, Epilogue::kStore, a_.gate_up, rows, prefetch_.gate_up);
    p_.SwiGlu({a_.gate_up.data, a_.gate_up.stride, a_.mlp.data, a_.mlp.stride, gate_up.weight.n / 2,
               rows});
  } else if (gate_up.is_int8() && TakesStaticBytes(down)) {
    const Input inner = BytesIn(a_.mlp);
    Project(x, gate_up, Epilogue::kSwiGlu, Output(QuantizedFor(down, inner.quantized)), rows,
            prefetch_.gate_up);
    return inner;
  } else {
    Project(x, gate_up, Epilogue::kSwiGlu, a_.mlp, rows, prefetch_.gate_up);
  }
  return InputOf(down, a_.mlp, rows);
}

// The logit rows' residual stream = hidden[logit_rows] [R, H]; where every row is one, hidden itself.
void Forward::GatherLogitRows() {
  if (shape_.logit_rows == shape_.rows) return;
  p_.GatherRows({hidden_.rows.data, shape_.rows, a_.logit_rows, tail_.rows.data, c_.hidden_size,
                 shape_.logit_rows},
                tail_.who);
}

void Forward::GiveRows(int64_t first) {
  const int64_t rows = std::min(shape_.head_rows, shape_.logit_rows - first);
  if (w_.head == checkpoint::Head::kHidden) {
    kernels::RmsNormArgs norm = NormOf(From(tail_.rows, first), w_.final_norm, rows);
    norm.out_f32 = a_.logits;
    norm.ldo = a_.logits_stride;
    p_.RmsNorm(norm, {}, Who::kFirst);
  } else {
    const Input x = Norm(tail_, first, w_.final_norm, w_.lm_head, rows);  // [rows, H]
    Project(x, w_.lm_head, Epilogue::kStoreF32, {a_.logits, a_.logits_stride}, rows,
            prefetch_.lm_head);
  }
  const int64_t width = w_.head == checkpoint::Head::kHidden ? c_.hidden_size : a_.logits_stride;
  p_.Publish(RegionOf(a_.logits, rows, a_.logits_stride, width), w_.head == checkpoint::Head::kLogits);
}

// The norm of rows of the residual stream, but for where it goes.
kernels::RmsNormArgs Forward::NormOf(const Rows& x, const NormWeights& weight, int64_t rows) const {
  kernels::RmsNormArgs norm;
  norm.x = x.data;
  norm.weight = weight.weight_data();
  norm.bias = weight.bias_data();
  norm.hidden = c_.hidden_size;
  norm.rows = rows;
  norm.eps = c_.rms_norm_eps;
  return norm;
}

// The normed rows [first, first + rows) of the residual stream, as `next` takes them: few are computed by
// every worker for itself, many are shared out. Either way they can be read at once.
Input Forward::Norm(const Residual& hidden, int64_t first, const NormWeights& weight, const Linear& next,
                    int64_t rows) {
  const bool crosses = shape_.scatter && hidden.who == Who::kOwners;
  const bool few = rows <= kFewRows && !crosses;
  // A gather from BF16 costs less than the norm of one value after the other.
  const bool quantize =
      shape_.fuse_norm_quant && next.takes_bytes() && next.more.empty() && next.input.order.empty();
  Input out;
  kernels::RmsNormArgs norm = NormOf(From(hidden.rows, first), weight, rows);
  if (quantize) {
    out.quantized = crosses ? a_.crossing_quantized : few ? a_.own_quantized : a_.quantized;
    norm.quantized = QuantizedFor(next, out.quantized);
  } else {
    out.rows = crosses ? a_.crossing : few ? a_.own_normed : a_.normed;
    norm.out = out.rows.data;
    norm.ldo = out.rows.stride;
  }
  p_.RmsNorm(norm, OwnOf(out), crosses ? Who::kOwners : Who::kEach);
  return quantize ? out : InputOf(next, out.rows, rows);
}

// x as `linear` takes it. A linear of several matrices gets BF16 rows: each quantizes for itself.
Input Forward::InputOf(const Linear& linear, const Rows& x, int64_t rows) {
  if (!linear.takes_bytes() || !linear.more.empty()) return {x, {}};
  return Quantize(linear, x, rows);
}

Input Forward::Quantize(const Linear& linear, const Rows& x, int64_t rows) {
  const bool few = rows <= kFewRows;
  const Input out{x, few ? a_.own_quantized : a_.quantized};
  kernels::QuantizeArgs quantize;
  quantize.x = x.data;
  quantize.ldx = x.stride;
  quantize.n = linear.weight.k;
  if (!linear.input.order.empty()) quantize.order = linear.input.order.data();
  quantize.rows = rows;
  quantize.out = QuantizedFor(linear, out.quantized);
  p_.Quantize(quantize, OwnOf(out), x.worker_stride);
  return out;
}

// The linear of all its matrices.
void Forward::Project(const Input& x, const Linear& linear, Epilogue epilogue, const Output& out,
                      int64_t rows, int64_t prefetch) {
  if (linear.more.empty()) return p_.Linear({x, linear, epilogue, out, rows, prefetch});
  // Shards that are quantized in different ways: each matrix has zeros in the others' columns, so
  // the sum is exact.
  const auto add = [&](const Linear& part, Epilogue how) {
    const Input input = part.takes_bytes() ? Quantize(part, x.rows, rows) : x;
    p_.Linear({input, part, how, out, rows, prefetch});
  };
  add(linear, epilogue);
  for (const Linear& part : linear.more) add(part, Epilogue::kAdd);
}

void Begin(const Weights& weights, const Activations& activations, Program* program) {
  program->Begin(weights.layers[0].qkv.weight.ShareOf(0), activations.rank, activations.of_ranks);
}

}  // namespace

void RecordForward(const checkpoint::ModelConfig& config, const Weights& weights, const RopeTable& rope,
                   const Activations& activations, const StepShape& shape, Program* program) {
  CHECK_GT(shape.rows, 0);
  CHECK_GT(shape.seqs, 0);
  CHECK(shape.logit_rows == 0 || shape.head_rows > 0);
  Begin(weights, activations, program);
  Forward(config, weights, rope, activations, shape, program).Record();
}

void RecordHead(const checkpoint::ModelConfig& config, const Weights& weights, const RopeTable& rope,
                const Activations& activations, const StepShape& shape, int64_t first,
                Program* program) {
  CHECK(first > 0 && first < shape.logit_rows);
  Begin(weights, activations, program);
  Forward(config, weights, rope, activations, shape, program).GiveRows(first);
}

}  // namespace tiercel::model
