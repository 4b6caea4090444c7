#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/e4m3.h"
#include "kernels/attention_work.h"
#include "kernels/reference/kernels.h"
#include "kernels/reference/quantize.h"

namespace tiercel::kernels::reference {
namespace {

// Elements of the cache as numbers, their scales taken in.
template <typename Element>
struct CachedHead {
  const AttentionArgs& args;
  int kv_head;
  const Element* head;
  int slot;

  float Key(int d) const { return Scaled(args.layout.KeyOffset(slot, d), d, true); }
  float Value(int d) const { return Scaled(args.layout.ValueOffset(slot, d), d, false); }

 private:
  float Scaled(int64_t at, int d, bool key) const {
    if constexpr (std::is_same_v<Element, BF16>) {
      return ToFloat(head[at]);
    } else if constexpr (std::is_same_v<Element, E4M3>) {
      return ToFloat(head[at]) * (key ? args.kv_scales.key : args.kv_scales.value);
    } else {
      float token;
      std::memcpy(&token, head + (key ? args.layout.KeyScaleOffset(slot)
                                      : args.layout.ValueScaleOffset(slot)), sizeof(token));
      const KvScales& s = args.kv_scales;
      const int64_t channel = int64_t{kv_head} * args.layout.head_dim + d;
      const float* scale = key ? s.k_scale : s.v_scale;
      const float* offset = key ? s.k_offset : s.v_offset;
      const float q = head[at] - (offset != nullptr ? offset[channel] : 0.0f);
      return q * token * (scale != nullptr ? scale[channel] : 1.0f);
    }
  }
};

// One query head of one token over `visible` keys, one key at a time: the online softmax keeps
// the sums relative to the largest score so far. acc is [head_dim].
template <typename Element>
void AttendOneRow(const AttentionArgs& args, int seq, int kv_head, const BF16* q, int64_t visible,
                  float* acc, int64_t row, int64_t column) {
  const KvLayout& layout = args.layout;
  const int head_dim = layout.head_dim;
  const int32_t* blocks = args.block_table + seq * args.block_table_stride;
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  for (int d = 0; d < head_dim; ++d) acc[d] = 0;
  for (int64_t key = 0; key < visible; ++key) {
    const CachedHead<Element> cached = {
        args, kv_head,
        static_cast<const Element*>(args.kv) +
            layout.HeadOffset(blocks[key / layout.block_size], kv_head),
        static_cast<int>(key % layout.block_size)};
    float score = 0;
    for (int d = 0; d < head_dim; ++d) score += ToFloat(q[d]) * cached.Key(d);
    score *= args.scale;
    if (score > max) {
      const float shrink = std::exp(max - score);
      sum *= shrink;
      for (int d = 0; d < head_dim; ++d) acc[d] *= shrink;
      max = score;
    }
    const float p = std::exp(score - max);
    sum += p;
    for (int d = 0; d < head_dim; ++d) acc[d] += p * cached.Value(d);
  }
  const QuantizedRows& bytes = args.quantized;
  for (int d = 0; d < head_dim; ++d) {
    const BF16 mean = ToBF16(acc[d] / sum);
    if (bytes.data == nullptr) {
      args.out[row * args.ldo + column + d] = mean;
    } else {
      bytes.data[row * bytes.ld + column + d] = QuantizeStatic(mean, bytes.scale, bytes.offset);
    }
  }
}

}  // namespace

int64_t AttentionScratchBytes(const AttentionArgs& args, int) {
  return args.layout.head_dim * static_cast<int64_t>(sizeof(float));
}

void Attention(const AttentionArgs& args, Share share) {
  const int head_dim = args.layout.head_dim;
  const int group = args.num_q_heads / args.layout.num_kv_heads;
  AttentionArgs whole = args;
  whole.partials = nullptr;  // a row takes its keys one by one: it stays here
  AttentionTiles tiles(whole, share, 64);
  AttentionTile tile;
  while (tiles.Next(&tile)) {
    for (int t = 0; t < tile.tokens; ++t) {
      const int64_t row = tile.first_row + t;
      for (int h = 0; h < group; ++h) {
        const auto attend = args.layout.dtype == DType::kI8      ? AttendOneRow<int8_t>
                            : args.layout.dtype == DType::kF8E4M3 ? AttendOneRow<E4M3>
                                                                  : AttendOneRow<BF16>;
        attend(
            args, tile.seq, tile.kv_head,
            args.qkv + row * args.ldqkv + (tile.kv_head * (group + 2) + h) * head_dim,
            tile.first_visible + t, static_cast<float*>(args.scratch), row,
            (tile.kv_head * group + h) * head_dim);
      }
    }
  }
}

}  // namespace tiercel::kernels::reference
