// A block of the KV cache passes from one sequence to another as it is. Whatever the first one wrote,
// NaNs and infinities included, attention over the second one gives the bits that it gives over new
// memory: for every ISA that this CPU runs, with a BF16, an INT8 and an FP8 cache.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention_team.h"
#include "kernels/test_kernels.h"
#include "kernels/test_random.h"

namespace tiercel::kernels {
namespace {

enum class Cache { kBF16, kInt8, kInt8Channels, kFp8 };

struct Heads {
  int head_dim, kv_heads, group, block_size;
};

// What fills the rows of the sequence that had the blocks before: NaNs alone, and NaNs beside
// infinities and the largest numbers.
const std::vector<uint16_t> kSicknesses[] = {
    {0x7fc0}, {0xffff, 0x7f80, 0x3f80, 0xff80, 0x7f81, 0xff7f, 0x0001, 0x7f7f, 0xff80}};

class ReusedCache {
 public:
  ReusedCache(Cache kind, const Heads& heads, int tokens)
      : heads_(heads),
        tokens_(tokens),
        layout_{heads.kv_heads, heads.head_dim, heads.block_size, 0,
                kind == Cache::kBF16 ? DType::kBF16 : kind == Cache::kFp8 ? DType::kF8E4M3 : DType::kI8},
        ld_(int64_t{heads.kv_heads} * (heads.group + 2) * heads.head_dim),
        blocks_((tokens + heads.block_size - 1) / heads.block_size),
        bytes_(blocks_ * layout_.BlockSize() * static_cast<int64_t>(SizeOf(layout_.dtype))),
        cache_(Allocate<uint8_t>(bytes_)) {
    std::memset(cache_.get(), 0, bytes_);
    for (int b = 0; b < blocks_; ++b) table_.push_back(b);
    if (kind == Cache::kFp8) scales_ = {.key = 0.02f, .value = 0.01f};
    if (kind != Cache::kInt8Channels) return;
    channel_scale_.assign(int64_t{heads.kv_heads} * heads.head_dim, 0.03f);
    channel_offset_.assign(channel_scale_.size(), -2.0f);
    scales_ = {channel_scale_.data(), channel_offset_.data(), channel_scale_.data(),
               channel_offset_.data()};
  }

  // Every slot of every block gets a sick token.
  void WriteSick(const KernelTable& kernels, const std::vector<uint16_t>& sickness) {
    std::vector<BF16> qkv(blocks_ * heads_.block_size * ld_);
    for (size_t i = 0; i < qkv.size(); ++i) qkv[i] = BF16{sickness[i % sickness.size()]};
    Write(kernels, &qkv, blocks_ * heads_.block_size);
  }

  // The tokens of a healthy sequence, from the first slot on.
  void WriteHealthy(const KernelTable& kernels) {
    std::mt19937 random(7);
    NormalDistribution normal;
    qkv_.resize(tokens_ * ld_);
    for (BF16& x : qkv_) x = ToBF16(normal(random));
    Write(kernels, &qkv_, tokens_);
  }

  std::vector<BF16> Attend(const KernelTable& kernels, int begin, int workers, bool split) const {
    const int64_t ldo = int64_t{heads_.kv_heads} * heads_.group * heads_.head_dim;
    std::vector<BF16> out((tokens_ - begin) * ldo);
    const int32_t query_start[] = {0, tokens_ - begin};
    const int32_t context_len[] = {tokens_};
    AttentionArgs args;
    args.qkv = qkv_.data() + begin * ld_;
    args.ldqkv = ld_;
    args.kv = cache_.get();
    args.layout = layout_;
    args.kv_scales = scales_;
    args.num_q_heads = heads_.kv_heads * heads_.group;
    args.scale = 1.0f / std::sqrt(static_cast<float>(heads_.head_dim));
    args.query_start = query_start;
    args.context_len = context_len;
    args.block_table = table_.data();
    args.block_table_stride = blocks_;
    args.num_seqs = 1;
    args.out = out.data();
    args.ldo = ldo;
    AttentionTeam(kernels, args, workers, split).Run(args);
    return out;
  }

