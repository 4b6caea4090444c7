// FP8 matmuls by every ISA that this CPU runs: bit for bit the formula of ops.h (MatmulArgs, weights of FP8) on weights
// that are written value by value as tensor/block_format.h describes them. A block's sum is what the BF16 matmul by the
// same instruction, which conformance_test.cc holds against the exact one, makes of the same numbers.
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
#include "kernels/test_random.h"

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

struct Fp8Problem {
  Fp8Problem(int64_t strips, int64_t k, int64_t rows, uint32_t seed, int workers = 1, int64_t granule = 16)
      : n(16 * strips), k(k), blocks((k + 127) / 128), ldx((k + 31) / 32 * 32), codes(n * blocks * 128, 0),
        scales(n * blocks), x(rows * ldx * 2), data(strips * blocks * kUnit) {
    std::mt19937 random(seed);
    NormalDistribution normal;
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

  // t_b of ops.h, [row][n].
  std::vector<float> BlockSums(const KernelTable& kernels, int64_t b, int64_t rows) const {
    const int64_t count = std::min<int64_t>(128, k - b * 128), padded = (count + 31) / 32 * 32;
    GuardedBuffer packed(n * padded * 2);
    std::memset(packed.as<void>(), 0, static_cast<size_t>(n * padded * 2));
    for (int64_t c = 0; c < n; ++c) {
      const int64_t block = c / 64 * 64, width = std::min<int64_t>(64, n - block);
      for (int64_t i = 0; i < count; ++i) {
        packed.as<BF16>()[block * padded + (i / 2 * width + c - block) * 2 + i % 2] =
            ToBF16(static_cast<float>(E4M3(codes[(c * blocks + b) * 128 + i])));
      }
    }
    const PackedMatrix weight = {packed.as<void>(), DType::kBF16, n, count, padded};
    std::vector<float> sums(static_cast<size_t>(rows * n));
    MatmulArgs args;
    args.x = x.as<BF16>() + b * 128;
    args.ldx = ldx;
    args.weight = &weight;
    args.epilogue = Epilogue::kStoreF32;
    args.out_f32 = sums.data();
    args.ldo = n;
    args.rows = rows;
    kernels.matmul(args, {});
    return sums;
  }

  std::vector<float> Exact(const KernelTable& kernels, int64_t rows, bool with_bias) const {
    std::vector<float> y(static_cast<size_t>(rows * n), 0.0f);
    for (int64_t b = 0; b < blocks; ++b) {
      const std::vector<float> sums = BlockSums(kernels, b, rows);
      for (int64_t i = 0; i < rows * n; ++i) y[i] = std::fma(sums[i], scales[i % n * blocks + b], y[i]);
    }
    for (int64_t i = 0; with_bias && i < rows * n; ++i) y[i] += bias[i % n];
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

std::vector<float> RunFp8(const KernelTable& kernels, const Fp8Problem& p, int64_t first_row, int64_t rows, Epilogue epilogue,
                          bool with_bias) {
  MatmulArgs args;
  args.x = p.x.as<BF16>() + first_row * p.ldx;
  args.ldx = p.ldx;
  return RunWithEpilogue(kernels.fp8_matmul, args, p, first_row, rows, epilogue, with_bias);
}

// The table whose BF16 matmul multiplies as this one's FP8 matmul does: the first one that has it.
const KernelTable& Bf16Of(const KernelTable& kernels) {
  return **std::find_if(Kernels().begin(), Kernels().end(),
                        [&](const KernelTable* table) { return table->fp8_matmul == kernels.fp8_matmul; });
}

void ExpectExact(const KernelTable& kernels, const Fp8Problem& p, int64_t rows) {
  SCOPED_TRACE(std::string(kernels.detail) + " k " + std::to_string(p.k) + " rows " + std::to_string(rows));
  for (const bool bias : {false, true}) {
    const std::vector<float> y = p.Exact(Bf16Of(kernels), rows, bias);
    std::vector<float> stored, added, summed;
    const ThreeRanks ranks(0, rows, p.n);
    for (int64_t i = 0; i < rows * p.n; ++i) {
      const float v = y[static_cast<size_t>(i)], residual = ToFloat(p.residual[static_cast<size_t>(i)]);
      stored.push_back(ToFloat(ToBF16(v)));
      volatile float sum = v + residual;
      added.push_back(ToFloat(ToBF16(sum)));
      volatile float of_ranks = ranks.Sum(i / p.n, i % p.n, v);
      of_ranks = of_ranks + residual;
      summed.push_back(ToFloat(ToBF16(of_ranks)));
    }
    ASSERT_EQ(RunFp8(kernels, p, 0, rows, Epilogue::kStoreF32, bias), y);
    ASSERT_EQ(RunFp8(kernels, p, 0, rows, Epilogue::kStore, bias), stored);
    ASSERT_EQ(RunFp8(kernels, p, 0, rows, Epilogue::kAdd, bias), added);
    ASSERT_EQ(RunFp8(kernels, p, 0, rows, Epilogue::kAddParts, bias), summed);
    if (p.n % 32 != 0) continue;
    const std::vector<float> gated = RunFp8(kernels, p, 0, rows, Epilogue::kSwiGlu, bias);
    for (int64_t i = 0; i < std::ssize(gated); ++i) {
      const auto at = static_cast<size_t>(i / (p.n / 2) * p.n + i % (p.n / 2) / 16 * 32 + i % 16);
      const double gate = y[at], exact = gate / (1 + std::exp(-gate)) * y[at + 16];
      ASSERT_NEAR(gated[static_cast<size_t>(i)], exact, 1.001 * 0x1p-8 * std::abs(exact) + 1e-30) << i;
    }
  }
}

TEST(Fp8Matmul, IsExact) {
  // k that is no whole number of blocks, nor of pairs; one that is held in parts where rows are many; rows of each height
  // of a tile, and of several.
  for (const int64_t k : {128, 384, 200, 73, 1152}) {
    for (const int64_t rows : {1, 2, 3, 5, 6, 7, 8, 24, 25, 33, 130}) {
      const Fp8Problem problem(4, k, rows, 3);
      for (const KernelTable* kernels : Kernels()) {
        if (std::string(kernels->isa) == "scalar" && rows > 33) continue;
        ExpectExact(*kernels, problem, rows);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// As far from the sum of the numbers themselves as k roundings of FP32 may take it.
TEST(Fp8Matmul, IsNearTheExactSum) {
  constexpr int64_t kRows = 3;
  const Fp8Problem p(2, 1000, kRows, 8);
  for (const KernelTable* kernels : Kernels()) {
    const std::vector<float> y = RunFp8(*kernels, p, 0, kRows, Epilogue::kStoreF32, false);
    for (int64_t i = 0; i < kRows * p.n; ++i) {
      const int64_t c = i % p.n;
      double exact = 0, magnitude = 0;
      for (int64_t k = 0; k < p.k; ++k) {
        const double product = ToFloat(p.x.as<BF16>()[i / p.n * p.ldx + k]) * E4M3(p.codes[c * p.blocks * 128 + k]) *
                               p.scales[c * p.blocks + k / 128];
        exact += product;
        magnitude += std::abs(product);
      }
      ASSERT_NEAR(y[i], exact, 16 * std::sqrt(1000.0) * 0x1p-24 * magnitude) << kernels->detail << " " << i;
    }
  }
}

// FP32 FMA is one chain for a block, on every ISA.
TEST(Fp8Matmul, FmaKernelsAgree) {
  const Fp8Problem problem(3, 1160, 50, 9);
  const std::vector<float> exact = RunFp8(*Kernels().front(), problem, 0, 50, Epilogue::kStoreF32, true);
  for (const KernelTable* kernels : Kernels()) {
    if (std::string(Bf16Of(*kernels).detail).find("bf16 by fp32 fma") == std::string::npos) continue;
    EXPECT_EQ(RunFp8(*kernels, problem, 0, 50, Epilogue::kStoreF32, true), exact) << kernels->detail;
  }
}

TEST(Fp8Matmul, TeamsAndStripsOfNoFormat) {
  for (const int workers : {1, 2, 3}) {
    constexpr int32_t kUneven[] = {0, 32, 45, 58};
    for (const int64_t rows : {1, 9, 60}) {
      Fp8Problem problem(12, 256, rows, 5, workers, 32);
      if (workers == 3) problem.matrix.bounds = kUneven;
      for (const size_t strip : {3, 4, 11}) {
        problem.places[strip].format = BlockFormat::kNone;
        std::fill_n(problem.scales.begin() + static_cast<int64_t>(strip) * 16 * problem.blocks, 16 * problem.blocks, 0.0f);
      }
      for (const KernelTable* kernels : Kernels()) ExpectExact(*kernels, problem, rows);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Fp8Matmul, RowsDoNotDependOnTheirNumber) {
  constexpr int64_t kRows = 530;
  const Fp8Problem problem(5, 1408, kRows, 6);
  std::vector<std::pair<int64_t, int64_t>> cases = {{7, 257}, {1, 129}, {0, 512}};
  for (int64_t rows = 1; rows <= 80; ++rows) cases.push_back({rows % 13, rows});
  for (const KernelTable* kernels : Kernels()) {
    if (std::string(kernels->isa) == "scalar") continue;
    std::vector<float> alone;
    for (int64_t r = 0; r < kRows; ++r) {
      const std::vector<float> row = RunFp8(*kernels, problem, r, 1, Epilogue::kStoreF32, true);
      alone.insert(alone.end(), row.begin(), row.end());
    }
    for (const auto& [first, rows] : cases) {
      const std::vector<float> got = RunFp8(*kernels, problem, first, rows, Epilogue::kStoreF32, true);
      ASSERT_TRUE(std::equal(got.begin(), got.end(), alone.begin() + first * problem.n))
          << kernels->detail << " rows " << rows << " from " << first;
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
