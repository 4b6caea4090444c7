// FP8 matmuls by every ISA that this CPU runs: bit for bit the formula of ops.h (MatmulArgs, weights of FP8) on weights
// that are written value by value as tensor/block_format.h describes them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/e4m3.h"
#include "kernels/epilogue_test_util.h"
#include "kernels/guarded_buffer.h"
#include "kernels/rank_parts_test_util.h"
#include "kernels/test_kernels.h"

namespace tiercel::kernels {
namespace {

// By the definition: (−1)^s · 2^(e − 7) · (1 + m / 8), or for e = 0 (−1)^s · 2⁻⁶ · m / 8.
double E4M3(int code) {
  const int e = code >> 3 & 15, m = code & 7;
  const double value = e > 0 ? std::ldexp(1 + m / 8.0, e - 7) : std::ldexp(m / 8.0, -6);
  return code & 0x80 ? -value : value;
}

TEST(E4M3, EveryCode) {
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(IsE4M3NaN(static_cast<uint8_t>(code)), code == 0x7f || code == 0xff);
    if ((code & 0x7f) == 0x7f) continue;
    EXPECT_EQ(E4M3ToFloat(static_cast<uint8_t>(code)), E4M3(code)) << code;
  }
  EXPECT_EQ(E4M3ToFloat(0x7e), 448.0f);
  EXPECT_EQ(E4M3ToFloat(0x01), 0x1p-9f);
  EXPECT_TRUE(std::signbit(E4M3ToFloat(0x80)));
}

struct Problem {
  Problem(int64_t strips, int64_t k, int64_t rows, uint32_t seed, int workers = 1, int64_t granule = 16)
      : n(16 * strips), k(k), blocks((k + 127) / 128), ldx((k + 31) / 32 * 32), codes(n * blocks * 128, 0),
        scales(n * blocks), x(rows * ldx * 2), data(strips * blocks * kUnit) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t c = 0; c < n; ++c) {
      for (int64_t b = 0; b < blocks; ++b) scales[c * blocks + b] = std::exp(normal(random)) / 300;
      // Every code comes, those that are no NaN.
      for (int64_t i = 0; i < k; ++i) {
        codes[c * blocks * 128 + i] = static_cast<uint8_t>(random() % 127 + random() % 2 * 128);
      }
    }
    // The strips, without the packer.
    for (int64_t c = 0; c < n; ++c) {
      for (int64_t b = 0; b < blocks; ++b) {
        uint8_t* const unit = data.as<uint8_t>() + (c / 16 * blocks + b) * kUnit;
        std::memcpy(unit + 4 * (c % 16), &scales[c * blocks + b], 4);
        for (int64_t i = 0; i < 128; ++i) unit[64 + 16 * i + c % 16] = codes[(c * blocks + b) * 128 + i];
      }
    }
    for (int64_t i = 0; i < strips; ++i) places.push_back({BlockFormat::kF8, i * blocks * kUnit});
    for (int64_t r = 0; r < rows; ++r) {
      // What lies behind k is not multiplied.
      for (int64_t i = 0; i < ldx; ++i) x.as<BF16>()[r * ldx + i] = ToBF16(i < k ? normal(random) : 1e30f);
    }
    for (int64_t c = 0; c < n; ++c) bias.push_back(normal(random));
    for (int64_t i = 0; i < rows * n; ++i) residual.push_back(ToBF16(normal(random)));
    matrix = {data.as<void>(), DType::kU8, n, k, blocks * 128, granule, workers, places.data()};
  }

  // volatile keeps each rounding.
  float Exact(int64_t row, int64_t c, bool with_bias) const {
    volatile float y = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      volatile float s[4] = {0, 0, 0, 0};
      for (int64_t i = 0; i < 128 && b * 128 + i < k; ++i) {
        const float value = ToFloat(x.as<BF16>()[row * ldx + b * 128 + i]);
        s[i % 4] = std::fma(value, static_cast<float>(E4M3(codes[(c * blocks + b) * 128 + i])), s[i % 4]);
      }
      volatile float low = s[0] + s[1], high = s[2] + s[3], t = low + high;
      y = std::fma(t, scales[c * blocks + b], y);
    }
    if (with_bias) y = y + bias[c];
    return y;
  }

  static constexpr int64_t kUnit = 64 + 128 * 16;
  int64_t n, k, blocks, ldx;
  std::vector<uint8_t> codes;  // [n][blocks · 128]
  std::vector<float> scales;   // [n][blocks]
  GuardedBuffer x, data;
  std::vector<BlockStrip> places;
  std::vector<float> bias;
  std::vector<BF16> residual;
  PackedMatrix matrix;
};

