// RMS norm, q/k norm with rotary embedding, the rotary tables and the sampler's row operators of
// every ISA that this CPU runs, against the same in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/test_kernels.h"

namespace tiercel::kernels {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr BF16 kCanary{0xa5a5};

std::vector<float> Normal(int64_t n, uint32_t seed, float spread = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}
std::vector<BF16> NormalBF16(int64_t n, uint32_t seed, float spread = 1) {
  std::vector<BF16> values(n);
  const std::vector<float> exact = Normal(n, seed, spread);
  std::transform(exact.begin(), exact.end(), values.begin(), ToBF16);
  return values;
}

// Storing BF16 errs by half a unit in the last place, at most 2⁻⁸ of the value; the FP32 arithmetic
// before it by a few 2⁻²⁴ of the largest term (√n · 2⁻²⁴ in the sum of squares).
double Tolerance(double value, double largest_term) {
  return 1.001 * 0x1p-8 * std::abs(value) + 0x1p-18 * std::abs(largest_term) + 1e-30;
}

double Factor(const BF16* x, int64_t n, double eps) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{ToFloat(x[i])} * ToFloat(x[i]);
  return 1 / std::sqrt(sum / static_cast<double>(n) + eps);
}

TEST(RmsNorm, IsNearTheExactValueForEveryHiddenSize) {
  for (const KernelTable* kernels : Kernels()) {
    for (int64_t hidden : {1, 2, 15, 16, 17, 31, 33, 100, 128, 577, 1024, 5120}) {
      for (float eps : {1e-6f, 1e-5f, 0.5f}) {
        const int64_t rows = 5;
        const auto x = NormalBF16(rows * hidden, 1 + hidden, eps == 1e-6f ? 0.001f : 20.0f);
        const auto weight = Normal(hidden, 2), bias = Normal(hidden, 3);
        for (bool with_bias : {false, true}) {
          const int64_t ldo = hidden + (with_bias ? 7 : 0);
          std::vector<BF16> out(rows * ldo + 16, kCanary);
          RmsNormArgs args{.x = x.data(),
                           .weight = weight.data(),
                           .bias = with_bias ? bias.data() : nullptr,
                           .out = out.data(),
                           .ldo = ldo,
                           .hidden = hidden,
                           .rows = rows,
                           .eps = eps};
          for (int worker = 0; worker < 3; ++worker) kernels->rms_norm(args, {worker, 3});
          for (int64_t i = 0; i < rows * hidden; ++i) {
            const int64_t c = i % hidden;
            const double b = with_bias ? bias[c] : 0;
            const double term =
                ToFloat(x[i]) * Factor(&x[i - c], hidden, eps) * weight[c];
            ASSERT_NEAR(ToFloat(out[i / hidden * ldo + c]), term + b,
                        Tolerance(term + b, std::abs(term) + std::abs(b)))
                << kernels->detail << " hidden " << hidden << " eps " << eps << " at " << i;
          }
          for (int64_t i = 0; i < rows * ldo + 16; ++i) {
            if (i < rows * ldo && i % ldo < hidden) continue;
            ASSERT_EQ(out[i].bits, kCanary.bits) << kernels->detail << " hidden " << hidden;
          }
        }
      }
    }
  }
}

