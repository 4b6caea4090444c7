// The FP8 KV cache of every ISA that this CPU runs: qk_norm_rope writes the nearest E4M3 numbers, and attention over what
// was written is the exact softmax over them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/e4m3.h"
#include "kernels/kv_cache_test_util.h"
#include "kernels/test_kernels.h"

namespace tiercel::kernels {
namespace {

std::string Describe(const KernelTable& kernels, const CacheShape& h) {
  return std::string(kernels.detail) + " head_dim=" + std::to_string(h.head_dim) +
         " kv_heads=" + std::to_string(h.kv_heads) + " group=" + std::to_string(h.group) +
         " block_size=" + std::to_string(h.block_size);
}

// By the definition: sign, four bits of exponent with the bias 7, three of mantissa. No NaNs here.
double Number(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double value =
      exponent > 0 ? std::ldexp(1 + mantissa / 8.0, exponent - 7) : std::ldexp(mantissa / 8.0, -6);
  return code & 0x80 ? -value : value;
}

// Of the 127 magnitudes the nearest one to |x|; between two of them the even code.
int Nearest(double x) {
  int best = 0;
  for (int code = 1; code < 127; ++code) {
    const double here = std::abs(Number(code) - std::abs(x)), there = std::abs(Number(best) - std::abs(x));
    if (here < there || (here == there && code % 2 == 0)) best = code;
  }
  return best | (std::signbit(x) ? 0x80 : 0);
}

TEST(E4M3, IsTheNearestNumberOrTheLargest) {
  for (int code = 0; code < 256; ++code) {
    if (code % 128 == 127) continue;
    const float value = static_cast<float>(Number(code));
    EXPECT_EQ(ToFloat(E4M3{static_cast<uint8_t>(code)}), value);
    EXPECT_EQ(ToE4M3(value).bits, code);
    if (code % 128 == 126) continue;
    // The next one's half way, and what lies beside it.
    const float middle = static_cast<float>((Number(code) + Number(code + 1)) / 2);
    for (const float x : {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, 2 * middle)}) {
      EXPECT_EQ(ToE4M3(x).bits, Nearest(x)) << x;
    }
  }
  for (const float x : {448.0f, 449.0f, 464.0f, 480.0f, 1e30f, HUGE_VALF}) {
    EXPECT_EQ(ToE4M3(x).bits, 0x7e) << x;
    EXPECT_EQ(ToE4M3(-x).bits, 0xfe) << x;
  }
}

constexpr CacheShape kShapes[] = {{32, 1, 1, 32}, {64, 3, 2, 64}, {128, 2, 2, 128}, {96, 2, 5, 32}, {128, 1, 8, 256}, {256, 2, 4, 64}};

struct Sequence : CachedSequence {
  Sequence(const CacheShape& heads, int tokens, uint32_t seed) : CachedSequence(DType::kF8E4M3, heads, tokens, seed) {
    scales = {.key = 0.011f, .value = 0.007f};
  }

  // What the cache must hold of element d: the number nearest to the FP32 quotient.
  int Code(int token, int group, int d, bool value) const {
    const BF16 x = Head(token, group, heads.group + (value ? 1 : 0))[d];
    volatile float quotient = ToFloat(x) / (value ? scales.value : scales.key);
    return Nearest(quotient);
  }
};

TEST(KvFp8, WritesTheNearestNumbersAndNothingElse) {
  for (const KernelTable* kernels : Kernels()) {
    for (const CacheShape& heads : kShapes) {
      constexpr int kTokens = 45;
      Sequence s(heads, kTokens, 1);
      std::vector<uint8_t> expected(s.cache.as<uint8_t>(), s.cache.as<uint8_t>() + s.cache.size());
      s.Write(*kernels);
      for (int t = 0; t < kTokens; ++t) {
        for (int g = 0; g < heads.kv_heads; ++g) {
          uint8_t* at = expected.data() + (s.Cached(t, g) - s.cache.as<uint8_t>());
          for (int d = 0; d < heads.head_dim; ++d) {
            at[s.layout.KeyOffset(s.SlotInBlock(t), d)] = static_cast<uint8_t>(s.Code(t, g, d, false));
            at[s.layout.ValueOffset(s.SlotInBlock(t), d)] = static_cast<uint8_t>(s.Code(t, g, d, true));
          }
        }
      }
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(s.cache.as<uint8_t>()[i], expected[i]) << Describe(*kernels, heads) << " byte " << i;
      }
    }
  }
}

