// Attention of every ISA that this CPU runs against softmax in double, and its promises to the
// bit: a row's result depends on nothing but its own sequence.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention_bytes.h"
#include "kernels/test_kernels.h"

namespace tiercel::kernels {
namespace {

struct Heads {
  int head_dim;
  int kv_heads;
  int group;
  int block_size;
  int64_t query_size() const { return int64_t{kv_heads} * group * head_dim; }
};

// Tokens [begin, end) of the sequence `id` in one step; tokens before `begin` are in the cache.
struct Piece {
  uint32_t id;
  int begin;
  int end;
};

// What must not change a result.
struct Surroundings {
  int workers = 1;
  uint32_t block_order = 1;  // seed of the block tables' shuffle
  float stale = 3e4f;        // in unused blocks and slots, and in q's gaps
};

struct Free {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Aligned = std::unique_ptr<T[], Free>;
template <typename T>
Aligned<T> Allocate(int64_t count) {
  const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
  return Aligned<T>(static_cast<T*>(std::aligned_alloc(64, bytes)));
}

// Numbers of one token, the same in every run: what = 0 q, 1 k, 2 v.
std::vector<BF16> Token(uint32_t id, int position, int what, int64_t size) {
  std::mt19937 random(id * 1000003u + static_cast<uint32_t>(position) * 3u +
                      static_cast<uint32_t>(what));
  std::vector<BF16> values(size);
  // Roughly normal; q's factor makes some rows' softmax nearly one key and others' flat.
  const float spread = what == 0 ? 0.5f + static_cast<float>(position % 5) : 1.0f;
  for (BF16& v : values) {
    const uint32_t r = static_cast<uint32_t>(random());
    const float sum = static_cast<float>((r & 0x7ff) + (r >> 11 & 0x3ff) + (r >> 21)) - 2558.5f;
    v = ToBF16(sum / 1000.0f * spread);
  }
  return values;
}

// out of each piece's rows, [tokens, query_size].
std::vector<std::vector<BF16>> Attend(const KernelTable& kernels, const Heads& heads,
                                   const std::vector<Piece>& pieces, Surroundings around = {}) {
  const int d = heads.head_dim;
  KvLayout layout{heads.kv_heads, d, heads.block_size};
  layout.block_stride = layout.BlockSize() + layout.HeadSize();  // other layers lie between
  int64_t stride = 1, rows = 0, blocks = 2;
  std::vector<int32_t> query_start = {0}, context_len;
  for (const Piece& piece : pieces) {
    const int64_t used = (piece.end + heads.block_size - 1) / heads.block_size;
    stride = std::max(stride, used);
    blocks += used;
    rows += piece.end - piece.begin;
    query_start.push_back(static_cast<int32_t>(rows));
    context_len.push_back(piece.end);
  }
  std::vector<int32_t> free_blocks(blocks);
  std::iota(free_blocks.begin(), free_blocks.end(), 0);
  std::shuffle(free_blocks.begin(), free_blocks.end(), std::mt19937(around.block_order));
  // Entries behind a sequence's blocks name no block.
  std::vector<int32_t> tables(pieces.size() * stride, -1000000);

  Aligned<BF16> cache = Allocate<BF16>(blocks * layout.block_stride);
  for (int64_t i = 0; i < blocks * layout.block_stride; ++i) {
    cache[i] = ToBF16(i % 3 == 0 ? -around.stale : around.stale);
  }
  const int64_t ldqkv = int64_t{heads.kv_heads} * (heads.group + 2) * d + 32;
  const int64_t ldo = heads.query_size() + 24;
  Aligned<BF16> qkv = Allocate<BF16>(rows * ldqkv);
  std::fill_n(qkv.get(), rows * ldqkv, ToBF16(around.stale));
  constexpr BF16 kCanary{0xa5a5};
  Aligned<BF16> out = Allocate<BF16>(rows * ldo);
  std::fill_n(out.get(), rows * ldo, kCanary);

  size_t next_block = 0;
  for (size_t s = 0; s < pieces.size(); ++s) {
    const Piece& piece = pieces[s];
    int32_t* table = &tables[s * stride];
    for (int b = 0; b * heads.block_size < piece.end; ++b) table[b] = free_blocks[next_block++];
    for (int t = 0; t < piece.end; ++t) {
      const auto k = Token(piece.id, t, 1, heads.kv_heads * d);
      const auto v = Token(piece.id, t, 2, heads.kv_heads * d);
      const int slot = t % heads.block_size;
      for (int g = 0; g < heads.kv_heads; ++g) {
        BF16* head = cache.get() + layout.HeadOffset(table[t / heads.block_size], g);
        for (int i = 0; i < d; ++i) {
          head[layout.KeyOffset(slot, i)] = k[g * d + i];
          head[layout.ValueOffset(slot, i)] = v[g * d + i];
        }
      }
    }
    for (int t = piece.begin; t < piece.end; ++t) {
      const auto q = Token(piece.id, t, 0, heads.query_size());
      BF16* row = qkv.get() + (query_start[s] + t - piece.begin) * ldqkv;
      const int64_t width = int64_t{heads.group} * d;
      for (int g = 0; g < heads.kv_heads; ++g) {
        std::copy_n(&q[g * width], width, row + g * (width + 2 * d));
      }
    }
  }

  AttentionArgs args;
  args.qkv = qkv.get();
  args.ldqkv = ldqkv;
  args.kv = cache.get();
  args.layout = layout;
  args.num_q_heads = heads.kv_heads * heads.group;
  args.scale = 1.0f / std::sqrt(static_cast<float>(d));
  args.query_start = query_start.data();
  args.context_len = context_len.data();
  args.block_table = tables.data();
  args.block_table_stride = stride;
  args.num_seqs = static_cast<int>(pieces.size());
  args.out = out.get();
  args.ldo = ldo;
  const auto run = [&](AttentionArgs call) {
    for (int worker = 0; worker < around.workers; ++worker) {
      const int64_t bytes = kernels.attention_scratch_bytes(call, around.workers);
      Aligned<uint8_t> scratch = Allocate<uint8_t>(bytes);
      std::memset(scratch.get(), 0xff, bytes);  // NaNs: nothing may be read before it is written
      call.scratch = scratch.get();
      kernels.attention(call, {worker, around.workers});
    }
  };
  run(args);
  ExpectBytesOfAttention(args, rows, run);

  std::vector<std::vector<BF16>> result;
  for (size_t s = 0; s < pieces.size(); ++s) {
    std::vector<BF16>& of_piece = result.emplace_back();
    for (int64_t r = query_start[s]; r < query_start[s + 1]; ++r) {
      const BF16* row = out.get() + r * ldo;
      of_piece.insert(of_piece.end(), row, row + heads.query_size());
      for (int64_t i = heads.query_size(); i < ldo; ++i) {
        EXPECT_EQ(row[i].bits, kCanary.bits) << kernels.detail << " wrote behind row " << r;
      }
    }
  }
  return result;
}

std::string Describe(const KernelTable& kernels, const Heads& h) {
  return std::string(kernels.detail) + " head_dim=" + std::to_string(h.head_dim) +
         " kv_heads=" + std::to_string(h.kv_heads) + " group=" + std::to_string(h.group) +
         " block_size=" + std::to_string(h.block_size);
}

// Tolerance. out = Σ p·v / Σ p. With P in BF16 (tdpbf16ps, vdpbf16ps) each product errs by up to
// 2⁻⁸ of itself, so out by 2⁻⁸·A where A = Σ p·|v| / Σ p. A score's FP32 sum errs by about
// √d·2⁻²⁴·Σ|q·k|·scale < 2⁻¹⁴ for these sizes, which is p's relative error; sums over at most 1024
// keys err by less than 2⁻¹⁴·A; so 2⁻¹²·A bounds all FP32 parts. Storing BF16 adds 2⁻⁸ of the value.
void ExpectNearTruth(const KernelTable& kernels, const Heads& heads,
                     const std::vector<Piece>& pieces, Surroundings around) {
  const int d = heads.head_dim;
  const auto out = Attend(kernels, heads, pieces, around);
  const bool by_pairs = std::string(kernels.detail).find("dpbf16ps") != std::string::npos;
  const double p_error = by_pairs ? 0x1p-8 : 0;
  for (size_t s = 0; s < pieces.size(); ++s) {
    const Piece& piece = pieces[s];
    std::vector<std::vector<BF16>> k, v;
    for (int t = 0; t < piece.end; ++t) {
      k.push_back(Token(piece.id, t, 1, heads.kv_heads * d));
      v.push_back(Token(piece.id, t, 2, heads.kv_heads * d));
    }
    for (int t = piece.begin; t < piece.end; ++t) {
      const auto q = Token(piece.id, t, 0, heads.query_size());
      for (int h = 0; h < heads.kv_heads * heads.group; ++h) {
        const int at = h / heads.group * d;
        std::vector<double> p(t + 1);
        double max = -1e300, sum = 0;
        for (int key = 0; key <= t; ++key) {
          double score = 0;
          for (int i = 0; i < d; ++i) {
            score += double{ToFloat(q[int64_t{h} * d + i])} * ToFloat(k[key][at + i]);
          }
          p[key] = score / std::sqrt(static_cast<double>(d));
          max = std::max(max, p[key]);
        }
        for (double& x : p) sum += x = std::exp(x - max);
        for (int i = 0; i < d; ++i) {
          double value = 0, magnitude = 0;
          for (int key = 0; key <= t; ++key) {
            const double term = p[key] / sum * ToFloat(v[key][at + i]);
            value += term;
            magnitude += std::abs(term);
          }
          const float got =
              ToFloat(out[s][(t - piece.begin) * heads.query_size() + int64_t{h} * d + i]);
          ASSERT_NEAR(got, value,
                      (p_error + 0x1p-12) * magnitude + 1.01 * 0x1p-8 * std::abs(value) + 1e-6)
              << Describe(kernels, heads) << " piece " << s << " [" << piece.begin << ", "
              << piece.end << ") token " << t << " head " << h << " element " << i;
        }
      }
    }
  }
}

// Bits of both, row by row, so that a failure names its row.
void ExpectSameBits(const std::vector<BF16>& got, const std::vector<BF16>& expected,
                    int64_t row_size, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].bits, expected[i].bits)
        << what << ": row " << i / row_size << " element " << i % row_size;
  }
}

