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

OwnRows OwnOf(const Input& x) {
  return {x.rows.worker_stride, x.quantized.worker_stride, x.quantized.scale_worker_stride};
}

// `rows` as an operator writes them for `linear`.
kernels::QuantizedRows QuantizedFor(const Linear& linear, const QuantRows& rows) {
  kernels::QuantizedRows quantized;
  quantized.data = rows.data;
  quantized.ld = QuantizedStride(linear.weight.k);
  quantized.row_scale = linear.input.kind == InputKind::kPerToken ? rows.row_scale : nullptr;
  quantized.scale = linear.input.scale;
  quantized.offset = linear.input.offset;
  return quantized;
}

// Bytes in the place of BF16 rows that nobody needs.
Input BytesIn(const Rows& rows) { return {{}, {reinterpret_cast<uint8_t*>(rows.data)}}; }

// One recording: the model, its buffers and the shape of the step. Shapes in the comments:
// T rows, R logit rows, H hidden size, G KV groups of (q heads + k + v) · D columns.
class Forward {
 public:
  Forward(const ModelConfig& config, const Weights& weights, const RopeTable& rope,
          const Activations& activations, const StepShape& shape, Program* program)
      : c_(config), w_(weights), rope_(rope), a_(activations), shape_(shape), p_(*program) {
    if (shape.rows < kPrefetchRows) prefetch_ = shape.prefetch;
    scattered_ = shape.scatter;
    CHECK(!scattered_ || activations.of_ranks != nullptr);
  }

  void Record() {
    Embed();
    const int64_t last = c_.num_layers - 1;
    for (int64_t i = 0; i < last; ++i) {
      Fetch(i);
      Attention(w_.layers[i], KvOf(i));
      Mlp(w_.layers[i], a_.hidden, shape_.rows);
    }
    Fetch(last);
    // Beyond the last layer's keys and values only the rows that become logits matter.
    WriteKv(w_.layers[last], KvOf(last));
    if (shape_.logit_rows == 0) return;
    Attend(w_.layers[last], KvOf(last));
    const Rows tail = LogitRows();
    Mlp(w_.layers[last], tail, shape_.logit_rows);
    GiveRows(0);
  }

  // logits [≤ head_rows, vocabulary] = lm_head(norm(the logit rows from `first` on)), or of a model
  // that pools [≤ head_rows, H], without lm_head.
  void GiveRows(int64_t first);

 private:
  void Embed();
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
  void Mlp(const LayerWeights& layer, const Rows& hidden, int64_t rows);
  Rows LogitRows();
  Rows LogitRowsOfOwners();

  void* KvOf(int64_t layer) const {
    return a_.kv + layer * a_.layout.BlockSize() * static_cast<int64_t>(SizeOf(a_.layout.dtype));
  }
  kernels::RmsNormArgs NormOf(const Rows& x, const NormWeights& weight, int64_t rows) const;
  Input Norm(const Rows& hidden, int64_t first, const NormWeights& weight, const Linear& next,
             int64_t rows);
  void NormOwnRows(kernels::RmsNormArgs norm, int64_t rows);
  void GatherNormed(const Input& normed, bool quantized, int64_t rows);
  Input SwiGlu(const Input& x, const LayerWeights& layer, int64_t rows);
  bool TakesStaticBytes(const Linear& linear) const;
  Input InputOf(const Linear& linear, const Rows& x, int64_t rows);
  Input Quantize(const Linear& linear, const Rows& x, int64_t rows);
  void AddProduct(const Input& x, const Linear& linear, const Rows& hidden, int64_t first, int64_t rows,
                  int64_t prefetch);
  void Project(const Input& x, const Linear& linear, Epilogue epilogue, const Output& out,
               int64_t rows, int64_t prefetch);

  const ModelConfig& c_;
  const Weights& w_;
  const RopeTable& rope_;
  const Activations& a_;
  const StepShape shape_;
  PrefetchBytes prefetch_;
  Program& p_;
  int num_parts_ = 0;  // that were given to the other ranks so far
  bool scattered_ = false;  // each rank has its own rows of `hidden` alone
};

// Ranks share out the rows of a step by chunks, the parts in which it passes through the MLP.
template <typename F>
void ForEachChunk(int64_t rows, F&& f) {
  for (int64_t begin = 0; begin < rows; begin += kMlpRows) f(begin, std::min(kMlpRows, rows - begin));
}

Rows From(const Rows& rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride, rows.worker_stride};
}

