// Quantization of activations by every ISA that this CPU runs: bit for bit the formula of ops.h
// (QuantizedRows), with true divisions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/guarded_buffer.h"
#include "kernels/test_kernels.h"
#include "kernels/test_random.h"

namespace tiercel::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint8_t kCanary = 0xA5;

uint8_t Expected(float x, float scale, float offset) {
  volatile float quotient = x / scale;  // volatile: one rounding each
  volatile float sum = quotient + offset;
  const float bounded = std::min(127.0f, std::max(-128.0f, static_cast<float>(sum)));
  return static_cast<uint8_t>(static_cast<int>(std::nearbyint(bounded)) + 128);
}

std::vector<BF16> AllBF16() {
  std::vector<BF16> all;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) all.push_back({static_cast<uint16_t>(bits)});
  return all;
}

std::vector<BF16> NormalBF16(int64_t n, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  NormalDistribution normal(0, spread);
  std::vector<BF16> values(n);
  for (BF16& v : values) v = ToBF16(normal(random));
  return values;
}

TEST(QuantizeStatic, EveryBF16ValueByManyScales) {
  const std::vector<BF16> all = AllBF16();
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponent(-30, 10), mantissa(1, 2);
  std::vector<std::pair<float, float>> parameters = {
      {1, 0}, {1, -128}, {0.5f, 127}, {0.0123f, 3}, {1e-30f, 0}, {1e30f, 5}, {0.3f, 0.5f}};
  for (int i = 0; i < 40; ++i) {
    parameters.push_back({mantissa(random) * std::exp2(std::floor(exponent(random))),
                          std::floor(exponent(random) * 4)});
  }
  for (const KernelTable* kernels : Kernels()) {
    for (const auto& [scale, offset] : parameters) {
      std::vector<uint8_t> out(all.size());
      QuantizeArgs args{.x = all.data(), .ldx = 256, .n = 256, .rows = 256};
      args.out = {.data = out.data(), .ld = 256, .scale = scale, .offset = offset};
      for (int worker = 0; worker < 3; ++worker) kernels->quantize(args, {worker, 3});
      for (size_t i = 0; i < all.size(); ++i) {
        if (std::isnan(ToFloat(all[i]))) continue;
        ASSERT_EQ(out[i], Expected(ToFloat(all[i]), scale, offset))
            << kernels->detail << " " << ToFloat(all[i]) << " / " << scale << " + " << offset;
      }
    }
  }
}

TEST(QuantizeDynamic, RowsOfEveryLengthScaleByTheirLargestMagnitude) {
  for (const KernelTable* kernels : Kernels()) {
    for (int64_t n : {1, 3, 7, 8, 15, 16, 17, 33, 64, 100, 1024, 3072, 25600}) {
      for (float spread : {1e-20f, 0.01f, 3.0f, 1e20f}) {
        const int64_t rows = 5, ldx = n + 3, ld = n + 5;
        const std::vector<BF16> x = NormalBF16(rows * ldx, static_cast<uint32_t>(n), spread);
        GuardedBuffer out(rows * ld - 5);
        std::memset(out.as<void>(), kCanary, rows * ld - 5);
        std::vector<float> scales(rows, -1);
        QuantizeArgs args{.x = x.data(), .ldx = ldx, .n = n, .rows = rows};
        args.out = {.data = out.as<uint8_t>(), .ld = ld, .row_scale = scales.data()};
        for (int worker = 0; worker < 2; ++worker) kernels->quantize(args, {worker, 2});
        for (int64_t r = 0; r < rows; ++r) {
          float largest = 0;
          for (int64_t i = 0; i < n; ++i) {
            largest = std::max(largest, std::abs(ToFloat(x[r * ldx + i])));
          }
          ASSERT_EQ(scales[r], largest / 127.0f) << kernels->detail << " n " << n;
          for (int64_t i = 0; i < n; ++i) {
            ASSERT_EQ(out.as<uint8_t>()[r * ld + i],
                      Expected(ToFloat(x[r * ldx + i]), scales[r], 0))
                << kernels->detail << " n " << n << " row " << r << " at " << i;
          }
          for (int64_t i = n; i < ld && r + 1 < rows; ++i) {
            ASSERT_EQ(out.as<uint8_t>()[r * ld + i], kCanary) << kernels->detail << " n " << n;
          }
        }
      }
    }
  }
}

