#include "model/qwen3.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/attention_work.h"

namespace tiercel::model {
namespace {

using kernels::Epilogue;

// One recording: the model, its buffers and the shape of the step. Shapes in the comments:
// T rows, R logit rows, H hidden size, G KV groups of (q heads + k + v) · D columns.
class Forward {
 public:
  Forward(const ModelConfig& config, const Weights& weights, const RopeTable& rope,
          const Activations& activations, const StepShape& shape, Program* program)
      : c_(config), w_(weights), rope_(rope), a_(activations), shape_(shape), p_(*program) {}

  void Record() {
    Embed();
    const int64_t last = c_.num_layers - 1;
    for (int64_t i = 0; i < last; ++i) {
      Attention(w_.layers[i], KvOf(i));
      Mlp(w_.layers[i], a_.hidden, shape_.rows);
    }
    // Beyond the last layer's keys and values only the rows that become logits matter.
    WriteKv(w_.layers[last], KvOf(last));
    if (shape_.logit_rows == 0) return;
    Attend(w_.layers[last], KvOf(last));
    const Rows tail = LogitRows();
    Mlp(w_.layers[last], tail, shape_.logit_rows);
    Head(tail);
  }

 private:
  void Embed();
  void Attention(const LayerWeights& layer, BF16* kv) {
    WriteKv(layer, kv);
    Attend(layer, kv);
  }
  void WriteKv(const LayerWeights& layer, BF16* kv);
  void Attend(const LayerWeights& layer, BF16* kv);
  void Mlp(const LayerWeights& layer, const Rows& hidden, int64_t rows);
  Rows LogitRows();
  void Head(const Rows& hidden);

  BF16* KvOf(int64_t layer) const { return a_.kv + layer * a_.layout.BlockSize(); }
  // Where every worker owns whole KV groups, what it wrote is what it reads, from the q, k and v
  // projection to the attention's output.
  bool OwnsGroups() const {
    return kernels::AttentionOwnsGroups(static_cast<int>(c_.num_kv_heads),
                                        w_.layers[0].qkv.weight.workers);
  }
  Rows Norm(const Rows& x, const std::vector<float>& weight, int64_t rows);
  void Project(const Rows& x, const Linear& linear, Epilogue epilogue, const Rows& out,
               int64_t rows);

