// Attention of every ISA that this CPU runs against softmax in double, and its promises to the
// bit: a row's result depends on nothing but its own sequence.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention_bytes.h"
#include "kernels/attention_team.h"
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

// What must not change a result: how the cache lies in memory, and what is in it beside.
struct Surroundings {
  uint32_t block_order = 1;  // seed of the block tables' shuffle
  float stale = 3e4f;        // in unused blocks and slots, and in q's gaps
};

// Which scores: all of them times `scale`, and those of row `nan_row`'s first head NaN (-1: none).
struct Scores {
  float scale = 1.0f;
  int64_t nan_row = -1;
};

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
using Rows = std::vector<std::vector<BF16>>;

// One step's cache and queries, for any kernels and team.
class Step {
 public:
  Step(const Heads& heads, const std::vector<Piece>& pieces, Surroundings around = {},
       Scores scores = {});

  // See AttentionTeam.
  Rows Run(const KernelTable& kernels, int workers = 1, bool split = false, const int32_t* bounds = nullptr);
  void ExpectNearTruth(const KernelTable& kernels, int workers, bool split = false);

 private:
  // The exact softmax, and Σ p·|v|, for each element of a row of out.
  struct Truth {
    double value, magnitude;
  };
  void FindTruth();

  const Heads heads_;
  const std::vector<Piece> pieces_;
  const Scores scores_;
  std::vector<int32_t> query_start_ = {0}, context_len_, tables_;
  Aligned<BF16> cache_, qkv_;
  AttentionArgs args_;
  std::vector<std::vector<Truth>> truth_;  // as Rows, made when it is needed
};

Step::Step(const Heads& heads, const std::vector<Piece>& pieces, Surroundings around,
           Scores scores)
    : heads_(heads), pieces_(pieces), scores_(scores) {
  const int d = heads.head_dim;
  KvLayout layout{heads.kv_heads, d, heads.block_size};
  layout.block_stride = layout.BlockSize() + layout.HeadSize();  // other layers lie between
  int64_t stride = 1, rows = 0, blocks = 2;
  for (const Piece& piece : pieces) {
    const int64_t used = (piece.end + heads.block_size - 1) / heads.block_size;
    stride = std::max(stride, used);
    blocks += used;
    rows += piece.end - piece.begin;
    query_start_.push_back(static_cast<int32_t>(rows));
    context_len_.push_back(piece.end);
  }
  std::vector<int32_t> free_blocks(blocks);
  std::iota(free_blocks.begin(), free_blocks.end(), 0);
  std::shuffle(free_blocks.begin(), free_blocks.end(), std::mt19937(around.block_order));
  // Entries behind a sequence's blocks name no block.
  tables_.assign(pieces.size() * stride, -1000000);

  cache_ = Allocate<BF16>(blocks * layout.block_stride);
  for (int64_t i = 0; i < blocks * layout.block_stride; ++i) {
    cache_[i] = ToBF16(i % 3 == 0 ? -around.stale : around.stale);
  }
  const int64_t ldqkv = int64_t{heads.kv_heads} * (heads.group + 2) * d + 32;
  qkv_ = Allocate<BF16>(rows * ldqkv);
  std::fill_n(qkv_.get(), rows * ldqkv, ToBF16(around.stale));

  size_t next_block = 0;
  for (size_t s = 0; s < pieces.size(); ++s) {
    const Piece& piece = pieces[s];
    int32_t* table = &tables_[s * stride];
    for (int b = 0; b * heads.block_size < piece.end; ++b) table[b] = free_blocks[next_block++];
    for (int t = 0; t < piece.end; ++t) {
      const auto k = Token(piece.id, t, 1, heads.kv_heads * d);
      const auto v = Token(piece.id, t, 2, heads.kv_heads * d);
      const int slot = t % heads.block_size;
      for (int g = 0; g < heads.kv_heads; ++g) {
        BF16* head = cache_.get() + layout.HeadOffset(table[t / heads.block_size], g);
        for (int i = 0; i < d; ++i) {
          head[layout.KeyOffset(slot, i)] = k[g * d + i];
          head[layout.ValueOffset(slot, i)] = v[g * d + i];
        }
      }
    }
    for (int t = piece.begin; t < piece.end; ++t) {
      const auto q = Token(piece.id, t, 0, heads.query_size());
      BF16* row = qkv_.get() + (query_start_[s] + t - piece.begin) * ldqkv;
      const int64_t width = int64_t{heads.group} * d;
      for (int g = 0; g < heads.kv_heads; ++g) {
        std::copy_n(&q[g * width], width, row + g * (width + 2 * d));
      }
    }
  }

  if (scores.nan_row >= 0) qkv_[scores.nan_row * ldqkv] = BF16{0x7fc0};
  args_.qkv = qkv_.get();
  args_.ldqkv = ldqkv;
  args_.kv = cache_.get();
  args_.layout = layout;
  args_.num_q_heads = heads.kv_heads * heads.group;
  args_.scale = scores.scale / std::sqrt(static_cast<float>(d));
  args_.query_start = query_start_.data();
  args_.context_len = context_len_.data();
  args_.block_table = tables_.data();
  args_.block_table_stride = stride;
  args_.num_seqs = static_cast<int>(pieces.size());
}

