// The INT8 KV cache of every ISA that this CPU runs: qk_norm_rope writes it bit for bit as ops.h
// (KvScales) says, and attention over what was written is the exact softmax over those numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/kv_cache_test_util.h"
#include "kernels/test_kernels.h"

namespace tiercel::kernels {
namespace {

enum class Scaling : uint8_t { kToken, kChannel, kBoth };  // KvScales: none, both scale and offset (C8), a scale alone

struct Heads : CacheShape {
  Scaling scaling;
};

std::string Describe(const KernelTable& kernels, const Heads& h) {
  return std::string(kernels.detail) + " head_dim=" + std::to_string(h.head_dim) +
         " kv_heads=" + std::to_string(h.kv_heads) + " group=" + std::to_string(h.group) +
         " block_size=" + std::to_string(h.block_size) + std::array{" tokens", " channels", " both"}[static_cast<size_t>(h.scaling)];
}

struct Sequence : CachedSequence {
  Sequence(const Heads& heads, int tokens, uint32_t seed)
      : CachedSequence(DType::kI8, heads, tokens, seed), heads(heads) {
    const int64_t channels = int64_t{heads.kv_heads} * heads.head_dim;
    const bool c8 = heads.scaling == Scaling::kChannel;
    for (int64_t i = 0; i < channels; ++i) {
      if (heads.scaling == Scaling::kToken) {
        k_scale.push_back(1);
        v_scale.push_back(1);
      } else {
        k_scale.push_back(c8 ? 0.02f + 0.001f * static_cast<float>(i % 17) : std::exp2(static_cast<float>(-(i % 7))));
        v_scale.push_back(c8 ? 0.03f - 0.001f * static_cast<float>(i % 13) : std::exp2(static_cast<float>(-(i % 3))));
      }
      k_offset.push_back(c8 ? static_cast<float>(i % 7 - 3) : 0);
      v_offset.push_back(c8 ? static_cast<float>(i % 5 - 2) : 0);
    }
    if (heads.scaling != Scaling::kToken) scales = {.k_scale = k_scale.data(), .v_scale = v_scale.data()};
    if (c8) std::tie(scales.k_offset, scales.v_offset) = std::pair(k_offset.data(), v_offset.data());
  }

  Heads heads;
  std::vector<float> k_scale, v_scale, k_offset, v_offset;  // what they are where they are not given, too
};

// The formula of KvScales: the bytes of the head x and its token's scale, which is 1 where `by_token` is not.
struct Quantized {
  std::vector<int> q;
  float token = 1;
};
Quantized Quantize(const BF16* x, int n, const float* scale, const float* offset, bool by_token) {
  Quantized result;
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::abs(ToFloat(x[i]) / scale[i]));
  if (by_token) result.token = largest / 127.0f;
  for (int i = 0; i < n; ++i) {
    volatile float quotient = ToFloat(x[i]) / scale[i] / result.token;
    const float sum = quotient + offset[i];
    result.q.push_back(
        static_cast<int>(std::nearbyint(std::min(127.0f, std::max(-128.0f, sum)))));
  }
  return result;
}

Quantized Expected(const Sequence& s, int token, int group, bool value) {
  const int64_t channel = int64_t{group} * s.heads.head_dim;
  const float* scale = value ? s.v_scale.data() : s.k_scale.data();
  const float* offset = value ? s.v_offset.data() : s.k_offset.data();
  return Quantize(s.Head(token, group, s.heads.group + (value ? 1 : 0)), s.heads.head_dim,
                  scale + channel, offset + channel, s.heads.scaling != Scaling::kChannel);
}

const Heads kShapes[] = {{{32, 1, 1, 32}, Scaling::kToken},   {{32, 1, 1, 32}, Scaling::kChannel},  {{64, 3, 2, 64}, Scaling::kChannel},
                         {{128, 2, 2, 128}, Scaling::kToken}, {{96, 2, 5, 32}, Scaling::kToken}, {{128, 1, 8, 256}, Scaling::kChannel},
                         {{256, 2, 4, 64}, Scaling::kToken},
                         {{64, 2, 2, 64}, Scaling::kBoth}, {{32, 1, 5, 32}, Scaling::kBoth}};

TEST(KvInt8, WritesTheQuantizedHeadsAndNothingElse) {
  for (const KernelTable* kernels : Kernels()) {
    for (const Heads& heads : kShapes) {
      constexpr int kTokens = 45;
      Sequence s(heads, kTokens, 1);
      std::vector<int8_t> expected(s.cache.as<int8_t>(), s.cache.as<int8_t>() + s.cache.size());
      s.Write(*kernels);
      for (int t = 0; t < kTokens; ++t) {
        const int slot = s.SlotInBlock(t);
        for (int g = 0; g < heads.kv_heads; ++g) {
          int8_t* at = expected.data() + (s.Cached(t, g) - s.cache.as<uint8_t>());
          const Quantized k = Expected(s, t, g, false), v = Expected(s, t, g, true);
          for (int d = 0; d < heads.head_dim; ++d) {
            at[s.layout.KeyOffset(slot, d)] = static_cast<int8_t>(k.q[d]);
            at[s.layout.ValueOffset(slot, d)] = static_cast<int8_t>(v.q[d]);
          }
          std::memcpy(at + s.layout.KeyScaleOffset(slot), &k.token, sizeof(float));
          std::memcpy(at + s.layout.ValueScaleOffset(slot), &v.token, sizeof(float));
        }
      }
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(s.cache.as<int8_t>()[i], expected[i])
            << Describe(*kernels, heads) << " byte " << i;
      }
    }
  }
}