// All there are. 0 stands for a NaN, the largest number for an infinity and for what is larger than it: a block passes
// from one sequence to another.
TEST(KvFp8, EveryBF16BecomesTheNearestFiniteNumber) {
  constexpr CacheShape kHeads = {256, 1, 1, 128};
  for (const KernelTable* kernels : Kernels()) {
    for (const float scale : {1.0f, 0.375f, 1e-18f}) {
      Sequence s(kHeads, 256, 1);
      s.scales = {.key = scale, .value = scale};
      for (int bits = 0; bits < 65536; ++bits) {
        s.qkv[bits / 256 * s.ld + 2 * 256 + bits % 256] = BF16{static_cast<uint16_t>(bits)};
      }
      s.Write(*kernels);
      for (int bits = 0; bits < 65536; ++bits) {
        const float x = ToFloat(BF16{static_cast<uint16_t>(bits)});
        const int t = bits / 256, d = bits % 256;
        ASSERT_EQ(s.Cached(t, 0)[s.layout.ValueOffset(s.SlotInBlock(t), d)], std::isnan(x) ? 0 : Nearest(x / scale))
            << Describe(*kernels, kHeads) << " " << x << " / " << scale;
      }
    }
  }
}

// What the cache gives back of a KV head's keys or values, [tokens][head_dim].
std::vector<std::vector<double>> CachedNumbers(const Sequence& s, int group, bool value) {
  std::vector<std::vector<double>> numbers(s.tokens);
  for (int t = 0; t < s.tokens; ++t) {
    for (int d = 0; d < s.heads.head_dim; ++d) {
      numbers[t].push_back(Number(s.Code(t, group, d, value)) * (value ? s.scales.value : s.scales.key));
    }
  }
  return numbers;
}

// Of the last rows: softmax in double over the cached numbers, and Σ p·|v|.
struct Truth {
  double value, magnitude;
};
std::vector<Truth> FindTruth(const Sequence& s, int begin) {
  const CacheShape& h = s.heads;
  std::vector<std::vector<std::vector<double>>> k, v;
  for (int g = 0; g < h.kv_heads; ++g) {
    k.push_back(CachedNumbers(s, g, false));
    v.push_back(CachedNumbers(s, g, true));
  }
  std::vector<Truth> truth;
  for (int row = begin; row < s.tokens; ++row) {
    for (int head = 0; head < h.kv_heads * h.group; ++head) {
      const int g = head / h.group;
      const BF16* q = s.Head(row, g, head % h.group);
      std::vector<double> p;
      double max = -1e300, sum = 0;
      for (int t = 0; t <= row; ++t) {
        double score = 0;
        for (int d = 0; d < h.head_dim; ++d) score += ToFloat(q[d]) * k[g][t][d];
        p.push_back(score / std::sqrt(static_cast<double>(h.head_dim)));
        max = std::max(max, p.back());
      }
      for (double& x : p) sum += x = std::exp(x - max);
      for (int d = 0; d < h.head_dim; ++d) {
        Truth& element = truth.emplace_back(Truth{0, 0});
        for (size_t t = 0; t < p.size(); ++t) {
          element.value += p[t] / sum * v[g][t][d];
          element.magnitude += p[t] / sum * std::abs(v[g][t][d]);
        }
      }
    }
  }
  return truth;
}