TEST(RmsNorm, BeforeRoundingIsNearerToTheExactValue) {
  for (const KernelTable* kernels : Kernels()) {
    for (int64_t hidden : {1, 17, 64, 1024, 5120}) {
      const int64_t rows = 3, ldo = hidden + 5;
      const auto x = NormalBF16(rows * hidden, 1 + hidden, 20.0f);
      const auto weight = Normal(hidden, 2), bias = Normal(hidden, 3);
      for (bool with_bias : {false, true}) {
        std::vector<float> out(rows * ldo, 77.0f);
        RmsNormArgs args{.x = x.data(),
                         .weight = weight.data(),
                         .bias = with_bias ? bias.data() : nullptr,
                         .out_f32 = out.data(),
                         .ldo = ldo,
                         .hidden = hidden,
                         .rows = rows};
        for (int worker = 0; worker < 2; ++worker) kernels->rms_norm(args, {worker, 2});
        for (int64_t i = 0; i < rows * ldo; ++i) {
          const int64_t r = i / ldo, c = i % ldo;
          if (c >= hidden) {
            ASSERT_EQ(out[i], 77.0f) << kernels->detail << " hidden " << hidden;
            continue;
          }
          const double term = ToFloat(x[r * hidden + c]) * Factor(&x[r * hidden], hidden, 1e-6) * weight[c];
          const double b = with_bias ? bias[c] : 0;
          // FP32 alone: of one chain of 5120 squares some √5120 · 2⁻²⁴, which is no bound, so twice as much, and a few 2⁻²⁴ after it.
          ASSERT_NEAR(out[i], term + b, 0x1p-17 * (std::abs(term) + std::abs(b)) + 1e-30)
              << kernels->detail << " hidden " << hidden << " at " << i;
        }
      }
    }
  }
}

TEST(RmsNorm, RowIndexAndSharesChangeNoBit) {
  for (const KernelTable* kernels : Kernels()) {
    const int64_t hidden = 203;
    const auto x = NormalBF16(9 * hidden, 4);
    const auto weight = Normal(hidden, 5);
    std::vector<BF16> all(9 * hidden);
    RmsNormArgs args{.x = x.data(), .weight = weight.data(), .out = all.data(), .ldo = hidden,
                     .hidden = hidden, .rows = 9};
    kernels->rms_norm(args, {0, 1});
    const std::vector<int32_t> index = {8, 0, 0, 5, 7};
    for (int workers : {1, 2, 4, 7}) {
      std::vector<BF16> picked(index.size() * hidden, kCanary);
      args.row_index = index.data();
      args.rows = static_cast<int64_t>(index.size());
      args.out = picked.data();
      const int32_t uneven[] = {0, 3, 4, 6, 7};
      for (int worker = 0; worker < workers; ++worker) {
        kernels->rms_norm(args, {worker, workers, workers == 4 ? uneven : nullptr});
      }
      for (size_t r = 0; r < index.size(); ++r) {
        for (int64_t c = 0; c < hidden; ++c) {
          ASSERT_EQ(picked[r * hidden + c].bits, all[index[r] * hidden + c].bits)
              << kernels->detail << " workers " << workers << " row " << r << " column " << c;
        }
      }
    }
  }
}

struct RopeCase {
  int head_dim, kv_heads, group, block_size;
  bool q_norm, k_norm, bias;
};