TEST(Attention, EveryShapeOfHeadsIsNearTheExactSoftmax) {
  const Heads shapes[] = {{32, 1, 1, 32},  {32, 8, 2, 64},  {64, 3, 4, 128}, {64, 2, 5, 256},
                          {64, 1, 7, 32},  {96, 2, 3, 64},  {128, 2, 8, 128}, {128, 8, 2, 128},
                          {128, 1, 16, 32}, {256, 2, 2, 64}, {32, 1, 71, 32}, {32, 1, 150, 128}};
  for (const Heads& heads : shapes) {
    const std::vector<Piece> pieces = {{1, 0, 1}, {2, 30, 33}, {3, 136, 137}, {4, 0, 19},
                                       {5, 62, 64}};
    for (const KernelTable* kernels : Kernels()) {
      for (int workers : {1, 2, 3}) {
        ExpectNearTruth(*kernels, heads, pieces, {workers, 5, 3e4f});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Attention, DecodesAroundTheBordersOfStepsAndBlocks) {
  std::vector<Piece> pieces;
  for (int context : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 143, 144, 145, 255,
                      256, 257, 287, 288, 289, 383, 384, 385, 511, 512, 513, 640, 700}) {
    pieces.push_back({static_cast<uint32_t>(context), context - 1, context});
  }
  for (const Heads& heads : {Heads{32, 2, 2, 32}, Heads{64, 1, 4, 128}, Heads{32, 1, 33, 256}}) {
    for (const KernelTable* kernels : Kernels()) {
      ExpectNearTruth(*kernels, heads, pieces, {2, 9, -3e4f});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Attention, ChunksAcrossTheBordersOfStepsAndTiles) {
  const std::vector<Piece> pieces = {{1, 0, 150}, {2, 100, 133}, {3, 250, 300}, {4, 511, 514}};
  for (const Heads& heads : {Heads{32, 2, 2, 64}, Heads{32, 1, 5, 32}, Heads{64, 1, 1, 128}}) {
    for (const KernelTable* kernels : Kernels()) {
      ExpectNearTruth(*kernels, heads, pieces, {3, 2, 3e4f});
      if (HasFatalFailure()) return;
    }
  }
}

const Heads kInvarianceShapes[] = {{32, 3, 2, 32}, {64, 2, 5, 128}, {128, 1, 8, 64},
                                   {32, 1, 71, 256}, {128, 4, 1, 128}};

TEST(Attention, ChunkingChangesNoBit) {
  constexpr int kTokens = 305;
  for (const Heads& heads : kInvarianceShapes) {
    for (const KernelTable* kernels : Kernels()) {
      const auto whole = Attend(*kernels, heads, {{7, 0, kTokens}})[0];
      for (int chunk : {7, 33, 100, 128, 257}) {
        std::vector<BF16> parts;
        for (int begin = 0; begin < kTokens; begin += chunk) {
          const auto part = Attend(*kernels, heads, {{7, begin, std::min(begin + chunk, kTokens)}},
                                {1, static_cast<uint32_t>(begin), 2.0f})[0];
          parts.insert(parts.end(), part.begin(), part.end());
        }
        ExpectSameBits(parts, whole, heads.query_size(),
                       Describe(*kernels, heads) + " chunk " + std::to_string(chunk));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Attention, TokenByTokenEqualsPrefillToTheBit) {
  constexpr int kTokens = 290;
  for (const Heads& heads : kInvarianceShapes) {
    for (const KernelTable* kernels : Kernels()) {
      const auto whole = Attend(*kernels, heads, {{8, 0, kTokens}})[0];
      // Every decode in one batch: each has its own copy of the cache.
      std::vector<Piece> decodes;
      for (int t = 0; t < kTokens; t += t < 40 ? 1 : 5) decodes.push_back({8, t, t + 1});
      const auto rows = Attend(*kernels, heads, decodes, {1, 3, -5.0f});
      for (size_t i = 0; i < decodes.size(); ++i) {
        const auto expected = whole.begin() + decodes[i].begin * heads.query_size();
        ExpectSameBits(rows[i], {expected, expected + heads.query_size()}, heads.query_size(),
                       Describe(*kernels, heads) + " token " + std::to_string(decodes[i].begin));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Attention, NeighborsTeamBlocksAndStaleSlotsChangeNoBit) {
  const std::vector<Piece> mix = {{1, 0, 61}, {2, 299, 300}, {3, 40, 140}, {4, 0, 1},
                                  {5, 254, 259}};
  for (const Heads& heads : kInvarianceShapes) {
    for (const KernelTable* kernels : Kernels()) {
      std::vector<std::vector<BF16>> alone;
      for (const Piece& piece : mix) alone.push_back(Attend(*kernels, heads, {piece})[0]);
      for (int workers : {1, 2, 3, 5}) {
        for (float stale : {0.0f, 3e4f}) {
          const Surroundings around = {workers, static_cast<uint32_t>(workers * 10), stale};
          const auto together = Attend(*kernels, heads, mix, around);
          for (size_t s = 0; s < mix.size(); ++s) {
            ExpectSameBits(together[s], alone[s], heads.query_size(),
                           Describe(*kernels, heads) + " workers " + std::to_string(workers) +
                               " piece " + std::to_string(s));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