// A token whose numbers are not finite must not reach the sequences that later use its block: 0 stands
// for a NaN, the largest number for an infinity, as in a BF16 cache.
TEST(KvInt8, WhatIsNotFiniteIsWrittenAsFiniteNumbers) {
  constexpr BF16 kLargest{0x7f7f}, kInfinity{0x7f80}, kNaN{0xffc1};
  for (const Heads& heads : {Heads{{64, 1, 1, 32}, Scaling::kToken}, Heads{{64, 1, 1, 32}, Scaling::kChannel},
                             Heads{{64, 1, 1, 32}, Scaling::kBoth}}) {
    for (const KernelTable* kernels : Kernels()) {
      Sequence finite(heads, 3, 1), sick(heads, 3, 1);
      // v, which nothing rotates; k of the last token as a whole.
      const int64_t v = 128;
      finite.qkv[v + 5] = BF16{0};
      sick.qkv[v + 5] = kNaN;
      finite.qkv[finite.ld + v + 9] = kLargest;
      sick.qkv[sick.ld + v + 9] = kInfinity;
      for (int d = 0; d < 64; ++d) {
        finite.qkv[2 * finite.ld + 64 + d] = BF16{0};
        sick.qkv[2 * sick.ld + 64 + d] = kNaN;
      }
      finite.Write(*kernels);
      sick.Write(*kernels);
      for (size_t i = 0; i < sick.cache.size(); ++i) {
        ASSERT_EQ(sick.cache.as<int8_t>()[i], finite.cache.as<int8_t>()[i])
            << Describe(*kernels, heads) << " byte " << i;
      }
      for (int t = 0; t < 3; ++t) {  // and those are what the formula says
        const Quantized value = Expected(finite, t, 0, true);
        for (int d = 0; d < 64; ++d) {
          EXPECT_EQ(static_cast<int8_t>(sick.Cached(t, 0)[sick.layout.ValueOffset(t, d)]), value.q[d]);
        }
      }
    }
  }
}

