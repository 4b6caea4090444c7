#include "kernels/attention_work.h"

#include <algorithm>

namespace tiercel::kernels {

AttentionTiles::AttentionTiles(const AttentionArgs& args, Share share, int max_tokens)
    : args_(args),
      max_tokens_(max_tokens),
      owned_(AttentionOwnsGroups(args.layout.num_kv_heads, share.count)),
      heads_{0, args.layout.num_kv_heads} {
  if (owned_) {
    heads_ = SplitRange(args.layout.num_kv_heads, 1, share);
  } else {
    double total = 0;
    for (seq_ = 0; seq_ < args_.num_seqs; ++seq_) {
      for (token_ = 0;; token_ += max_tokens_) {
        const AttentionTile tile = Current();
        if (tile.tokens <= 0) break;
        total += Cost(tile);
      }
    }
    total *= args.layout.num_kv_heads;
    begin_cost_ = total * share.index / share.count;
    end_cost_ = total * (share.index + 1) / share.count;
  }
  seq_ = 0;
  token_ = 0;
  head_ = heads_.begin;
}

AttentionTile AttentionTiles::Current() const {
  const int64_t begin = args_.query_start[seq_];
  const int64_t tokens = args_.query_start[seq_ + 1] - begin;
  return {.seq = seq_,
          .kv_head = static_cast<int>(head_),
          .first_row = begin + token_,
          .tokens = static_cast<int>(std::min<int64_t>(tokens - token_, max_tokens_)),
          .first_visible = args_.context_len[seq_] - tokens + 1 + token_};
}

// Scores and values take time by tokens × keys; reading the keys once takes time even for a
// single token, about what computing 16 rows of them does.
double AttentionTiles::Cost(const AttentionTile& tile) const {
  const int group = args_.num_q_heads / args_.layout.num_kv_heads;
  const double rows = std::max(16.0, double(tile.tokens) * group);
  return rows * (double(tile.first_visible) + tile.tokens);
}

bool AttentionTiles::Next(AttentionTile* tile) {
  while (seq_ < args_.num_seqs && heads_.size() > 0) {
    *tile = Current();
    if (tile->tokens <= 0) {  // the next head of this sequence, or the next sequence
      token_ = 0;
      if (++head_ == heads_.end) {
        head_ = heads_.begin;
        ++seq_;
      }
      continue;
    }
    token_ += max_tokens_;
    if (owned_) return true;
    const double middle = cost_ + 0.5 * Cost(*tile);
    cost_ += Cost(*tile);
    if (middle >= end_cost_) return false;
    if (middle >= begin_cost_) return true;
  }
  return false;
}

}  // namespace tiercel::kernels