Rows Step::Run(const KernelTable& kernels, int workers, bool split, const int32_t* bounds) {
  const int64_t rows = query_start_.back();
  const int64_t ldo = heads_.query_size() + 24;
  constexpr BF16 kCanary{0xa5a5};
  Aligned<BF16> out = Allocate<BF16>(rows * ldo);
  std::fill_n(out.get(), rows * ldo, kCanary);
  AttentionArgs args = args_;
  args.out = out.get();
  args.ldo = ldo;
  AttentionTeam team(kernels, args, workers, split, bounds);
  const auto run = [&](const AttentionArgs& step) { team.Run(step); };
  run(args);
  ExpectBytesOfAttention(args, rows, run);

  Rows result;
  for (size_t s = 0; s < pieces_.size(); ++s) {
    std::vector<BF16>& of_piece = result.emplace_back();
    for (int64_t r = query_start_[s]; r < query_start_[s + 1]; ++r) {
      const BF16* row = out.get() + r * ldo;
      of_piece.insert(of_piece.end(), row, row + heads_.query_size());
      for (int64_t i = heads_.query_size(); i < ldo; ++i) {
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

void Step::FindTruth() {
  const int d = heads_.head_dim;
  for (const Piece& piece : pieces_) {
    std::vector<std::vector<BF16>> k, v;
    for (int t = 0; t < piece.end; ++t) {
      k.push_back(Token(piece.id, t, 1, heads_.kv_heads * d));
      v.push_back(Token(piece.id, t, 2, heads_.kv_heads * d));
    }
    std::vector<Truth>& truth = truth_.emplace_back();
    for (int t = piece.begin; t < piece.end; ++t) {
      const auto q = Token(piece.id, t, 0, heads_.query_size());
      for (int h = 0; h < heads_.kv_heads * heads_.group; ++h) {
        const int at = h / heads_.group * d;
        std::vector<double> p(t + 1);
        double max = -1e300, sum = 0;
        for (int key = 0; key <= t; ++key) {
          double score = 0;
          for (int i = 0; i < d; ++i) {
            score += double{ToFloat(q[int64_t{h} * d + i])} * ToFloat(k[key][at + i]);
          }
          p[key] = score * scores_.scale / std::sqrt(static_cast<double>(d));
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
          truth.push_back({value, magnitude});
        }
      }
    }
  }
}

// Tolerance. out = Σ p·v / Σ p. With P in BF16 (tdpbf16ps, vdpbf16ps, bfdot) each product errs by up to
// 2⁻⁸ of itself, so out by 2⁻⁸·A where A = Σ p·|v| / Σ p. A score's FP32 sum errs by about
// √d·2⁻²⁴·Σ|q·k|·scale < 2⁻¹⁴ for these sizes (times Scores::scale), which is p's relative error; sums
// over a segment of 1024 keys err by less than 2⁻¹⁴·A, and a few segments' sums add little; so 2⁻¹²·A
// bounds all FP32 parts. Storing BF16 adds 2⁻⁸ of the value.
void Step::ExpectNearTruth(const KernelTable& kernels, int workers, bool split) {
  if (truth_.empty()) FindTruth();
  const bool by_pairs = std::string(kernels.detail).find("bf16 by fp32 fma") == std::string::npos && std::string(kernels.isa) != "scalar";
  const double p_error = by_pairs ? 0x1p-8 : 0;
  const Rows out = Run(kernels, workers, split);
  for (size_t s = 0; s < pieces_.size(); ++s) {
    for (size_t i = 0; i < out[s].size(); ++i) {
      const auto [value, magnitude] = truth_[s][i];
      ASSERT_NEAR(ToFloat(out[s][i]), value,
                  (p_error + scores_.scale * 0x1p-12) * magnitude +
                      1.01 * 0x1p-8 * std::abs(value) + 1e-6)
          << Describe(kernels, heads_) << " piece " << s << " [" << pieces_[s].begin << ", "
          << pieces_[s].end << ") row " << i / heads_.query_size() << " element "
          << i % heads_.query_size();
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
    Step step(heads, pieces, {5, 3e4f});
    for (const KernelTable* kernels : Kernels()) {
      for (int workers : {1, 2, 3}) {
        step.ExpectNearTruth(*kernels, workers);
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
    Step step(heads, pieces, {9, -3e4f});
    for (const KernelTable* kernels : Kernels()) {
      step.ExpectNearTruth(*kernels, 2);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Attention, ChunksAcrossTheBordersOfStepsAndTiles) {
  const std::vector<Piece> pieces = {{1, 0, 150}, {2, 100, 133}, {3, 250, 300}, {4, 511, 514}};
  for (const Heads& heads : {Heads{32, 2, 2, 64}, Heads{32, 1, 5, 32}, Heads{64, 1, 1, 128}}) {
    Step step(heads, pieces, {2, 3e4f});
    for (const KernelTable* kernels : Kernels()) {
      step.ExpectNearTruth(*kernels, 3);
      if (HasFatalFailure()) return;
    }
  }
}

// Scores that lie hundreds apart: most p are so small that exp has nothing left of them.
TEST(Attention, ScoresFarApart) {
  for (const Heads& heads : {Heads{128, 1, 2, 64}, Heads{64, 2, 4, 128}}) {
    Step step(heads, {{1, 0, 150}, {2, 299, 300}, {3, 1020, 1060}}, {}, {40.0f});
    for (const KernelTable* kernels : Kernels()) {
      step.ExpectNearTruth(*kernels, 2);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Attention, NaNsStayInTheirRowAndHead) {
  for (const Heads& heads : {Heads{128, 1, 2, 64}, Heads{64, 2, 4, 128}, Heads{64, 1, 1, 32}}) {
    const std::vector<Piece> pieces = {{1, 0, 150}, {2, 299, 300}};
    Step step(heads, pieces);
    for (int64_t row : {0, 7, 149, 150}) {
      Step poisoned(heads, pieces, {}, {1.0f, row});
      for (const KernelTable* kernels : Kernels()) {
        const Rows expected = step.Run(*kernels, 2);
        Rows rows = poisoned.Run(*kernels, 2);
        const size_t piece = row / 150, at = row % 150 * heads.query_size();
        for (int i = 0; i < heads.head_dim; ++i) {
          EXPECT_TRUE(std::isnan(ToFloat(rows[piece][at + i])))
              << Describe(*kernels, heads) << " row " << row << " element " << i;
          rows[piece][at + i] = expected[piece][at + i];
        }
        for (size_t s = 0; s < rows.size(); ++s) {
          ExpectSameBits(rows[s], expected[s], heads.query_size(), Describe(*kernels, heads));
        }
        if (HasFatalFailure() || HasNonfatalFailure()) return;
      }
    }
  }
}

const Heads kInvarianceShapes[] = {{32, 3, 2, 32}, {64, 2, 5, 128}, {128, 1, 8, 64},
                                   {32, 1, 71, 256}, {128, 4, 1, 128}};

TEST(Attention, ChunkingChangesNoBit) {
  constexpr int kTokens = 305;
  for (const Heads& heads : kInvarianceShapes) {
    Step whole_step(heads, {{7, 0, kTokens}});
    std::vector<Rows> parts;  // of each of the kernels: the whole
    for (const KernelTable* kernels : Kernels()) parts.push_back(whole_step.Run(*kernels));
    for (int chunk : {7, 33, 100, 128, 257}) {
      for (int begin = 0; begin < kTokens; begin += chunk) {
        const int end = std::min(begin + chunk, kTokens);
        Step step(heads, {{7, begin, end}}, {static_cast<uint32_t>(begin), 2.0f});
        for (size_t k = 0; k < Kernels().size(); ++k) {
          if (chunk != 100 && !TakesRowsTogether(*Kernels()[k])) continue;
          const BF16* whole = parts[k][0].data() + begin * heads.query_size();
          ExpectSameBits(step.Run(*Kernels()[k])[0],
                         {whole, whole + (end - begin) * heads.query_size()}, heads.query_size(),
                         Describe(*Kernels()[k], heads) + " chunk " + std::to_string(chunk) +
                             " from " + std::to_string(begin));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(Attention, TokenByTokenEqualsPrefillToTheBit) {
  constexpr int kTokens = 290;
  for (const Heads& heads : kInvarianceShapes) {
    // Every decode in one batch: each has its own copy of the cache.
    std::vector<Piece> decodes;
    for (int t = 0; t < kTokens; t += t < 40 ? 1 : 5) decodes.push_back({8, t, t + 1});
    Step prefill(heads, {{8, 0, kTokens}}), decode(heads, decodes, {3, -5.0f});
    for (const KernelTable* kernels : Kernels()) {
      const auto whole = prefill.Run(*kernels)[0];
      const Rows rows = decode.Run(*kernels);
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
    std::vector<Step> alone;
    for (const Piece& piece : mix) alone.emplace_back(heads, std::vector{piece});
    Step together(heads, mix, {10, 0.0f}), elsewhere(heads, mix, {20, 3e4f});
    for (const KernelTable* kernels : Kernels()) {
      std::vector<std::vector<BF16>> expected;
      for (Step& step : alone) expected.push_back(step.Run(*kernels)[0]);
      for (int workers : {1, 2, 3, 5}) {
        for (Step* step : {&together, &elsewhere}) {
          const Rows rows = step->Run(*kernels, workers);
          for (size_t s = 0; s < mix.size(); ++s) {
            ExpectSameBits(rows[s], expected[s], heads.query_size(),
                           Describe(*kernels, heads) + " workers " + std::to_string(workers) +
                               " piece " + std::to_string(s));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

// Contexts around the borders of segments, and a chunk on both sides of one.
const std::vector<Piece> kLongPieces = {{1, 1022, 1023}, {2, 1023, 1024}, {3, 1024, 1025},
                                        {4, 2048, 2049}, {5, 2044, 2052}, {6, 4999, 5000}};
const Heads kLongShapes[] = {{32, 1, 2, 32}, {64, 1, 5, 128}, {32, 3, 1, 64}, {32, 1, 17, 256}};

TEST(Attention, LongContextsAreNearTheExactSoftmax) {
  for (const Heads& heads : {kLongShapes[0], kLongShapes[2]}) {
    Step step(heads, kLongPieces, {4, 3e4f});
    for (const KernelTable* kernels : Kernels()) {
      for (int workers : {1, 5}) step.ExpectNearTruth(*kernels, workers, true);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Attention, SplitKeysChangeNoBit) {
  struct Team {
    int workers;
    bool split;
    const int32_t* bounds = nullptr;  // of the workers' Shares
  };
  constexpr int32_t kSlowSecond[] = {0, 2, 3}, kUneven[] = {0, 32, 45, 77, 90, 91};
  for (const Heads& heads : kLongShapes) {
    Step step(heads, kLongPieces);
    Step decodes(heads, {{5, 2046, 2047}, {5, 2047, 2048}, {5, 2048, 2049}, {5, 2049, 2050}});
    Step alone(heads, {kLongPieces.back()}, {6, 1.0f});
    for (const KernelTable* kernels : Kernels()) {
      const Rows whole = step.Run(*kernels);
      const std::vector<BF16> chunk(whole[4].begin() + 2 * heads.query_size(),
                                    whole[4].begin() + 6 * heads.query_size());
      for (const auto& [workers, split, bounds] :
           {Team{1, true}, {2, true}, {3, true}, {5, true}, {2, false}, {5, false}, {2, true, kSlowSecond},
            {3, true, kUneven}, {5, true, kUneven}, {5, false, kUneven}}) {
        const std::string what = Describe(*kernels, heads) + " workers " + std::to_string(workers) +
                                 (split ? " split" : " not split") + (bounds != nullptr ? ", uneven" : "");
        const Rows rows = step.Run(*kernels, workers, split, bounds);
        for (size_t s = 0; s < rows.size(); ++s) {
          ExpectSameBits(rows[s], whole[s], heads.query_size(),
                         what + " piece " + std::to_string(s));
        }
        ExpectSameBits(alone.Run(*kernels, workers, split, bounds)[0], whole.back(), heads.query_size(),
                       what + " alone");
        std::vector<BF16> decoded;
        for (const std::vector<BF16>& row : decodes.Run(*kernels, workers, split, bounds)) {
          decoded.insert(decoded.end(), row.begin(), row.end());
        }
        ExpectSameBits(decoded, chunk, heads.query_size(), what + " decoded");
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