// Operands of one call; made anew for each kernel, as q is rewritten in place.
struct RopeProblem {
  explicit RopeProblem(const RopeCase& c)
      : layout{c.kv_heads, c.head_dim, c.block_size},
        ldqkv(int64_t{c.kv_heads} * (c.group + 2) * c.head_dim + 8),
        qkv(NormalBF16(kRows * ldqkv, 1, 3)),
        q_weight(Normal(c.head_dim, 2)),
        k_weight(Normal(c.head_dim, 3)),
        q_bias(Normal(c.head_dim, 4)),
        k_bias(Normal(c.head_dim, 5)),
        cache(3 * layout.BlockSize(), kCanary) {
    for (float angle : Normal(kRows * c.head_dim / 2, 6, 2)) {
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
    const int64_t size = c.block_size;
    slots = {0, 2 * size + size - 1, 7, size + 17, 2 * size, 31, size};
    args.qkv = qkv.data();
    args.ldqkv = ldqkv;
    if (c.q_norm) args.q_norm = q_weight.data();
    if (c.k_norm) args.k_norm = k_weight.data();
    if (c.bias) args.q_norm_bias = q_bias.data();
    if (c.bias) args.k_norm_bias = k_bias.data();
    args.cos = cos.data();
    args.sin = sin.data();
    args.kv = cache.data();
    args.layout = layout;
    args.kv_slot = slots.data();
    args.num_q_heads = c.kv_heads * c.group;
    args.rows = kRows;
  }

  static constexpr int64_t kRows = 7;
  KvLayout layout;
  int64_t ldqkv;
  std::vector<BF16> qkv;
  std::vector<float> q_weight, k_weight, q_bias, k_bias, cos, sin;
  std::vector<BF16> cache;
  std::vector<int64_t> slots;
  QkNormRopeArgs args;
};

// What element d of the head x becomes, exactly.
void ExpectRotated(BF16 got, const BF16* x, int d, int head_dim, const float* weight,
                   const float* bias, double eps, const float* cos, const float* sin,
                   const std::string& what) {
  const int half = head_dim / 2;
  const double factor = weight ? Factor(x, head_dim, eps) : 1;
  const auto normed = [&](int i) {
    return ToFloat(x[i]) * factor * (weight ? weight[i] : 1.0) + (bias ? bias[i] : 0.0);
  };
  const int i = d % half;
  const double a = normed(i), b = normed(i + half);
  const double value = d < half ? a * cos[i] - b * sin[i] : b * cos[i] + a * sin[i];
  ASSERT_NEAR(ToFloat(got), value, Tolerance(value, std::abs(a) + std::abs(b) + 4)) << what;
}

TEST(QkNormRope, RotatesQWritesTheCacheAndTouchesNothingElse) {
  const RopeCase cases[] = {
      {32, 1, 1, 32, true, true, false},    {64, 3, 2, 64, false, false, false},
      {96, 2, 5, 32, true, true, true},     {128, 8, 2, 128, true, true, false},
      {128, 2, 16, 64, false, true, false}, {256, 2, 4, 256, true, false, false}};
  for (const KernelTable* kernels : Kernels()) {
    for (const RopeCase& c : cases) {
      for (int workers : {1, 3}) {
        const RopeProblem before(c);
        RopeProblem after(c);
        const int32_t uneven[] = {0, 3, 4, 6};
        for (int w = 0; w < workers; ++w) kernels->qk_norm_rope(after.args, {w, workers, workers == 3 ? uneven : nullptr});
        const QkNormRopeArgs& args = after.args;
        const std::string what =
            std::string(kernels->detail) + " head_dim " + std::to_string(c.head_dim);
        std::vector<BF16> untouched = before.cache, qkv = before.qkv;
        for (int64_t r = 0; r < args.rows; ++r) {
          const float* cos = args.cos + r * c.head_dim / 2;
          const float* sin = args.sin + r * c.head_dim / 2;
          for (int g = 0; g < c.kv_heads; ++g) {
            for (int h = 0; h <= c.group; ++h) {
              const int64_t at = r * after.ldqkv + (int64_t{g} * (c.group + 2) + h) * c.head_dim;
              const bool key = h == c.group;
              const int64_t slot = args.kv_slot[r];
              for (int d = 0; d < c.head_dim; ++d) {
                BF16 got = after.qkv[at + d];
                if (key) {
                  const int64_t head = after.layout.HeadOffset(slot / c.block_size, g);
                  const int in_block = static_cast<int>(slot % c.block_size);
                  const int64_t k = head + after.layout.KeyOffset(in_block, d);
                  const int64_t v = head + after.layout.ValueOffset(in_block, d);
                  got = after.cache[k];
                  untouched[k] = got;
                  untouched[v] = before.qkv[at + c.head_dim + d];
                } else {
                  qkv[at + d] = got;
                }
                ExpectRotated(got, &before.qkv[at], d, c.head_dim, key ? args.k_norm : args.q_norm,
                              key ? args.k_norm_bias : args.q_norm_bias, args.eps, cos, sin, what);
                if (HasFatalFailure()) return;
              }
            }
          }
        }
        EXPECT_TRUE(untouched == after.cache) << what << ": values or other slots differ";
        EXPECT_TRUE(qkv == after.qkv) << what << ": k, v or the row's pad was changed";
      }
    }
  }
}

// What ops.h says of numbers that are not finite, in k after its rotation (here by an angle of 0) and
// in v. Every other number keeps its bits.
TEST(QkNormRope, WhatItWritesIsFinite) {
  constexpr RopeCase kCase = {128, 1, 1, 32, false, false, false};
  std::vector<uint16_t> patterns;
  for (const uint32_t magnitude : {0x0000, 0x0001, 0x007f, 0x0080, 0x3f80, 0x7f7f, 0x7f80, 0x7f81,
                                   0x7fbf, 0x7fc0, 0x7fff}) {
    patterns.push_back(static_cast<uint16_t>(magnitude));
    patterns.push_back(static_cast<uint16_t>(magnitude | 0x8000));
  }
  const auto written = [](uint16_t bits) -> uint16_t {
    const uint16_t sign = bits & 0x8000, magnitude = bits & 0x7fff;
    return magnitude > 0x7f80 ? 0 : magnitude == 0x7f80 ? sign | 0x7f7f : bits;
  };
  for (const KernelTable* kernels : Kernels()) {
    RopeProblem problem(kCase);
    std::fill(problem.cos.begin(), problem.cos.end(), 1.0f);
    std::fill(problem.sin.begin(), problem.sin.end(), 0.0f);
    // Row 0: k a number in each half; v all patterns. Row 1: k a NaN and an infinity.
    BF16* k = &problem.qkv[128];
    for (int d = 0; d < 64; ++d) k[d] = ToBF16(1.0f), k[64 + d] = ToBF16(0.0f);
    for (int d = 0; d < 128; ++d) k[128 + d] = BF16{patterns[d % patterns.size()]};
    BF16* sick = &problem.qkv[problem.ldqkv + 128];
    for (int d = 0; d < 128; ++d) sick[d] = ToBF16(2.0f);
    sick[3] = BF16{0x7fc1};
    sick[64 + 7] = BF16{0xff80};
    kernels->qk_norm_rope(problem.args, {0, 1});
    const auto at = [&](int64_t row, bool value, int d) {
      const int64_t slot = problem.slots[row];
      const int in_block = static_cast<int>(slot % kCase.block_size);
      return problem.cache[problem.layout.HeadOffset(slot / kCase.block_size, 0) +
                           (value ? problem.layout.ValueOffset(in_block, d)
                                  : problem.layout.KeyOffset(in_block, d))].bits;
    };
    for (int d = 0; d < 128; ++d) {
      EXPECT_EQ(at(0, true, d), written(patterns[d % patterns.size()]))
          << kernels->detail << " value of " << patterns[d % patterns.size()];
      EXPECT_EQ(at(0, false, d), d < 64 ? 0x3f80 : 0) << kernels->detail << " key " << d;
      // The rotation takes the pair (d, d + 64): of a NaN, and of ∞ · 0, both are NaN.
      const uint16_t key = d % 64 == 3 || d == 7 ? 0 : d == 64 + 7 ? 0xff7f : 0x4000;
      EXPECT_EQ(at(1, false, d), key) << kernels->detail << " sick key " << d;
    }
  }
}

// A norm's weight may carry a finite key beyond BF16.
TEST(QkNormRope, WhatOverflowsInTheNormIsTheLargestNumber) {
  constexpr RopeCase kCase = {32, 1, 1, 32, false, true, false};
  for (const KernelTable* kernels : Kernels()) {
    RopeProblem problem(kCase);
    std::fill(problem.cos.begin(), problem.cos.end(), 1.0f);
    std::fill(problem.sin.begin(), problem.sin.end(), 0.0f);
    for (int d = 0; d < 32; ++d) problem.qkv[32 + d] = ToBF16(d % 2 == 0 ? 1.0f : -1.0f);
    std::fill(problem.k_weight.begin(), problem.k_weight.end(), 3.4028e38f);  // FP32's; BF16: ∞
    kernels->qk_norm_rope(problem.args, {0, 1});
    for (int d = 0; d < 32; ++d) {
      EXPECT_EQ(problem.cache[problem.layout.KeyOffset(0, d)].bits, d % 2 == 0 ? 0x7f7f : 0xff7f)
          << kernels->detail;
    }
  }
}

// In FP32 and in the order of the parts, rounded once: every ISA, every share of the work.
TEST(AddParts, AddsInOrderAndRoundsOnce) {
  for (const auto& [rows, n, parts] : {std::tuple{1, 64, 1}, {3, 40, 2}, {5, 100, 4}, {2, 7, 3}}) {
    const int64_t ldp = n + 4, ld = n + 6;
    std::vector<std::vector<float>> values;
    std::vector<const float*> begins;
    for (int p = 0; p < parts; ++p) values.push_back(Normal(rows * ldp, 11 + p));
    for (const auto& v : values) begins.push_back(v.data());
    const std::vector<BF16> residual = NormalBF16(rows * ld, 5);
    for (const KernelTable* kernels : Kernels()) {
      for (const int workers : {1, 3}) {
        std::vector<BF16> out(rows * ld, kCanary);
        const AddPartsArgs args{.parts = {.parts = begins.data(), .count = parts, .ld = ldp},
                                .residual = residual.data(), .ldr = ld, .out = out.data(), .ldo = ld,
                                .n = n, .rows = rows};
        for (int worker = 0; worker < workers; ++worker) kernels->add_parts(args, {worker, workers});
        for (int64_t i = 0; i < rows * ld; ++i) {
          const int64_t r = i / ld, c = i % ld;
          if (c >= n) {
            ASSERT_EQ(out[i].bits, kCanary.bits) << kernels->detail;
            continue;
          }
          float sum = values[0][r * ldp + c];
          for (int p = 1; p < parts; ++p) sum += values[p][r * ldp + c];
          ASSERT_EQ(out[i].bits, ToBF16(ToFloat(residual[i]) + sum).bits) << kernels->detail << " " << i;
        }
      }
    }
  }
}

TEST(RopeTable, IsTheFunctionOfTheFp32Angle) {
  for (const KernelTable* kernels : Kernels()) {
    const std::vector<int32_t> positions = {0, 1, 2, 100, 4095, 40959, 131071, 1000000};
    std::vector<float> inv_freq;
    for (int i = 0; i < 37; ++i) inv_freq.push_back(std::pow(1e6f, -i / 37.0f));
    const int64_t half = 37, rows = static_cast<int64_t>(positions.size());
    for (float attention_factor : {1.0f, 1.2079442f}) {
      std::vector<float> cos(rows * half, kNaN), sin(rows * half, kNaN);
      const RopeTableArgs args{.positions = positions.data(),
                               .inv_freq = inv_freq.data(),
                               .attention_factor = attention_factor,
                               .cos = cos.data(),
                               .sin = sin.data(),
                               .half = half,
                               .rows = rows};
      for (int worker = 0; worker < 3; ++worker) kernels->rope_table(args, {worker, 3});
      for (int64_t i = 0; i < rows * half; ++i) {
        const float angle = static_cast<float>(positions[i / half]) * inv_freq[i % half];
        // Two roundings to FP32: the function's and the product's.
        ASSERT_NEAR(cos[i], std::cos(double{angle}) * attention_factor, 0x1.2p-23)
            << kernels->detail << " position " << positions[i / half];
        ASSERT_NEAR(sin[i], std::sin(double{angle}) * attention_factor, 0x1.2p-23)
            << kernels->detail << " position " << positions[i / half];
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
