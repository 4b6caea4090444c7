// The sampler's row operators of every ISA that this CPU runs. Each row ends where its allocation
// ends, so the sanitizer sees a read behind it.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/test_kernels.h"

namespace tiercel::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kQuietNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<int64_t> Sizes() {
  std::vector<int64_t> sizes;
  for (int64_t n = 1; n <= 70; ++n) sizes.push_back(n);
  sizes.insert(sizes.end(), {127, 128, 129, 1000, 151936});
  return sizes;
}

// Logits with ties (few distinct values), some −inf and, if asked, some NaN.
std::vector<float> Row(int64_t n, uint32_t seed, bool with_nan) {
  std::mt19937 random(seed);
  std::vector<float> x(n);
  for (float& v : x) {
    const uint32_t r = static_cast<uint32_t>(random());
    v = static_cast<float>(static_cast<int>(r % 41) - 20) * 0.75f;
    if (r >> 16 & 7) continue;
    v = with_nan && (r >> 20 & 1) ? kQuietNaN : -kInfinity;
  }
  return x;
}

template <typename Check>
void ForEveryRow(Check check) {
  for (const KernelTable* kernels : Kernels()) {
    for (int64_t n : Sizes()) {
      for (uint32_t seed = 0; seed < (n > 1000 ? 2u : 8u); ++seed) {
        std::vector<float> x = Row(n, seed * 1000 + static_cast<uint32_t>(n), seed % 2 == 1);
        SCOPED_TRACE(std::string(kernels->detail) + " n " + std::to_string(n) + " seed " +
                     std::to_string(seed));
        check(kernels->rows, x);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(RowOps, ArgMaxIsTheFirstMaximumAndSkipsNaN) {
  ForEveryRow([](const RowOps& ops, const std::vector<float>& x) {
    int64_t expected = 0;
    float value = -kInfinity;
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] > value) value = x[expected = static_cast<int64_t>(i)];
    }
    float max = 0;
    EXPECT_EQ(ops.argmax(x.data(), static_cast<int64_t>(x.size()), &max), expected);
    EXPECT_EQ(max, value);
  });
}

TEST(RowOps, ArgMaxFindsEveryPlace) {
  for (const KernelTable* kernels : Kernels()) {
    for (int64_t n : {1, 8, 17, 70}) {
      for (float rest : {-kInfinity, kQuietNaN, -1.0f}) {
        for (int64_t at = 0; at < n; ++at) {
          std::vector<float> x(n, rest);
          x[at] = x[n - 1] = 0.0f;  // tied with the last
          float max = -1;
          EXPECT_EQ(kernels->rows.argmax(x.data(), n, &max), at) << kernels->detail << " n " << n;
          EXPECT_EQ(max, 0.0f);
        }
        std::vector<float> x(n, rest);
        float max = 1;
        EXPECT_EQ(kernels->rows.argmax(x.data(), n, &max), 0) << kernels->detail << " n " << n;
        EXPECT_EQ(max, rest == -1.0f ? -1.0f : -kInfinity) << kernels->detail;
      }
    }
  }
}

TEST(RowOps, CollectAndCountAgreeWithTheirDefinition) {
  ForEveryRow([](const RowOps& ops, const std::vector<float>& x) {
    const int64_t n = static_cast<int64_t>(x.size());
    for (float threshold : {-kInfinity, -3.0f, 0.0f, 14.25f, 15.0f, 16.0f, kInfinity, kQuietNaN}) {
      std::vector<int32_t> expected;
      for (int64_t i = 0; i < n; ++i) {
        if (x[i] >= threshold) expected.push_back(static_cast<int32_t>(i));
      }
      const int64_t count = static_cast<int64_t>(expected.size());
      EXPECT_EQ(ops.count_at_least(x.data(), n, threshold), count) << threshold;
      for (int64_t capacity : {int64_t{0}, int64_t{1}, count / 2, count - 1, count, n}) {
        if (capacity < 0) continue;
        const int64_t kept = std::min(count, capacity);
        // Exactly as long as promised, but for one canary that catches a write without sanitizer.
        std::vector<int32_t> indices(capacity + 1, -7);
        EXPECT_EQ(ops.collect_at_least(x.data(), n, threshold, indices.data(), capacity), count);
        EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + kept, indices.begin()))
            << threshold << " capacity " << capacity;
        EXPECT_EQ(indices[kept], -7) << threshold << " capacity " << capacity;
      }
    }
  });
}