// Softmax in double over the cached numbers. A stored result errs by 2⁻⁸ of itself, all FP32 parts
// by less than 2⁻¹² of Σ p·|v|. AMX rounds q and p (≤ 1, times the tokens' scales) to 1 / 65278 of
// their largest: of q this is an absolute error of each score, which is p's relative one and the
// sum's again. By BF16 pairs p errs by up to 2⁻⁸ of itself (attention_test.cc).
void ExpectNearTruth(const KernelTable& kernels, const Sequence& s, int begin,
                     const std::vector<BF16>& out) {
  const Heads& h = s.heads;
  const bool amx = std::string(kernels.isa) == "amx";
  const bool by_pairs = std::string(kernels.detail).find("dpbf16ps") != std::string::npos;
  const int rows = static_cast<int>(out.size()) / (h.kv_heads * h.group * h.head_dim);
  for (int g = 0; g < h.kv_heads; ++g) {
    std::vector<Quantized> k, v;
    for (int t = 0; t < begin + rows; ++t) {
      k.push_back(Expected(s, t, g, false));
      v.push_back(Expected(s, t, g, true));
    }
    const int64_t channel = int64_t{g} * h.head_dim;
    for (int row = 0; row < rows; ++row) {
      for (int head = 0; head < h.group; ++head) {
        const BF16* q = s.Head(begin + row, g, head);
        std::vector<double> p;
        double max = -1e300, sum = 0, widest = 0, largest_q = 0, largest_scale = 0;
        for (int d = 0; d < h.head_dim; ++d) {
          largest_q = std::max(largest_q, std::abs(ToFloat(q[d]) * double{s.k_scale[channel + d]}));
        }
        for (int t = 0; t <= begin + row; ++t) {
          double score = 0, magnitude = 0;
          for (int d = 0; d < h.head_dim; ++d) {
            const double key = (k[t].q[d] - double{s.k_offset[channel + d]}) * s.k_scale[channel + d];
            score += ToFloat(q[d]) * key * double{k[t].token};
            magnitude += std::abs(k[t].q[d] * double{k[t].token});
          }
          p.push_back(score / std::sqrt(static_cast<double>(h.head_dim)));
          max = std::max(max, p.back());
          widest = std::max(widest, magnitude / std::sqrt(static_cast<double>(h.head_dim)));
        }
        for (double& x : p) sum += x = std::exp(x - max);
        const double p_error = amx ? 2 * widest * largest_q / 65278 : 0;
        for (size_t t = 0; t < p.size(); ++t) {
          largest_scale = std::max(largest_scale, double{v[t].token});
        }
        for (int d = 0; d < h.head_dim; ++d) {
          double value = 0, magnitude = 0, bytes = 0;
          for (size_t t = 0; t < p.size(); ++t) {
            const double channel_scale = s.v_scale[channel + d], scale = channel_scale * v[t].token;
            const double offset = s.v_offset[channel + d];
            value += p[t] / sum * (v[t].q[d] - offset) * scale;
            magnitude += p[t] / sum * (std::abs(v[t].q[d]) + std::abs(offset)) * scale;
            bytes += std::abs(v[t].q[d]) * channel_scale * largest_scale / sum;
          }
          const int64_t at = (int64_t{row} * h.kv_heads * h.group + g * h.group + head) * h.head_dim;
          ASSERT_NEAR(ToFloat(out[at + d]), value,
                      (p_error + (by_pairs ? 0x1p-8 : 0) + 0x1p-12) * magnitude + (amx ? bytes / 65278 : 0) +
                          1.01 * 0x1p-8 * std::abs(value) + 1e-6)
              << Describe(kernels, h) << " token " << begin + row << " head " << head << " of "
              << g << " element " << d;
        }
      }
    }
  }
}

TEST(KvInt8, AttentionIsNearTheExactSoftmaxOverTheCache) {
  for (const KernelTable* kernels : Kernels()) {
    for (const Heads& heads : kShapes) {
      for (const auto& [begin, end] :
           {std::pair{0, 1}, {16, 17}, {0, 70}, {126, 131}, {255, 256}, {300, 301}, {512, 514}}) {
        Sequence s(heads, end, static_cast<uint32_t>(end));
        s.Write(*kernels);
        ExpectNearTruth(*kernels, s, begin, s.Attend(*kernels, begin, end, 2));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(KvInt8, ChunksAndTeamsChangeNoBit) {
  constexpr int kTokens = 290;
  for (const KernelTable* kernels : Kernels()) {
    for (const Heads& heads : kShapes) {
      Sequence s(heads, kTokens, 3);
      s.Write(*kernels);
      ExpectChunksChangeNoBit(s, *kernels, Describe(*kernels, heads));
      if (HasFatalFailure()) return;
    }
  }
}

// Contexts around the borders of segments, as decodes of any team and as rows of a chunk.
TEST(KvInt8, SplitKeysChangeNoBit) {
  constexpr int kTokens = 5000;
  for (const Heads& heads : {Heads{{32, 1, 2, 32}, Scaling::kToken}, Heads{{64, 1, 2, 128}, Scaling::kChannel},
                             Heads{{32, 1, 9, 64}, Scaling::kToken}}) {
    Sequence s(heads, kTokens, 4);
    s.Write(*Kernels()[0]);  // all write the same bits
    for (const KernelTable* kernels : Kernels()) {
      ExpectSplitKeysChangeNoBit(s, *kernels, Describe(*kernels, heads), [&](int begin, const std::vector<BF16>& chunk) {
        if (heads.group == 2) ExpectNearTruth(*kernels, s, begin, chunk);
      });
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