// The tolerance is that of a BF16 cache (attention_test.cc): by BF16 pairs p errs by up to 2⁻⁸ of itself, FP32 parts by
// 2⁻¹² of Σ p·|v|, a stored result by 2⁻⁸.
TEST(KvFp8, AttentionIsNearTheExactSoftmaxOverTheCache) {
  for (const CacheShape& heads : kShapes) {
    for (const auto& [begin, end] :
         {std::pair{0, 1}, {16, 17}, {0, 70}, {126, 131}, {255, 256}, {300, 301}, {512, 514}}) {
      Sequence s(heads, end, static_cast<uint32_t>(end));
      const std::vector<Truth> truth = FindTruth(s, begin);
      for (const KernelTable* kernels : Kernels()) {
        const bool by_pairs = std::string(kernels->detail).find("dpbf16ps") != std::string::npos;
        s.Write(*kernels);
        const std::vector<BF16> out = s.Attend(*kernels, begin, end, 2);
        ASSERT_EQ(out.size(), truth.size());
        for (size_t i = 0; i < out.size(); ++i) {
          ASSERT_NEAR(ToFloat(out[i]), truth[i].value,
                      ((by_pairs ? 0x1p-8 : 0) + 0x1p-12) * truth[i].magnitude +
                          1.01 * 0x1p-8 * std::abs(truth[i].value) + 1e-6)
              << Describe(*kernels, heads) << " tokens " << begin << " to " << end << " element " << i;
        }
      }
    }
  }
}

// Every code of a cache is what it is to the bit, small ones too: of a key that has all of the weight the values come out.
TEST(KvFp8, EveryNumberComesOutAsItIs) {
  constexpr CacheShape kHeads = {256, 1, 1, 32};
  for (const KernelTable* kernels : Kernels()) {
    Sequence s(kHeads, 1, 1);
    s.scales = {};
    for (int code = 0; code < 256; ++code) {
      s.qkv[512 + code] = ToBF16(code % 128 == 127 ? 0.0f : static_cast<float>(Number(code)));
    }
    s.Write(*kernels);
    const std::vector<BF16> out = s.Attend(*kernels, 0, 1, 1);
    for (int code = 0; code < 256; ++code) {
      ASSERT_EQ(ToFloat(out[code]), ToFloat(s.qkv[512 + code])) << kernels->detail << " code " << code;
    }
    // And as keys: beside one of zeros the first token's key has a score of about −1 by its one number.
    for (int code = 1; code < 127; ++code) {
      Sequence pair(kHeads, 2, 1);
      pair.scales = {};
      std::fill(pair.qkv.begin(), pair.qkv.end(), BF16{0});
      const float number = static_cast<float>(Number(code));
      const BF16 q = ToBF16(16 / number);
      pair.qkv[pair.ld + code * 2] = q;           // of the second token; times 1 / √256
      pair.qkv[256 + code * 2] = ToBF16(-number);  // of the first
      pair.qkv[pair.ld + 512] = ToBF16(1.0f);     // the second token's value: p comes out
      pair.Write(*kernels);
      const double expected = 1 / (1 + std::exp(-double{ToFloat(q)} * number / 16));
      ASSERT_NEAR(ToFloat(pair.Attend(*kernels, 1, 2, 1)[0]), expected, 0.004) << kernels->detail << " code " << code;
    }
  }
}

TEST(KvFp8, ChunksAndTeamsChangeNoBit) {
  constexpr int kTokens = 190;
  for (const KernelTable* kernels : Kernels()) {
    for (const CacheShape& heads : kShapes) {
      Sequence s(heads, kTokens, 3);
      s.Write(*kernels);
      ExpectChunksChangeNoBit(s, *kernels, Describe(*kernels, heads));
      if (HasFatalFailure()) return;
    }
  }
}

// Contexts around the borders of segments, as decodes of any team and as rows of a chunk.
TEST(KvFp8, SplitKeysChangeNoBit) {
  constexpr int kTokens = 5000;
  for (const CacheShape& heads : {CacheShape{32, 1, 2, 32}, {64, 1, 2, 128}, {32, 1, 9, 64}}) {
    Sequence s(heads, kTokens, 4);
    s.Write(*Kernels()[0]);  // all write the same bits
    for (const KernelTable* kernels : Kernels()) {
      ExpectSplitKeysChangeNoBit(s, *kernels, Describe(*kernels, heads), [](int, const std::vector<BF16>&) {});
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
