// The operators of the forward pass: argument structs and the table of one ISA's kernels.
//
// Every operator is SPMD: each worker of the team calls it with its own Share and does its own
// part; the caller puts a barrier where a later operator reads what another worker wrote. No
// operator allocates, locks or waits. Activations are row-major BF16, accumulation is FP32, each
// output element has one accumulation order that does not depend on the number of rows, on the
// share, or on the other rows (batch invariance). Rounding to BF16 happens only where an output
// is stored. Preconditions are CHECKed by the caller once (at recording), not by kernels.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "kernels/kv_layout.h"
#include "tensor/packed_matrix.h"

namespace tiercel::kernels {

// out[t, :] = row token_ids[t] of the table; ids are within [0, vocab). Split by tokens.
struct EmbedArgs {
  const int32_t* token_ids = nullptr;    // [rows]
  const BF16* table = nullptr;           // [vocab, hidden] row-major, or null: then `packed`
  // A tied lm_head: k = hidden, its columns in one matrix or, among ranks, in one after the other; n of all
  // together ≥ vocab.
  const PackedMatrix* packed = nullptr;  // [num_packed]
  int num_packed = 1;
  BF16* out = nullptr;                   // [rows, hidden]
  int64_t hidden = 0;
  int64_t rows = 0;
};

// Where an operator writes the quantized activations of a W8A8 linear, and how it scales them. The
// bytes are unsigned, u = q + 128 with q in [−128, 127]: what vpdpbusd and tdpbusd multiply by signed
// weights. (The 128·Σw too much is part of QuantMatmulArgs::acc_bias.) The value x that is quantized
// has always been rounded to BF16 first, so that a fused and a separate quantization give the same
// bits; the arithmetic is FP32, ties round to even.
// - static (row_scale null): q = clamp(round(x / scale + offset), −128, 127). A NaN becomes any q.
// - dynamic: s = max|x| / 127 over the row, q = round(x / s), row_scale[r] = s. A row with
//   max|x| < 2⁻¹⁰⁰ gives zeros; one with an infinity or a NaN gives zeros with s infinite or NaN, so
//   that its outputs are NaN.
// - in blocks (`blocks`): a row is QuantizedBlocks, the last one padded with zeros; scale and offset are not read.
struct QuantizedRows {
  uint8_t* data = nullptr;     // [rows, ld]
  int64_t ld = 0;              // bytes from row to row
  float* row_scale = nullptr;  // [rows], written: dynamic; null: static
  float scale = 1;             // > 0 and finite; static only
  float offset = 0;
  bool blocks = false;
};

// 128 values of a row that multiplies weights of a block format: x = scale · q with scale = max|x| / 127 and
// q = round(x / scale) in [−127, 127], zeros where a dynamic row would give zeros. With them their sums, negative,
// which take the weights' zero points and minima away: exact integers, of all, of each 64, of each 32 and of each 16.
struct alignas(64) QuantizedBlock {
  int8_t q[kBlockInputs];
  float scale;
  int32_t minus_sum;
  int32_t minus_sum32[4];
  int32_t minus_sum16[8];
  int32_t minus_sum64[2];
};
static_assert(sizeof(QuantizedBlock) == 192);

// out = x quantized, or with `order` x[r, order[i]] as the i-th value of row r. Split by rows; with share {0, 1} a worker
// does all rows itself.
struct QuantizeArgs {
  const BF16* x = nullptr;  // [rows, ldx]
  int64_t ldx = 0;
  const int32_t* order = nullptr;  // [n], each within [0, n), for `out` in blocks; or null
  int64_t n = 0;  // values in a row; what lies behind them in `out` is left as it is
  int64_t rows = 0;
  QuantizedRows out = {};
};

// out[r, :] = x[row_index ? row_index[r] : r, :] / sqrt(mean(x²) + eps) · weight + bias.
// Split by rows; with share {0, 1} a worker does all rows itself (few rows: no barrier needed
// when every worker writes its own buffer).
struct RmsNormArgs {
  const BF16* x = nullptr;              // [*, hidden]
  const int32_t* row_index = nullptr;   // [rows] or null
  const float* weight = nullptr;        // [hidden]
  const float* bias = nullptr;          // [hidden] or null
  BF16* out = nullptr;                  // [rows, ldo], or null: only the others
  float* out_f32 = nullptr;             // [rows, ldo] the same values before they are rounded; or null
  int64_t ldo = 0;
  int64_t hidden = 0;
  int64_t rows = 0;
  float eps = 1e-6f;
  QuantizedRows quantized = {};  // data null: none. Else the same values, quantized in the same pass
};

// What ranks have computed of the same rows, each over its own slice of k: they are added up in FP32, neighbors first, then
// neighboring sums of two, of four, …; of a number that is no power of two what is left over comes last: with seven
// ((0 + 1) + (2 + 3)) + ((4 + 5) + 6). So the sum of a run of 2ⁱ ranks that begins at a multiple of 2ⁱ can stand for its
// parts, wherever it was taken. Part p in row i and column c lies at parts[p] + offset + i · ld + c.
struct RankParts {
  const float* const* parts = nullptr;  // [count], in the order of the ranks
  int count = 0;                        // ≥ 1
  int own = -1;  // what a matmul has just computed stands in the place of this one, which is not read
  int64_t ld = 0;
  int64_t offset = 0;
  const int32_t* ranks = nullptr;  // [count] of how many each is the sum; null: each is one rank's
};
inline constexpr int kSumsAtOnce = 8;  // enough for 2⁸ ranks: as many sums of different sizes wait for their neighbors

enum class Epilogue : uint8_t {
  kStore,     // out = bf16(acc + bias)
  kAdd,       // out = bf16(acc + bias + residual), residual may be out itself
  kAddParts,  // out = bf16(sum of the parts, of which acc + bias is one + residual), as AddPartsArgs has it
  kSwiGlu,    // columns alternate 16 gate, 16 up: out[c] = bf16(silu(gate) · up); out has n / 2 columns
  kStoreF32,  // out_f32 = acc + bias
};

// out = x · Wᵀ with an epilogue, of BF16 weights (matmul) or of FP8 ones (fp8_matmul). Split by W's
// columns: worker i writes the columns of weight->ColumnRange(i). BF16: x's rows must be readable up to k_padded (the
// pad is multiplied by zeros but must be finite): buffers are allocated with padded leading dimensions.
//
// Weights of FP8, in strips of the format kF8 or of none: y = Σ over blocks b of 128 inputs, ascending, of
//     fma(t_b, scale(c, b), y),
// t_b what a BF16 matmul makes of the block's inputs and codes: one chain of products over k ascending, by FP32 FMA the
// same bits on every ISA, by products of BF16 (vdpbf16ps, tdpbf16ps, BFDOT) their own. x is read up to k.
struct MatmulArgs {
  const BF16* x = nullptr;  // [rows, ldx]
  int64_t ldx = 0;
  const PackedMatrix* weight = nullptr;
  const float* bias = nullptr;  // [n] in the packed column order, or null
  Epilogue epilogue = Epilogue::kStore;
  const BF16* residual = nullptr;  // [rows, ldo] for kAdd and kAddParts
  RankParts parts = {};            // for kAddParts
  BF16* out = nullptr;             // [rows, ldo]
  float* out_f32 = nullptr;        // [rows, ldo] for kStoreF32
  int64_t ldo = 0;
  int64_t rows = 0;
};

// W8A8: y = float(x · Wᵀ + acc_bias) · row_scale · scale + bias with an epilogue. The sum is INT32
// (modulo 2³²) and exact, its conversion and each product and sum after it is one FP32 rounding, in
// this order, so all ISAs agree to the bit but for SwiGLU's exp. Split by W's columns as Matmul; x's
// rows must be readable up to k_padded. k < 2¹⁶ keeps the sums below 2³¹.
struct QuantMatmulArgs {
  const uint8_t* x = nullptr;  // [rows, ldx], as QuantizedRows
  int64_t ldx = 0;             // bytes; best an odd number of cache lines, as for BF16
  const PackedMatrix* weight = nullptr;  // dtype kI8
  // [n] in the packed column order, made at load: −128·Σ_k W[c, k], plus quant_bias where the
  // checkpoint has one (static).
  const int32_t* acc_bias = nullptr;
  const float* scale = nullptr;      // [n]: deq_scale (static), weight_scale (dynamic)
  const float* row_scale = nullptr;  // [rows] (dynamic), or null: 1
  const float* bias = nullptr;       // [n] or null
  Epilogue epilogue = Epilogue::kStore;  // of y in the place of acc + bias
  const BF16* residual = nullptr;  // [rows, ldo] for kAdd and kAddParts
  RankParts parts = {};            // for kAddParts
  BF16* out = nullptr;             // [rows, ldo]
  float* out_f32 = nullptr;        // [rows, ldo] for kStoreF32
  int64_t ldo = 0;
  int64_t rows = 0;
  // data not null: a kStore or kSwiGlu output goes here, statically quantized, and not to `out`.
  QuantizedRows quantized = {};
};

// Weights of a block format (tensor/block_format.h): y = Σ over blocks b of 128 inputs, ascending, of
//     fma(t_b, scale(x_b), y),    t_b = Σ over b's groups g, ascending, of fma(float(I_g), scale(c, g), t)
// and, in formats with a minimum, after each of these t = fma(float(−S_g), min(c, g), t). I_g = Σ (code − zero) · q and
// S_g = Σ q are exact integers, scale(c, g) and min(c, g) one FP32 product each, all sums begin with 0. So all ISAs
// agree to the bit but for SwiGLU's exp. Strips without a format give y = 0. Then + bias and an epilogue, as Matmul.
struct BlockMatmulArgs {
  const QuantizedBlock* x = nullptr;  // [rows, ldx]
  int64_t ldx = 0;                    // blocks from row to row
  const PackedMatrix* weight = nullptr;  // with strips
  const float* bias = nullptr;           // [n] or null
  Epilogue epilogue = Epilogue::kStore;
  const BF16* residual = nullptr;  // [rows, ldo] for kAdd and kAddParts
  RankParts parts = {};            // for kAddParts
  BF16* out = nullptr;             // [rows, ldo]
  float* out_f32 = nullptr;        // [rows, ldo] for kStoreF32
  int64_t ldo = 0;
  int64_t rows = 0;
};

// out[r, c] = bf16(silu(gate) · up) of BF16 columns that alternate 16 gate, 16 up: for a gate/up whose
// shards are quantized in different ways, so that no one matmul has both in its epilogue. (Such a
// linear is two matmuls over the whole column order, each with zero weights in the other's columns,
// the second one adding to what the first one stored.) Split by rows.
struct SwiGluArgs {
  const BF16* x = nullptr;  // [rows, ldx]
  int64_t ldx = 0;
  BF16* out = nullptr;  // [rows, ldo]
  int64_t ldo = 0;
  int64_t n = 0;  // columns of out, a multiple of 16
  int64_t rows = 0;
};

// How a cache of bytes is scaled. x is the BF16 that a BF16 cache would hold: finite.
//
// INT8 (KvLayout::dtype kI8), for keys and for values by themselves: scale and offset [num_kv_heads · head_dim] each, or null.
//   both (a C8 checkpoint)  q = clamp(round(x / scale + offset), −128, 127), x = (q − offset) · scale; the tokens' scales
//                           in the cache are 1
//   a scale alone           y = x / scale, where scales are powers of two: y is exact; then as without any. x = q · s · scale
//   none                    the token's own of each head: s = max|y| / 127, q = round(y / s), with y = x
//
// FP8 (kF8E4M3): a code is the E4M3 number nearest to x / key (or value), ties to even, ±448 for what is larger.
struct KvScales {
  const float* k_scale = nullptr;
  const float* k_offset = nullptr;  // adds the same to all of a row's scores: only the writer needs it
  const float* v_scale = nullptr;
  const float* v_offset = nullptr;
  float key = 1, value = 1;
};

// For every token: RMS-normalizes each q and k head (where weights are given), applies rotary
// embedding (neox halves) to q and k, and writes k and v into the paged cache. q is rewritten in
// place. The qkv row is laid out by KV group, so that one worker can own a group from the matmul
// to the attention: group g = [q heads of g][k head g][v head g], each head_dim wide.
// What is written is finite, 0 for a NaN and the largest BF16 for an infinity: a block passes from one
// sequence to another, and attention multiplies what the first one left there by p = 0.
// Split by groups: a worker does those of SplitRange(num_kv_heads, 1, share).
struct QkNormRopeArgs {
  BF16* qkv = nullptr;  // [rows, ldqkv]
  int64_t ldqkv = 0;
  const float* q_norm = nullptr;  // [head_dim], or null: no norm (Qwen2, Llama)
  const float* k_norm = nullptr;
  const float* q_norm_bias = nullptr;  // [head_dim] or null
  const float* k_norm_bias = nullptr;
  float eps = 1e-6f;
  // cos and sin of this step's rows, computed once per forward: [rows, head_dim / 2] each.
  const float* cos = nullptr;
  const float* sin = nullptr;
  void* kv = nullptr;             // this layer's cache, 64-byte aligned
  KvLayout layout;
  KvScales kv_scales = {};
  const int64_t* kv_slot = nullptr;  // [rows]: block · block_size + slot in block
  int num_q_heads = 0;
  int64_t rows = 0;
};

// Causal attention over the paged cache, for any mix of prefill chunks and decodes.
// Sequence s owns the rows [query_start[s], query_start[s + 1]) of q; its last row sees all
// context_len[s] tokens of the cache, the row before it one fewer, and so on.
// out[row, h·head_dim …] = softmax(scale · q·Kᵀ) · V, written for every row (never zero-filled
// first). Keys are taken in the cache's order and split at fixed places (kernels document where),
// so the bits do not depend on chunking, on the batch or on the team.
// Split over (sequence, KV head, query tile) by the kernel (kernels/attention_work.h), and with
// `partials` over the keys of a decode's row too, where one worker's share ends within it; without, a
// row stays on one worker. The cache must hold finite numbers everywhere, the zeros of new memory or
// what qk_norm_rope has written: what a block holds behind the context is multiplied by p = 0.
struct AttentionArgs {
  const BF16* qkv = nullptr;  // q heads in QkNormRopeArgs' group layout
  int64_t ldqkv = 0;
  const void* kv = nullptr;  // this layer's cache
  KvLayout layout;
  KvScales kv_scales = {};
  int num_q_heads = 0;
  float scale = 0;                       // 1 / sqrt(head_dim)
  const int32_t* query_start = nullptr;  // [num_seqs + 1]
  const int32_t* context_len = nullptr;  // [num_seqs]
  const int32_t* block_table = nullptr;  // [num_seqs, block_table_stride] block ids
  int64_t block_table_stride = 0;
  int num_seqs = 0;
  BF16* out = nullptr;  // [rows, ldo]: plain head order, head h at h·head_dim
  int64_t ldo = 0;
  QuantizedRows quantized = {};  // data null: none. Else static, and takes the outputs in place of `out`
  void* scratch = nullptr;  // this worker's own, AttentionScratchBytes() long, 64-byte aligned
  // Shared by the workers, AttentionPartialsBytes() long, 64-byte aligned; zeros before the first use,
  // after which only the operator touches it. Null: no row's keys are split.
  void* partials = nullptr;
};

// cos[t, i] and sin[t, i] of positions[t] · inv_freq[i], times attention_factor (YaRN). The angle
// and its functions are computed so that they equal Hugging Face's FP32 tables. Split by rows.
struct RopeTableArgs {
  const int32_t* positions = nullptr;  // [rows]
  const float* inv_freq = nullptr;     // [half]
  float attention_factor = 1;
  float* cos = nullptr;  // [rows, half]
  float* sin = nullptr;
  int64_t half = 0;
  int64_t rows = 0;
};

// out[r, c] = residual[r, c] + the sum of the parts, in FP32, rounded once; or out_f32[r, c] = the sum. Split by runs of
// 16 columns, row after row. `residual` may be `out`.
struct AddPartsArgs {
  RankParts parts;  // own: none
  const BF16* residual = nullptr;  // [rows, ldr]
  int64_t ldr = 0;
  BF16* out = nullptr;  // [rows, ldo]
  int64_t ldo = 0;
  int64_t n = 0;  // columns
  int64_t rows = 0;
  float* out_f32 = nullptr;  // [rows, ldo]; then `residual` and `out` are null
};

// Row operators of the sampler over one row of n FP32 logits. Whole-row calls, not split: the
// sampler shares out rows (few rows: ranges of one row) among the workers.
struct RowOps {
  // Index of the first maximum; *max its value. NaN counts as −inf. n ≥ 1.
  int64_t (*argmax)(const float* x, int64_t n, float* max) = nullptr;
  // Σ exp((x[i] − max) · scale), in a fixed order for a given n. NaN and −inf add nothing.
  float (*sum_exp)(const float* x, int64_t n, float max, float scale) = nullptr;
  // Writes the indices i (ascending) with x[i] ≥ threshold, at most capacity; returns how many
  // there are in all.
  int64_t (*collect_at_least)(const float* x, int64_t n, float threshold, int32_t* indices,
                              int64_t capacity) = nullptr;
  // How many i have x[i] ≥ threshold: a token's rank, ties counted.
  int64_t (*count_at_least)(const float* x, int64_t n, float threshold) = nullptr;
  // x[i] = −inf where bit i % 32 of allowed[i / 32] is 0.
  void (*keep_allowed)(float* x, int64_t n, const uint32_t* allowed) = nullptr;
  // x[i] *= factor
  void (*scale)(float* x, int64_t n, float factor) = nullptr;
};

// One ISA's kernels; filled once at start by kernels/registry.h.
struct KernelTable {
  const char* isa = nullptr;     // "scalar", "avx2", …, "neon", …
  const char* detail = nullptr;  // e.g. "avx512_bf16: bf16 by vdpbf16ps, int8 by vpdpbusd"
  void (*embed)(const EmbedArgs&, Share) = nullptr;
  void (*rms_norm)(const RmsNormArgs&, Share) = nullptr;
  void (*matmul)(const MatmulArgs&, Share) = nullptr;
  void (*quantize)(const QuantizeArgs&, Share) = nullptr;
  void (*quant_matmul)(const QuantMatmulArgs&, Share) = nullptr;
  void (*block_matmul)(const BlockMatmulArgs&, Share) = nullptr;
  void (*fp8_matmul)(const MatmulArgs&, Share) = nullptr;
  void (*swiglu)(const SwiGluArgs&, Share) = nullptr;
  void (*qk_norm_rope)(const QkNormRopeArgs&, Share) = nullptr;
  void (*attention)(const AttentionArgs&, Share) = nullptr;
  // Bytes of scratch that each worker needs for attention (max over all shapes it may get).
  int64_t (*attention_scratch_bytes)(const AttentionArgs&, int workers) = nullptr;
  void (*rope_table)(const RopeTableArgs&, Share) = nullptr;
  void (*add_parts)(const AddPartsArgs&, Share) = nullptr;
  // Called once on each worker thread before its first kernel (AMX tile permission and the like).
  void (*init_thread)() = nullptr;
  RowOps rows;
  // Yardsticks for benchmarks (kernels/machine_limits.h): the ISA's matmul instruction on
  // registers, `iterations` times, returns the FLOPs done; and a sequential read of 64-byte
  // aligned data, returns a checksum that keeps it from being optimized away.
  int64_t (*peak_matmul)(int64_t iterations) = nullptr;
  int64_t (*peak_matmul_i8)(int64_t iterations) = nullptr;  // of quant_matmul: integer operations
  uint64_t (*read_stream)(const void* data, int64_t bytes) = nullptr;
};

}  // namespace tiercel::kernels