// hidden [T, H] = embedding[token_ids]; cos, sin [T, D / 2] for all layers.
void Forward::Embed() {
  kernels::EmbedArgs embed;
  embed.token_ids = a_.token_ids;
  embed.table = w_.embedding;
  embed.packed = w_.embedding == nullptr ? w_.tied.data() : nullptr;
  embed.num_packed = static_cast<int>(w_.tied.size());
  embed.out = a_.hidden.data;
  embed.hidden = c_.hidden_size;
  embed.rows = shape_.rows;
  p_.Embed(embed);

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
  const Input x = Norm(a_.hidden, 0, layer.input_norm, layer.qkv, shape_.rows);  // [T, H]
  // [T, G · (q + k + v) · D]
  Project(x, layer.qkv, Epilogue::kStore, a_.qkv, shape_.rows, prefetch_.qkv);

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
  AddProduct(x, layer.o, a_.hidden, 0, shape_.rows, prefetch_.o);
}

// hidden += down(silu(gate(x)) · up(x)) with x = norm(hidden)
void Forward::Mlp(const LayerWeights& layer, const Rows& hidden, int64_t rows) {
  for (int64_t first = 0; first < rows; first += kMlpRows) {
    const int64_t part = std::min(kMlpRows, rows - first);
    const Input x = Norm(hidden, first, layer.post_attention_norm, layer.gate_up, part);  // [part, H]
    const Input inner = SwiGlu(x, layer, part);  // [part, intermediate]
    AddProduct(inner, layer.down, hidden, first, part, prefetch_.down);
  }
}

// hidden[first, first + rows) += x · Wᵀ. Of several ranks each has a slice of x's columns and of W: then
// the sum of their products.
void Forward::AddProduct(const Input& x, const Linear& linear, const Rows& hidden, int64_t first,
                         int64_t rows, int64_t prefetch) {
  if (a_.of_ranks == nullptr) {
    return Project(x, linear, Epilogue::kAdd, From(hidden, first), rows, prefetch);
  }
  CHECK(linear.more.empty());
  const int turn = num_parts_++ % 2;
  Project(x, linear, Epilogue::kStoreF32, {a_.part[turn], a_.part_stride}, rows, prefetch);
  const std::vector<BF16*>& copies =
      hidden.data == a_.hidden.data ? a_.of_ranks->hidden : a_.of_ranks->logit_hidden;
  const comm::RankParts parts{a_.of_ranks->parts[turn].data(), a_.part_stride};
  const comm::RankRows sums{copies.data(), hidden.stride, c_.hidden_size, first, rows};
  if (!scattered_) return p_.AllReduce(parts, sums);
  p_.MeetRanks();
  ForEachChunk(rows, [&](int64_t begin, int64_t count) {
    p_.AddParts({parts.parts, parts.ld, begin},
                {sums.rows, sums.ld, sums.n, first + begin, count}, comm::OwnedBy(a_.rank, count));
  });
}