std::vector<float> RunFp8(const KernelTable& kernels, const Problem& p, int64_t first_row, int64_t rows, Epilogue epilogue,
                          bool with_bias) {
  MatmulArgs args;
  args.x = p.x.as<BF16>() + first_row * p.ldx;
  args.ldx = p.ldx;
  return RunWithEpilogue(kernels.fp8_matmul, args, p, first_row, rows, epilogue, with_bias);
}

void ExpectExact(const Problem& p, int64_t rows) {
  for (const bool bias : {false, true}) {
    std::vector<float> y, stored, added, summed;
    const ThreeRanks ranks(0, rows, p.n);
    for (int64_t i = 0; i < rows * p.n; ++i) {
      const float v = p.Exact(i / p.n, i % p.n, bias), residual = ToFloat(p.residual[static_cast<size_t>(i)]);
      y.push_back(v);
      stored.push_back(ToFloat(ToBF16(v)));
      volatile float sum = v + residual;
      added.push_back(ToFloat(ToBF16(sum)));
      volatile float of_ranks = ranks.Sum(i / p.n, i % p.n, v);
      of_ranks = of_ranks + residual;
      summed.push_back(ToFloat(ToBF16(of_ranks)));
    }
    for (const KernelTable* kernels : Kernels()) {
      SCOPED_TRACE(std::string(kernels->detail) + " k " + std::to_string(p.k) + " rows " + std::to_string(rows));
      ASSERT_EQ(RunFp8(*kernels, p, 0, rows, Epilogue::kStoreF32, bias), y);
      ASSERT_EQ(RunFp8(*kernels, p, 0, rows, Epilogue::kStore, bias), stored);
      ASSERT_EQ(RunFp8(*kernels, p, 0, rows, Epilogue::kAdd, bias), added);
      ASSERT_EQ(RunFp8(*kernels, p, 0, rows, Epilogue::kAddParts, bias), summed);
      if (p.n % 32 != 0) continue;
      const std::vector<float> gated = RunFp8(*kernels, p, 0, rows, Epilogue::kSwiGlu, bias);
      for (int64_t i = 0; i < std::ssize(gated); ++i) {
        const auto at = static_cast<size_t>(i / (p.n / 2) * p.n + i % (p.n / 2) / 16 * 32 + i % 16);
        const double gate = y[at], exact = gate / (1 + std::exp(-gate)) * y[at + 16];
        ASSERT_NEAR(gated[static_cast<size_t>(i)], exact, 1.001 * 0x1p-8 * std::abs(exact) + 1e-30) << i;
      }
    }
  }
}

TEST(Fp8Matmul, IsExact) {
  // k that is no whole number of blocks, nor of vectors; and one that is held in parts where rows are many.
  for (const int64_t k : {128, 384, 200, 72, 1152}) {
    for (const int64_t rows : {1, 2, 3, 5, 6, 7, 33}) {
      ExpectExact(Problem(4, k, rows, 3), rows);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Fp8Matmul, TeamsAndStripsOfNoFormat) {
  for (const int workers : {1, 2, 3}) {
    constexpr int32_t kUneven[] = {0, 32, 45, 58};
    Problem problem(12, 256, 9, 5, workers, 32);
    if (workers == 3) problem.matrix.bounds = kUneven;
    for (const size_t strip : {3, 4, 11}) {
      problem.places[strip].format = BlockFormat::kNone;
      std::fill_n(problem.scales.begin() + static_cast<int64_t>(strip) * 16 * problem.blocks, 16 * problem.blocks, 0.0f);
    }
    ExpectExact(problem, 9);
    if (HasFatalFailure()) return;
  }
}

TEST(Fp8Matmul, RowsDoNotDependOnTheirNumber) {
  constexpr int64_t kRows = 80;
  const Problem problem(3, 2560, kRows, 6);
  std::vector<std::pair<int64_t, int64_t>> cases = {{0, kRows}, {7, 70}, {1, 65}};
  for (int64_t rows = 1; rows <= 40; ++rows) cases.push_back({rows % 13, rows});
  const std::vector<float> exact = RunFp8(*Kernels().front(), problem, 0, kRows, Epilogue::kStoreF32, true);
  for (const KernelTable* kernels : Kernels()) {
    for (const auto& [first, rows] : cases) {
      const std::vector<float> got = RunFp8(*kernels, problem, first, rows, Epilogue::kStoreF32, true);
      ASSERT_TRUE(std::equal(got.begin(), got.end(), exact.begin() + first * problem.n))
          << kernels->detail << " rows " << rows << " from " << first;
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
