// For tests of the caches of bytes: a sequence that qk_norm_rope writes and attention reads.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention_bytes.h"
#include "kernels/attention_team.h"
#include "kernels/test_kernels.h"
#include "kernels/test_random.h"
#include "platform/buffer.h"

namespace tiercel::kernels {

struct CacheShape {
  int head_dim, kv_heads, group, block_size;
};

// One sequence of `tokens` tokens in a cache whose other slots are stale but finite.
struct CachedSequence {
  CachedSequence(DType dtype, const CacheShape& heads, int tokens, uint32_t seed)
      : heads(heads),
        tokens(tokens),
        layout{heads.kv_heads, heads.head_dim, heads.block_size, 0, dtype},
        ld(int64_t{heads.kv_heads} * (heads.group + 2) * heads.head_dim),
        qkv(tokens * ld),
        ones(tokens * heads.head_dim / 2, 1.0f),
        zeros(tokens * heads.head_dim / 2, 0.0f) {
    std::mt19937 random(seed);
    NormalDistribution normal;
    for (BF16& x : qkv) x = ToBF16(normal(random));
    const int num_blocks = (tokens + heads.block_size - 1) / heads.block_size;
    for (int b = 0; b < num_blocks; ++b) table.push_back(num_blocks - b);  // block 0 is unused
    cache = std::move(*platform::Buffer::Allocate((num_blocks + 1) * layout.BlockSize()));
    int8_t* bytes = cache.as<int8_t>();
    for (int64_t i = 0; i < (num_blocks + 1) * layout.BlockSize(); ++i) {
      bytes[i] = static_cast<int8_t>(0x41 + i % 3);  // as a scale: 12 to 49
    }
    for (int t = 0; t < tokens; ++t) {
      slots.push_back(int64_t{table[t / heads.block_size]} * heads.block_size +
                      t % heads.block_size);
    }
  }

  // Writes the whole sequence; the rotation is by an angle of 0.
  void Write(const KernelTable& kernels) {
    QkNormRopeArgs args;
    args.qkv = qkv.data();
    args.ldqkv = ld;
    args.cos = ones.data();
    args.sin = zeros.data();
    args.kv = cache.data();
    args.layout = layout;
    args.kv_scales = scales;
    args.kv_slot = slots.data();
    args.num_q_heads = heads.kv_heads * heads.group;
    args.rows = tokens;
    for (int worker = 0; worker < 2; ++worker) kernels.qk_norm_rope(args, {worker, 2});
  }

  // out [end − begin, q heads · head_dim] of the tokens [begin, end). split: see AttentionTeam.
  std::vector<BF16> Attend(const KernelTable& kernels, int begin, int end, int workers,
                           bool split = false) const {
    const int64_t ldo = int64_t{heads.kv_heads} * heads.group * heads.head_dim;
    std::vector<BF16> out((end - begin) * ldo);
    const int32_t query_start[] = {0, end - begin};
    const int32_t context_len[] = {end};
    AttentionArgs args;
    args.qkv = qkv.data() + begin * ld;
    args.ldqkv = ld;
    args.kv = cache.data();
    args.layout = layout;
    args.kv_scales = scales;
    args.num_q_heads = heads.kv_heads * heads.group;
    args.scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
    args.query_start = query_start;
    args.context_len = context_len;
    args.block_table = table.data();
    args.block_table_stride = static_cast<int64_t>(table.size());
    args.num_seqs = 1;
    args.out = out.data();
    args.ldo = ldo;
    AttentionTeam team(kernels, args, workers, split);
    const auto run = [&](const AttentionArgs& step) { team.Run(step); };
    run(args);
    ExpectBytesOfAttention(args, query_start[1], run);
    return out;
  }

  const BF16* Head(int token, int group, int index) const {
    return &qkv[token * ld + (int64_t{group} * (heads.group + 2) + index) * heads.head_dim];
  }
  // The part of the cache that has the token's key and value.
  const uint8_t* Cached(int token, int group) const {
    return cache.as<uint8_t>() + layout.HeadOffset(slots[token] / heads.block_size, group);
  }
  int SlotInBlock(int token) const { return static_cast<int>(slots[token] % heads.block_size); }

  CacheShape heads;
  int tokens;
  KvLayout layout;
  KvScales scales = {};
  int64_t ld;
  std::vector<BF16> qkv;
  std::vector<float> ones, zeros;
  std::vector<int32_t> table;
  std::vector<int64_t> slots;
  platform::Buffer cache;
};

// A chunk's rows do not depend on its borders, nor on the team.
template <typename Sequence>
void ExpectChunksChangeNoBit(const Sequence& s, const KernelTable& kernels, const std::string& what) {
  const std::vector<BF16> whole = s.Attend(kernels, 0, s.tokens, 1);
  for (int chunk : {33, 1, 129}) {
    if (chunk != 33 && !TakesRowsTogether(kernels)) continue;
    std::vector<BF16> parts;
    for (int begin = 0; begin < s.tokens; begin += chunk) {
      const auto part = s.Attend(kernels, begin, std::min(begin + chunk, s.tokens), 1 + begin % 3);
      parts.insert(parts.end(), part.begin(), part.end());
    }
    ASSERT_TRUE(parts == whole) << what << " chunk " << chunk;
  }
}

// Contexts of up to 5000 tokens around the borders of segments, as decodes of any team and as rows of a chunk, which
// check(begin, chunk) sees.
template <typename Sequence, typename Check>
void ExpectSplitKeysChangeNoBit(const Sequence& s, const KernelTable& kernels, const std::string& what, Check check) {
  const int64_t row = int64_t{s.heads.group} * s.heads.head_dim;
  for (const auto& [begin, end] : {std::pair{1022, 1026}, {2047, 2050}, {4998, 5000}}) {
    const std::vector<BF16> chunk = s.Attend(kernels, begin, end, 1);
    check(begin, chunk);
    for (int t = begin; t < end; ++t) {
      const std::vector<BF16> expected(chunk.begin() + (t - begin) * row, chunk.begin() + (t - begin + 1) * row);
      for (int workers : {1, 2, 5}) {
        ASSERT_TRUE(s.Attend(kernels, t, t + 1, workers, true) == expected) << what << " token " << t << " workers " << workers;
      }
      ASSERT_TRUE(s.Attend(kernels, t, t + 1, 3) == expected) << what << " token " << t << " not split";
    }
  }
}

}  // namespace tiercel::kernels