TEST(QuantizeDynamic, RowsWithoutAScale) {
  constexpr int64_t kN = 40;
  struct {
    float value;
    bool scale_is_finite;
  } const cases[] = {{0.0f, true},       {-0.0f, true},    {0x1p-133f, true}, {0x1p-101f, true},
                     {kInfinity, false}, {-kInfinity, false}, {NAN, false}};
  for (const KernelTable* kernels : Kernels()) {
    for (const auto& c : cases) {
      for (int64_t at : {0, 15, 39}) {
        std::vector<BF16> x(kN, ToBF16(std::abs(c.value) >= 1 || std::isnan(c.value) ? 1.0f : 0.0f));
        x[at] = ToBF16(c.value);
        std::vector<uint8_t> out(kN);
        float scale = -1;
        QuantizeArgs args{.x = x.data(), .ldx = kN, .n = kN, .rows = 1};
        args.out = {.data = out.data(), .ld = kN, .row_scale = &scale};
        kernels->quantize(args, {0, 1});
        EXPECT_EQ(out, std::vector<uint8_t>(kN, 128)) << kernels->detail << " " << c.value;
        EXPECT_EQ(std::isfinite(scale), c.scale_is_finite) << kernels->detail << " " << c.value;
        if (c.scale_is_finite) {
          EXPECT_LT(std::abs(scale), 0x1p-100f) << kernels->detail;
        }
      }
    }
  }
}

// Blocks of 128: each has the bytes and the scale of a row of its own, and its sums.
TEST(QuantizeBlocks, EachBlockIsARowOfItsOwn) {
  for (const KernelTable* kernels : Kernels()) {
    for (const int64_t n : {1, 16, 100, 128, 129, 250, 1024}) {
      const int64_t rows = 3, blocks = (n + 127) / 128, ld = (blocks + 1) * 192;
      std::vector<BF16> x = NormalBF16(rows * n, static_cast<uint32_t>(n), 3);
      if (n > 250) x[300] = ToBF16(kInfinity);
      GuardedBuffer out(rows * ld);
      QuantizeArgs args{.x = x.data(), .ldx = n, .n = n, .rows = rows};
      args.out = {.data = out.as<uint8_t>(), .ld = ld, .blocks = true};
      for (int worker = 0; worker < 2; ++worker) kernels->quantize(args, {worker, 2});
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t b = 0; b < blocks; ++b) {
          const auto* block = reinterpret_cast<const QuantizedBlock*>(out.as<uint8_t>() + r * ld) + b;
          const int64_t count = std::min<int64_t>(128, n - 128 * b);
          std::vector<uint8_t> bytes(128, 128);
          float scale = 0;
          QuantizeArgs alone{.x = x.data() + r * n + 128 * b, .ldx = count, .n = count, .rows = 1};
          alone.out = {.data = bytes.data(), .ld = 128, .row_scale = &scale};
          kernels->quantize(alone, {0, 1});
          EXPECT_EQ(block->scale, scale);
          int all = 0, of_64[2] = {}, of_32[4] = {}, of_16[8] = {};
          for (int i = 0; i < 128; ++i) {
            ASSERT_EQ(block->q[i], bytes[static_cast<size_t>(i)] - 128) << kernels->detail << " n " << n;
            all -= block->q[i];
            of_64[i / 64] -= block->q[i];
            of_32[i / 32] -= block->q[i];
            of_16[i / 16] -= block->q[i];
          }
          EXPECT_EQ(block->minus_sum, all);
          for (int i = 0; i < 2; ++i) EXPECT_EQ(block->minus_sum64[i], of_64[i]);
          for (int i = 0; i < 4; ++i) EXPECT_EQ(block->minus_sum32[i], of_32[i]);
          for (int i = 0; i < 8; ++i) EXPECT_EQ(block->minus_sum16[i], of_16[i]);
        }
      }
    }
  }
}

// In another order: what the reordered values give.
TEST(QuantizeBlocks, TakesValuesInAnotherOrder) {
  for (const KernelTable* kernels : Kernels()) {
    for (const int64_t n : {100, 128, 896, 1024}) {
      constexpr int64_t kRows = 3;
      const int64_t ldx = n + 7, ld = (n + 127) / 128 * 192;
      const std::vector<BF16> x = NormalBF16(kRows * ldx, static_cast<uint32_t>(n), 3);
      std::vector<int32_t> order(static_cast<size_t>(n));
      std::iota(order.begin(), order.end(), 0);
      std::shuffle(order.begin(), order.end(), std::mt19937(static_cast<uint32_t>(n)));
      std::vector<BF16> sorted;
      for (int64_t r = 0; r < kRows; ++r) {
        for (const int32_t i : order) sorted.push_back(x[static_cast<size_t>(r * ldx + i)]);
      }
      GuardedBuffer out(kRows * ld), exact(kRows * ld);
      QuantizeArgs args{.x = sorted.data(), .ldx = n, .n = n, .rows = kRows};
      args.out = {.data = exact.as<uint8_t>(), .ld = ld, .blocks = true};
      kernels->quantize(args, {0, 1});
      args.x = x.data();
      args.ldx = ldx;
      args.order = order.data();
      args.out.data = out.as<uint8_t>();
      for (int worker = 0; worker < 2; ++worker) kernels->quantize(args, {worker, 2});
      ASSERT_EQ(std::memcmp(out.as<uint8_t>(), exact.as<uint8_t>(), static_cast<size_t>(kRows * ld)), 0)
          << kernels->detail << " n " << n;
    }
  }
}