  const ModelConfig& c_;
  const Weights& w_;
  const RopeTable& rope_;
  const Activations& a_;
  const StepShape shape_;
  Program& p_;
};

Rows From(const Rows& rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride, rows.worker_stride};
}

// hidden [T, H] = embedding[token_ids]; cos, sin [T, D / 2] for all layers.
void Forward::Embed() {
  kernels::EmbedArgs embed;
  embed.token_ids = a_.token_ids;
  embed.table = w_.embedding;
  embed.packed = w_.embedding == nullptr ? &w_.lm_head.weight : nullptr;
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
  p_.Barrier();
}

// q, k, v = qkv(norm(hidden)); q = rope(norm(q)); the cache gets rope(norm(k)) and v
void Forward::WriteKv(const LayerWeights& layer, BF16* kv) {
  const Rows x = Norm(a_.hidden, layer.input_norm, shape_.rows);  // [T, H]
  Project(x, layer.qkv, Epilogue::kStore, a_.qkv, shape_.rows);   // [T, G · (q + k + v) · D]
  if (!OwnsGroups()) p_.Barrier();

  kernels::QkNormRopeArgs rope;
  rope.qkv = a_.qkv.data;
  rope.ldqkv = a_.qkv.stride;
  rope.q_norm = layer.q_norm.empty() ? nullptr : layer.q_norm.data();
  rope.k_norm = layer.k_norm.empty() ? nullptr : layer.k_norm.data();
  rope.eps = c_.rms_norm_eps;
  rope.cos = a_.cos;
  rope.sin = a_.sin;
  rope.kv = kv;
  rope.layout = a_.layout;
  rope.kv_slot = a_.kv_slot;
  rope.num_q_heads = static_cast<int>(c_.num_heads);
  rope.rows = shape_.rows;
  p_.QkNormRope(rope);
}

// hidden += o(attention(q, cache))
void Forward::Attend(const LayerWeights& layer, BF16* kv) {
  if (!OwnsGroups()) p_.Barrier();
  kernels::AttentionArgs attention;
  attention.qkv = a_.qkv.data;
  attention.ldqkv = a_.qkv.stride;
  attention.kv = kv;
  attention.layout = a_.layout;
  attention.num_q_heads = static_cast<int>(c_.num_heads);
  attention.scale = 1.0f / std::sqrt(static_cast<float>(c_.head_dim));
  attention.query_start = a_.query_start;
  attention.context_len = a_.context_len;
  attention.block_table = a_.block_table;
  attention.block_table_stride = a_.block_table_stride;
  attention.num_seqs = static_cast<int>(shape_.seqs);
  attention.out = a_.attention.data;
  attention.ldo = a_.attention.stride;
  attention.scratch = a_.attention_scratch;
  p_.Attention(attention, a_.attention_scratch_bytes);  // [T, q heads · D]
  p_.Barrier();

  Project(a_.attention, layer.o, Epilogue::kAdd, a_.hidden, shape_.rows);
  p_.Barrier();
}

// hidden += down(silu(gate(x)) · up(x)) with x = norm(hidden)
void Forward::Mlp(const LayerWeights& layer, const Rows& hidden, int64_t rows) {
  for (int64_t first = 0; first < rows; first += kMlpRows) {
    const int64_t part = std::min(kMlpRows, rows - first);
    const Rows x = Norm(From(hidden, first), layer.post_attention_norm, part);  // [part, H]
    Project(x, layer.gate_up, Epilogue::kSwiGlu, a_.mlp, part);  // [part, intermediate]
    p_.Barrier();
    Project(a_.mlp, layer.down, Epilogue::kAdd, From(hidden, first), part);
    p_.Barrier();
  }
}

// hidden[logit_rows] [R, H]; where every row is one, hidden itself.
Rows Forward::LogitRows() {
  if (shape_.logit_rows == shape_.rows) return a_.hidden;
  p_.GatherRows({a_.hidden.data, a_.logit_rows, a_.logit_hidden.data, c_.hidden_size,
                 shape_.logit_rows});
  p_.Barrier();
  return a_.logit_hidden;
}

// logits [R, vocabulary] = lm_head(norm(hidden))
void Forward::Head(const Rows& hidden) {
  const Rows x = Norm(hidden, w_.final_norm, shape_.logit_rows);  // [R, H]
  kernels::MatmulArgs head;
  head.x = x.data;
  head.ldx = x.stride;
  head.weight = &w_.lm_head.weight;
  head.bias = w_.lm_head.bias_data();
  head.epilogue = Epilogue::kStoreF32;
  head.out_f32 = a_.logits + shape_.first_logit_row * a_.logits_stride;
  head.ldo = a_.logits_stride;
  head.rows = shape_.logit_rows;
  p_.Matmul(head, x.worker_stride);
  p_.Barrier();
}

// The normed rows of the residual stream: few are computed by every worker for itself, many are
// shared out. Either way they can be read at once.
Rows Forward::Norm(const Rows& x, const std::vector<float>& weight, int64_t rows) {
  const bool few = rows <= kFewRows;
  const Rows& out = few ? a_.own_normed : a_.normed;
  kernels::RmsNormArgs norm;
  norm.x = x.data;
  norm.weight = weight.data();
  norm.out = out.data;
  norm.hidden = c_.hidden_size;
  norm.rows = rows;
  norm.eps = c_.rms_norm_eps;
  if (few) {
    p_.RmsNormOnEachWorker(norm, out.worker_stride);
  } else {
    p_.RmsNorm(norm);
    p_.Barrier();
  }
  return out;
}

// out = x · Wᵀ, or with kAdd out += x · Wᵀ, or with kSwiGlu the gated product of W's two halves.
void Forward::Project(const Rows& x, const Linear& linear, Epilogue epilogue, const Rows& out,
                      int64_t rows) {
  kernels::MatmulArgs matmul;
  matmul.x = x.data;
  matmul.ldx = x.stride;
  matmul.weight = &linear.weight;
  matmul.bias = linear.bias_data();
  matmul.epilogue = epilogue;
  matmul.residual = epilogue == Epilogue::kAdd ? out.data : nullptr;
  matmul.out = out.data;
  matmul.ldo = out.stride;
  matmul.rows = rows;
  p_.Matmul(matmul, x.worker_stride);
}

}  // namespace

void RecordForward(const ModelConfig& config, const Weights& weights, const RopeTable& rope,
                   const Activations& activations, const StepShape& shape, Program* program) {
  CHECK_GT(shape.rows, 0);
  CHECK_GT(shape.seqs, 0);
  program->Clear();
  Forward(config, weights, rope, activations, shape, program).Record();
}

}  // namespace tiercel::model