 private:
  void Write(const KernelTable& kernels, std::vector<BF16>* qkv, int64_t rows) {
    const std::vector<float> cos(rows * heads_.head_dim / 2, 1.0f);
    const std::vector<float> sin(rows * heads_.head_dim / 2, 0.0f);
    std::vector<int64_t> slots(rows);
    for (int64_t r = 0; r < rows; ++r) slots[r] = r;
    QkNormRopeArgs args;
    args.qkv = qkv->data();
    args.ldqkv = ld_;
    args.cos = cos.data();
    args.sin = sin.data();
    args.kv = cache_.get();
    args.layout = layout_;
    args.kv_scales = scales_;
    args.kv_slot = slots.data();
    args.num_q_heads = heads_.kv_heads * heads_.group;
    args.rows = rows;
    kernels.qk_norm_rope(args, {0, 1});
  }

  const Heads heads_;
  const int tokens_;
  const KvLayout layout_;
  const int64_t ld_;
  const int64_t blocks_;
  const int64_t bytes_;
  Aligned<uint8_t> cache_;
  std::vector<int32_t> table_;
  std::vector<float> channel_scale_, channel_offset_;
  KvScales scales_ = {};
  std::vector<BF16> qkv_;
};

class ReusedBlocks : public ::testing::TestWithParam<Cache> {};

void ExpectNothingLeft(Cache kind, const Heads& heads, int tokens) {
  for (const KernelTable* kernels : Kernels()) {
    ReusedCache fresh(kind, heads, tokens), reused[] = {{kind, heads, tokens}, {kind, heads, tokens}};
    fresh.WriteHealthy(*kernels);
    for (int i = 0; i < 2; ++i) {
      reused[i].WriteSick(*kernels, kSicknesses[i]);
      reused[i].WriteHealthy(*kernels);
    }
    // A decode, a chunk of few rows, and one of many.
    for (const int rows : {1, 5, 40}) {
      const int begin = std::max(0, tokens - rows);
      for (const bool split : {false, true}) {
        const int workers = split ? 3 : 1;
        const std::vector<BF16> expected = fresh.Attend(*kernels, begin, workers, split);
        for (const BF16 x : expected) ASSERT_TRUE(std::isfinite(ToFloat(x)));
        for (const ReusedCache& cache : reused) {
          ASSERT_TRUE(cache.Attend(*kernels, begin, workers, split) == expected)
              << kernels->detail << " head_dim " << heads.head_dim << " group " << heads.group
              << " tokens " << tokens << " rows " << rows << (split ? " split" : "");
        }
      }
    }
  }
}

TEST_P(ReusedBlocks, NothingOfTheSequenceBeforeIsLeft) {
  // Groups of one register tile's rows and of more; blocks of one and of several units.
  for (const Heads& heads : {Heads{64, 2, 1, 32}, Heads{128, 1, 4, 128}, Heads{32, 1, 17, 64}}) {
    for (const int tokens : {1, 2, 15, 33, 63, 130}) {
      ExpectNothingLeft(GetParam(), heads, tokens);
      if (HasFatalFailure()) return;
    }
  }
  ExpectNothingLeft(GetParam(), {32, 1, 2, 128}, 1030);  // two segments
}

std::string NameOf(const testing::TestParamInfo<Cache>& info) {
  switch (info.param) {
    case Cache::kBF16: return "BF16";
    case Cache::kInt8: return "Int8";
    case Cache::kInt8Channels: return "Int8Channels";
    case Cache::kFp8: return "Fp8";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(Caches, ReusedBlocks,
                         testing::Values(Cache::kBF16, Cache::kInt8, Cache::kInt8Channels, Cache::kFp8), NameOf);

}  // namespace
}  // namespace tiercel::kernels