TEST(RmsNorm, QuantizedInTheSamePassHasTheBitsOfTwoSteps) {
  for (const KernelTable* kernels : Kernels()) {
    for (int64_t hidden : {1, 16, 33, 100, 1024, 5120}) {
      const int64_t rows = 4, ld = (hidden + 63) / 64 * 64;
      const std::vector<BF16> x = NormalBF16(6 * hidden, 7, 2);
      std::vector<float> weight, bias;
      for (BF16 w : NormalBF16(2 * hidden, 8, 1)) {
        (weight.size() < static_cast<size_t>(hidden) ? weight : bias).push_back(ToFloat(w) * 1.01f);
      }
      const std::vector<int32_t> index = {5, 0, 3, 3};
      for (bool dynamic : {false, true}) {
        for (bool with_bias : {false, true}) {
          std::vector<BF16> normed(rows * hidden), also_normed(rows * hidden);
          std::vector<uint8_t> separate(rows * ld, kCanary), fused = separate, alone = separate;
          std::vector<float> separate_scale(rows), fused_scale(rows), alone_scale(rows);
          const auto rows_of = [&](std::vector<uint8_t>& to, std::vector<float>& scale) {
            return QuantizedRows{.data = to.data(),
                                 .ld = ld,
                                 .row_scale = dynamic ? scale.data() : nullptr,
                                 .scale = 0.037f,
                                 .offset = -9};
          };
          RmsNormArgs norm{.x = x.data(),
                           .row_index = index.data(),
                           .weight = weight.data(),
                           .bias = with_bias ? bias.data() : nullptr,
                           .out = normed.data(),
                           .ldo = hidden,
                           .hidden = hidden,
                           .rows = rows};
          kernels->rms_norm(norm, {0, 1});
          QuantizeArgs quantize{.x = normed.data(), .ldx = hidden, .n = hidden, .rows = rows};
          quantize.out = rows_of(separate, separate_scale);
          kernels->quantize(quantize, {0, 1});

          norm.out = also_normed.data();
          norm.quantized = rows_of(fused, fused_scale);
          for (int worker = 0; worker < 3; ++worker) kernels->rms_norm(norm, {worker, 3});
          norm.out = nullptr;
          norm.quantized = rows_of(alone, alone_scale);
          kernels->rms_norm(norm, {0, 1});
          EXPECT_TRUE(also_normed == normed) << kernels->detail << " hidden " << hidden;
          EXPECT_EQ(fused, separate) << kernels->detail << " hidden " << hidden;
          EXPECT_EQ(alone, separate) << kernels->detail << " hidden " << hidden;
          EXPECT_EQ(fused_scale, separate_scale) << kernels->detail << " hidden " << hidden;
          EXPECT_EQ(alone_scale, separate_scale) << kernels->detail << " hidden " << hidden;
        }
      }
    }
  }
}

TEST(SwiGlu, IsNearTheExactValueAndStaysInItsColumns) {
  const int64_t n = 48, rows = 3, ldx = 2 * n + 8, ldo = n + 8;
  const std::vector<BF16> x = NormalBF16(rows * ldx, 3, 4);
  for (const KernelTable* kernels : Kernels()) {
    std::vector<BF16> out(rows * ldo, BF16{0xa5a5});
    const SwiGluArgs args{
        .x = x.data(), .ldx = ldx, .out = out.data(), .ldo = ldo, .n = n, .rows = rows};
    for (int worker = 0; worker < 2; ++worker) kernels->swiglu(args, {worker, 2});
    for (int64_t i = 0; i < rows * ldo; ++i) {
      const int64_t r = i / ldo, c = i % ldo;
      if (c >= n) {
        ASSERT_EQ(out[i].bits, 0xa5a5) << kernels->detail;
        continue;
      }
      const double gate = ToFloat(x[r * ldx + c / 16 * 32 + c % 16]);
      const double up = ToFloat(x[r * ldx + c / 16 * 32 + 16 + c % 16]);
      const double value = gate / (1 + std::exp(-gate)) * up;
      ASSERT_NEAR(ToFloat(out[i]), value, 1.001 * 0x1p-8 * std::abs(value) + 1e-30)
          << kernels->detail << " row " << r << " column " << c;
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
