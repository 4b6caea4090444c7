#include <cmath>
#include <limits>

#include "kernels/attention_work.h"
#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {
namespace {

// One query head of one token over `visible` keys, one key at a time: the online softmax keeps
// the sums relative to the largest score so far. acc is [head_dim].
void AttendOneRow(const AttentionArgs& args, int seq, int kv_head, const BF16* q, int64_t visible,
                  float* acc, BF16* out) {
  const KvLayout& layout = args.layout;
  const int head_dim = layout.head_dim;
  const int32_t* blocks = args.block_table + seq * args.block_table_stride;
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  for (int d = 0; d < head_dim; ++d) acc[d] = 0;
  for (int64_t key = 0; key < visible; ++key) {
    const BF16* head = args.kv + layout.HeadOffset(blocks[key / layout.block_size], kv_head);
    const int slot = static_cast<int>(key % layout.block_size);
    float score = 0;
    for (int d = 0; d < head_dim; ++d) {
      score += ToFloat(q[d]) * ToFloat(head[layout.KeyOffset(slot, d)]);
    }
    score *= args.scale;
    if (score > max) {
      const float shrink = std::exp(max - score);
      sum *= shrink;
      for (int d = 0; d < head_dim; ++d) acc[d] *= shrink;
      max = score;
    }
    const float p = std::exp(score - max);
    sum += p;
    for (int d = 0; d < head_dim; ++d) acc[d] += p * ToFloat(head[layout.ValueOffset(slot, d)]);
  }
  for (int d = 0; d < head_dim; ++d) out[d] = ToBF16(acc[d] / sum);
}

}  // namespace

int64_t AttentionScratchBytes(const AttentionArgs& args, int) {
  return args.layout.head_dim * static_cast<int64_t>(sizeof(float));
}

void Attention(const AttentionArgs& args, Share share) {
  const int head_dim = args.layout.head_dim;
  const int group = args.num_q_heads / args.layout.num_kv_heads;
  AttentionTiles tiles(args, share, 64);
  AttentionTile tile;
  while (tiles.Next(&tile)) {
    for (int t = 0; t < tile.tokens; ++t) {
      const int64_t row = tile.first_row + t;
      for (int h = 0; h < group; ++h) {
        AttendOneRow(
            args, tile.seq, tile.kv_head,
            args.qkv + row * args.ldqkv + (tile.kv_head * (group + 2) + h) * head_dim,
            tile.first_visible + t, static_cast<float*>(args.scratch),
            args.out + row * args.ldo + (tile.kv_head * group + h) * head_dim);
      }
    }
  }
}

}  // namespace tiercel::kernels::reference