// The operator that makes `linear`'s input can quantize it by itself.
bool Forward::TakesStaticBytes(const Linear& linear) const {
  return shape_.fuse_norm_quant && linear.is_int8() && linear.more.empty() &&
         linear.input.kind == InputKind::kStatic;
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

// hidden[logit_rows] [R, H]; where every row is one, hidden itself.
Rows Forward::LogitRows() {
  if (std::exchange(scattered_, false)) return LogitRowsOfOwners();
  if (shape_.logit_rows == shape_.rows) return a_.hidden;
  p_.GatherRows({a_.hidden.data, shape_.rows, a_.logit_rows, a_.logit_hidden.data, c_.hidden_size,
                 shape_.logit_rows});
  return a_.logit_hidden;
}

// The same where each rank has its own rows.
Rows Forward::LogitRowsOfOwners() {
  BF16* const* copies = a_.of_ranks->hidden.data();
  p_.MeetRanks();
  if (shape_.logit_rows == shape_.rows) {
    ForEachChunk(shape_.rows, [&](int64_t begin, int64_t count) {
      p_.GatherRanks(comm::RankRows{copies, a_.hidden.stride, c_.hidden_size, begin, count});
    });
    return a_.hidden;
  }
  p_.GatherRowsOfOwners({a_.hidden.data, shape_.rows, a_.logit_rows, a_.logit_hidden.data,
                         c_.hidden_size, shape_.logit_rows},
                        copies, kMlpRows);
  return a_.logit_hidden;
}

void Forward::GiveRows(int64_t first) {
  const int64_t rows = std::min(shape_.head_rows, shape_.logit_rows - first);
  Rows hidden = shape_.logit_rows == shape_.rows ? a_.hidden : a_.logit_hidden;
  hidden.data += first * hidden.stride;
  if (w_.head == Head::kHidden) {
    kernels::RmsNormArgs norm = NormOf(hidden, w_.final_norm, rows);
    norm.out_f32 = a_.logits;
    norm.ldo = a_.logits_stride;
    if (a_.rank.index == 0) p_.RmsNorm(norm);  // all ranks have the same
  } else {
    const Input x = Norm(hidden, 0, w_.final_norm, w_.lm_head, rows);  // [rows, H]
    Project(x, w_.lm_head, Epilogue::kStoreF32, {a_.logits, a_.logits_stride}, rows,
            prefetch_.lm_head);
  }
  p_.Publish(RegionOf(a_.logits, rows, a_.logits_stride, a_.logits_stride));
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
Input Forward::Norm(const Rows& hidden, int64_t first, const NormWeights& weight, const Linear& next,
                    int64_t rows) {
  const bool few = rows <= kFewRows && !scattered_;
  const bool quantize = shape_.fuse_norm_quant && next.is_int8() && next.more.empty();
  Input out;
  kernels::RmsNormArgs norm = NormOf(From(hidden, first), weight, rows);
  if (quantize) {
    out.quantized = scattered_ ? a_.crossing : few ? a_.own_quantized : a_.quantized;
    norm.quantized = QuantizedFor(next, out.quantized);
  } else {
    out.rows = few ? a_.own_normed : a_.normed;
    norm.out = out.rows.data;
    norm.ldo = out.rows.stride;
  }
  if (scattered_) {
    NormOwnRows(norm, rows);
    GatherNormed(out, quantize && next.input.kind == InputKind::kPerToken, rows);
  } else {
    p_.RmsNorm(norm, OwnOf(out));
  }
  return quantize ? out : InputOf(next, out.rows, rows);
}

void Forward::NormOwnRows(kernels::RmsNormArgs norm, int64_t rows) {
  ForEachChunk(rows, [&](int64_t begin, int64_t count) {
    const Range own = comm::OwnedBy(a_.rank, count);
    if (own.size() == 0) return;
    kernels::RmsNormArgs mine = norm;
    const int64_t first = begin + own.begin;
    mine.x += first * norm.hidden;
    if (mine.out != nullptr) mine.out += first * norm.ldo;
    if (mine.quantized.data != nullptr) mine.quantized.data += first * norm.quantized.ld;
    if (mine.quantized.row_scale != nullptr) mine.quantized.row_scale += first;
    mine.rows = own.size();
    p_.RmsNorm(mine);
  });
}

// Normed rows are what crosses between the ranks: in bytes where the next linear takes these.
void Forward::GatherNormed(const Input& normed, bool has_row_scales, int64_t rows) {
  p_.MeetRanks();
  ForEachChunk(rows, [&](int64_t begin, int64_t count) {
    if (normed.quantized.data == nullptr) {
      p_.GatherRanks(comm::RankRows{a_.of_ranks->normed.data(), normed.rows.stride, c_.hidden_size,
                                    begin, count});
      return;
    }
    p_.GatherRanks(comm::RankRowsOf<uint8_t>{a_.of_ranks->crossing.data(),
                                             QuantizedStride(c_.hidden_size), c_.hidden_size, begin,
                                             count});
    if (has_row_scales) {
      p_.GatherRanks(comm::RankRowsOf<float>{a_.of_ranks->crossing_scale.data(), 1, 1, begin, count});
    }
  });
}

// x as `linear` takes it. A linear of several matrices gets BF16 rows: each quantizes for itself.
Input Forward::InputOf(const Linear& linear, const Rows& x, int64_t rows) {
  if (!linear.is_int8() || !linear.more.empty()) return {x, {}};
  return Quantize(linear, x, rows);
}

Input Forward::Quantize(const Linear& linear, const Rows& x, int64_t rows) {
  const bool few = rows <= kFewRows;
  const Input out{x, few ? a_.own_quantized : a_.quantized};
  kernels::QuantizeArgs quantize;
  quantize.x = x.data;
  quantize.ldx = x.stride;
  quantize.n = linear.weight.k;
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
    const Input input = part.is_int8() ? Quantize(part, x.rows, rows) : x;
    p_.Linear({input, part, how, out, rows, prefetch});
  };
  add(linear, epilogue);
  for (const Linear& part : linear.more) add(part, Epilogue::kAdd);
}

}  // namespace

void RecordForward(const ModelConfig& config, const Weights& weights, const RopeTable& rope,
                   const Activations& activations, const StepShape& shape, Program* program) {
  CHECK_GT(shape.rows, 0);
  CHECK_GT(shape.seqs, 0);
  CHECK(shape.logit_rows == 0 || shape.head_rows > 0);
  program->Begin(weights.layers[0].qkv.weight.workers, activations.rank);
  Forward(config, weights, rope, activations, shape, program).Record();
}

void RecordHead(const ModelConfig& config, const Weights& weights, const RopeTable& rope,
                const Activations& activations, const StepShape& shape, int64_t first,
                Program* program) {
  CHECK(first > 0 && first < shape.logit_rows);
  program->Begin(weights.layers[0].qkv.weight.workers, activations.rank);
  Forward(config, weights, rope, activations, shape, program).GiveRows(first);
}

}  // namespace tiercel::model