// Each exponential errs by an ulp or two, plus the argument's rounding: (x − max) · scale of up to
// 60 has an absolute error of 2⁻¹⁸ at most, for terms of e⁻⁶⁰; near the maximum far less. A
// partial sum of 128 equal terms errs by 128 · 2⁻²⁵ at worst. 4e-6 bounds them together.
TEST(RowOps, SumExpIsNearTheExactSum) {
  ForEveryRow([](const RowOps& ops, const std::vector<float>& x) {
    const int64_t n = static_cast<int64_t>(x.size());
    float max = 0;
    ops.argmax(x.data(), n, &max);
    for (float scale : {1.0f, 0.1f, 2.0f, 1e-3f, 100.0f}) {
      double sum = 0;
      for (float v : x) {
        if (v > -kInfinity) sum += std::exp((double{v} - max) * double{scale});
      }
      const float got = ops.sum_exp(x.data(), n, max, scale);
      EXPECT_NEAR(got, sum, 4e-6 * sum) << "scale " << scale;
    }
  });
}

TEST(RowOps, KeepsTheAllowedTokens) {
  std::mt19937 random(3);
  ForEveryRow([&](const RowOps& ops, const std::vector<float>& x) {
    for (const uint32_t rare : {0u, 1u, 15u, 16u}) {  // of 16 words: none, some, nearly all or all are whole
      std::vector<uint32_t> allowed((x.size() + 31) / 32);
      for (uint32_t& word : allowed) word = random() % 16 < rare ? ~0u : random() & random();
      std::vector<float> kept = x;
      kept.push_back(7);  // what lies behind stays
      ops.keep_allowed(kept.data(), static_cast<int64_t>(x.size()), allowed.data());
      EXPECT_EQ(kept.back(), 7);
      for (size_t i = 0; i < x.size(); ++i) {
        const float expected = (allowed[i / 32] >> (i % 32) & 1) != 0 ? x[i] : -kInfinity;
        ASSERT_EQ(std::bit_cast<uint32_t>(kept[i]), std::bit_cast<uint32_t>(expected)) << i;
      }
    }
  });
}

TEST(RowOps, AlignmentChangesNoBit) {
  ForEveryRow([](const RowOps& ops, const std::vector<float>& x) {
    const int64_t n = static_cast<int64_t>(x.size());
    const float sum = ops.sum_exp(x.data(), n, 15.0f, 0.7f);
    for (int64_t shift : {1, 3, 8, 15}) {
      std::vector<float> moved(shift + n + 1, 1e9f);  // what lies around must not count
      std::copy(x.begin(), x.end(), moved.begin() + shift);
      float max = 0;
      EXPECT_EQ(ops.sum_exp(moved.data() + shift, n, 15.0f, 0.7f), sum) << shift;
      EXPECT_LE(ops.argmax(moved.data() + shift, n, &max), n - 1);
      EXPECT_LE(max, 15.0f);
      EXPECT_EQ(ops.count_at_least(moved.data() + shift, n, 1e8f), 0);
      ops.scale(moved.data() + shift, n, 1.7f);
      for (int64_t i = 0; i < n; ++i) {
        ASSERT_EQ(std::isnan(moved[shift + i]), std::isnan(x[i]));
        if (!std::isnan(x[i])) {
          ASSERT_EQ(moved[shift + i], x[i] * 1.7f);
        }
      }
      EXPECT_EQ(moved[shift - 1], 1e9f);
      EXPECT_EQ(moved[shift + n], 1e9f);
    }
  });
}

}  // namespace
}  // namespace tiercel::kernels
