// Matmuls of block formats by every ISA that this CPU runs: bit for bit the formula of ops.h (BlockMatmulArgs) on
// weights that are written value by value as tensor/block_format.h describes them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/epilogue_test_util.h"
#include "kernels/guarded_buffer.h"
#include "kernels/rank_parts_test_util.h"
#include "kernels/test_kernels.h"
#include "kernels/test_random.h"

namespace tiercel::kernels {
namespace {

constexpr BlockFormat kFormats[] = {BlockFormat::kQ4_0, BlockFormat::kQ4_1, BlockFormat::kQ5_0, BlockFormat::kQ5_1,
                                    BlockFormat::kQ8_0, BlockFormat::kQ4_K, BlockFormat::kQ5_K, BlockFormat::kQ6_K,
                                    BlockFormat::kI4,   BlockFormat::kI4_64, BlockFormat::kU4, BlockFormat::kU4_64,
                                    BlockFormat::kU4_32};

// Small binary16 numbers of 11 bits: their bits from a fraction in [1024, 2047] · 2⁻²⁰.
struct Half {
  uint16_t bits;
  float value;
};
Half RandomHalf(std::mt19937& random) {
  const int fraction = 1024 + static_cast<int>(random() % 1024);
  const bool negative = random() % 4 == 0;
  // 1.f · 2⁻¹⁰: exponent field 15 − 10
  return {static_cast<uint16_t>((negative ? 0x8000 : 0) | (5 << 10) | (fraction - 1024)),
          (negative ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-20f};
}

// A column's weights and the bytes of a strip that holds them.
class Strip {
 public:
  Strip(BlockFormat format, int64_t k, uint32_t seed, bool extreme)
      : info_(InfoOf(format)), k_((k + info_.unit - 1) / info_.unit * info_.unit) {
    bytes.resize(static_cast<size_t>(StripBytes(format, k)));
    codes_.resize(static_cast<size_t>(16 * k_));
    scales_.resize(static_cast<size_t>(16 * k_ / info_.group));
    mins_.resize(scales_.size());
    std::mt19937 random(seed);
    for (int64_t unit = 0; unit < k_ / info_.unit; ++unit) {
      for (int64_t c = 0; c < 16; ++c) WriteScales(unit, c, random);
      for (int64_t i = 0; i < info_.unit; ++i) {
        for (int64_t c = 0; c < 16; ++c) {
          const int largest = (1 << info_.bits) - 1;
          const int code = extreme ? (random() % 2 ? largest : 0) : static_cast<int>(random() % (largest + 1));
          WriteCode(unit * info_.unit + i, c, code);
        }
      }
    }
  }

  // One column's y of ops.h; volatile keeps each rounding.
  float Exact(const QuantizedBlock* x, int64_t blocks, int64_t c) const {
    float y = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      float t = 0;
      for (int64_t begin = 0; begin < 128; begin += info_.group) {
        int64_t product = 0, sum = 0;
        for (int64_t i = begin; i < begin + info_.group; ++i) {
          product += (codes_[static_cast<size_t>((b * 128 + i) * 16 + c)] - info_.zero) * x[b].q[i];
          sum += x[b].q[i];
        }
        const auto g = static_cast<size_t>((b * 128 + begin) / info_.group * 16 + c);
        t = std::fma(static_cast<float>(product), scales_[g], t);
        if (HasMin()) t = std::fma(static_cast<float>(-sum), mins_[g], t);
      }
      y = std::fma(t, x[b].scale, y);
    }
    return y;
  }
  // W[c, k].
  double Weight(int64_t k, int64_t c) const {
    const auto g = static_cast<size_t>(k / info_.group * 16 + c);
    return double{scales_[g]} * (codes_[static_cast<size_t>(k * 16 + c)] - info_.zero) - mins_[g];
  }

  std::vector<uint8_t> bytes;

 private:
  bool HasMin() const { return info_.scales != BlockScales::kHalf && info_.scales != BlockScales::kSub; }
  void PutHalf(int64_t at, uint16_t bits) { std::memcpy(&bytes[static_cast<size_t>(at)], &bits, 2); }

  void WriteScales(int64_t unit, int64_t c, std::mt19937& random) {
    const int64_t groups = info_.unit / info_.group, base = unit * info_.UnitBytes();
    const Half d = RandomHalf(random), dmin = RandomHalf(random);
    if (info_.scales == BlockScales::kSubMin || info_.scales == BlockScales::kSub) PutHalf(base + 2 * c, d.bits);
    if (info_.scales == BlockScales::kSubMin) PutHalf(base + 32 + 2 * c, dmin.bits);
    for (int64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<size_t>((unit * groups + g) * 16 + c);
      const Half scale = RandomHalf(random), min = RandomHalf(random);
      const int a = static_cast<int>(random() % 64), b = static_cast<int>(random() % 64);
      switch (info_.scales) {
        case BlockScales::kHalf:
          PutHalf(base + 32 * g + 2 * c, scale.bits);
          scales_[at] = scale.value;
          break;
        case BlockScales::kHalfMin:
          PutHalf(base + 32 * g + 2 * c, scale.bits);
          PutHalf(base + 32 * (groups + g) + 2 * c, min.bits);
          scales_[at] = scale.value;
          mins_[at] = -min.value;
          break;
        case BlockScales::kHalfZero:
          PutHalf(base + 32 * g + 2 * c, scale.bits);
          bytes[static_cast<size_t>(base + 32 * groups + 16 * g + c)] = static_cast<uint8_t>(a % 17);
          scales_[at] = scale.value;
          mins_[at] = scale.value * static_cast<float>(a % 17);
          break;
        case BlockScales::kSubMin: {
          bytes[static_cast<size_t>(base + 64 + 16 * g + c)] = static_cast<uint8_t>(a % 16 + b % 16 * 16);
          bytes[static_cast<size_t>(base + 64 + 16 * groups + 16 * (g / 2) + c)] |=
              static_cast<uint8_t>((a / 16 + b / 16 * 4) << (g % 2 * 4));
          scales_[at] = d.value * static_cast<float>(a);
          mins_[at] = dmin.value * static_cast<float>(b);
          break;
        }
        case BlockScales::kFloat: break;  // kF8's, which fp8_matmul_test has
        case BlockScales::kSub:
          bytes[static_cast<size_t>(base + 32 + 16 * g + c)] = static_cast<uint8_t>(static_cast<int8_t>(2 * a - b));
          scales_[at] = d.value * static_cast<float>(2 * a - b);
          break;
      }
    }
  }

  void WriteCode(int64_t k, int64_t c, int code) {
    codes_[static_cast<size_t>(k * 16 + c)] = code;
    const int64_t quad = k % 32 / 4, byte = 4 * c + k % 4;
    uint8_t* codes = &bytes[static_cast<size_t>(k / info_.unit * info_.UnitBytes() + info_.ScaleBytes() +
                                                k % info_.unit / 32 * info_.CodeBytes())];
    if (info_.bits == 8) {
      codes[64 * quad + byte] = static_cast<uint8_t>(code);
      return;
    }
    codes[64 * (quad / 2) + byte] |= static_cast<uint8_t>((code & 15) << quad % 2 * 4);
    if (info_.bits == 5) codes[256 + byte] |= static_cast<uint8_t>((code >> 4) << quad);
    if (info_.bits == 6) codes[256 + 64 * (quad / 4) + byte] |= static_cast<uint8_t>((code >> 4) << quad % 4 * 2);
  }

  const BlockFormatInfo info_;
  const int64_t k_;
  std::vector<int> codes_;             // [k][16]
  std::vector<float> scales_, mins_;   // [groups][16]
};

QuantizedBlock RandomBlock(std::mt19937& random, bool extreme) {
  QuantizedBlock block = {};
  for (int i = 0; i < 128; ++i) {
    const int q = extreme ? (random() % 2 ? 127 : -127) : static_cast<int>(random() % 255) - 127;
    block.q[i] = static_cast<int8_t>(q);
    block.minus_sum -= q;
    block.minus_sum64[i / 64] -= q;
    block.minus_sum32[i / 32] -= q;
    block.minus_sum16[i / 16] -= q;
  }
  block.scale = (1.0f + static_cast<float>(random() % 1000) / 999) / 127;
  return block;
}

struct BlockProblem {
  // Strip i has formats[i].
  BlockProblem(std::vector<BlockFormat> formats, int64_t k, int64_t rows, uint32_t seed, bool extreme = false,
          int64_t granule = 16, int workers = 1)
      : n(16 * std::ssize(formats)), k(k), blocks((k + 127) / 128), x(rows * blocks * 192) {
    int64_t total = 0;
    for (BlockFormat format : formats) {
      places.push_back({format, total});
      total += StripBytes(format, k);
    }
    data = std::make_unique<GuardedBuffer>(total);
    for (size_t i = 0; i < formats.size(); ++i) {
      strips.push_back(formats[i] == BlockFormat::kNone
                           ? nullptr
                           : std::make_unique<Strip>(formats[i], k, seed + static_cast<uint32_t>(i), extreme));
      if (strips[i] == nullptr) continue;
      std::copy(strips[i]->bytes.begin(), strips[i]->bytes.end(), data->as<uint8_t>() + places[i].offset);
    }
    std::mt19937 random(seed);
    for (int64_t i = 0; i < rows * blocks; ++i) x.as<QuantizedBlock>()[i] = RandomBlock(random, extreme);
    NormalDistribution normal;
    for (int64_t c = 0; c < n; ++c) bias.push_back(normal(random));
    for (int64_t i = 0; i < rows * n; ++i) residual.push_back(ToBF16(normal(random)));
    matrix = {data->as<void>(), DType::kU8, n, k, blocks * 128, granule, workers, places.data()};
  }

  float Exact(int64_t row, int64_t c, bool with_bias) const {
    const Strip* strip = strips[static_cast<size_t>(c / 16)].get();
    volatile float y = strip == nullptr ? 0 : strip->Exact(x.as<QuantizedBlock>() + row * blocks, blocks, c % 16);
    if (with_bias) y = y + bias[static_cast<size_t>(c)];
    return y;
  }

  int64_t n, k, blocks;
  GuardedBuffer x;
  std::unique_ptr<GuardedBuffer> data;
  std::vector<std::unique_ptr<Strip>> strips;
  std::vector<BlockStrip> places;
  std::vector<float> bias;
  std::vector<BF16> residual;
  PackedMatrix matrix;
};

// The output of all workers as floats; BF16 ones widened.
std::vector<float> RunBlocks(const KernelTable& kernels, const BlockProblem& p, int64_t first_row, int64_t rows, Epilogue epilogue,
                       bool with_bias) {
  BlockMatmulArgs args;
  args.x = p.x.as<QuantizedBlock>() + first_row * p.blocks;
  args.ldx = p.blocks;
  return RunWithEpilogue(kernels.block_matmul, args, p, first_row, rows, epilogue, with_bias);
}

void ExpectExact(const BlockProblem& p, int64_t rows, const std::string& what) {
  for (const bool bias : {false, true}) {
    std::vector<float> y;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < p.n; ++c) y.push_back(p.Exact(r, c, bias));
    }
    const ThreeRanks ranks(0, rows, p.n);
    std::vector<float> stored, added, summed;
    for (int64_t i = 0; i < std::ssize(y); ++i) {
      const float residual = ToFloat(p.residual[static_cast<size_t>(i)]), v = y[static_cast<size_t>(i)];
      stored.push_back(ToFloat(ToBF16(v)));
      volatile float sum = v + residual;
      added.push_back(ToFloat(ToBF16(sum)));
      volatile float of_ranks = ranks.Sum(i / p.n, i % p.n, v);
      of_ranks = of_ranks + residual;
      summed.push_back(ToFloat(ToBF16(of_ranks)));
    }
    for (const KernelTable* kernels : Kernels()) {
      SCOPED_TRACE(std::string(kernels->detail) + " " + what + " k " + std::to_string(p.k) + " rows " + std::to_string(rows));
      ASSERT_EQ(RunBlocks(*kernels, p, 0, rows, Epilogue::kStoreF32, bias), y);
      ASSERT_EQ(RunBlocks(*kernels, p, 0, rows, Epilogue::kStore, bias), stored);
      ASSERT_EQ(RunBlocks(*kernels, p, 0, rows, Epilogue::kAdd, bias), added);
      ASSERT_EQ(RunBlocks(*kernels, p, 0, rows, Epilogue::kAddParts, bias), summed);
      if (p.n % 32 != 0) continue;
      const std::vector<float> gated = RunBlocks(*kernels, p, 0, rows, Epilogue::kSwiGlu, bias);
      for (int64_t i = 0; i < std::ssize(gated); ++i) {
        const auto at = static_cast<size_t>(i / (p.n / 2) * p.n + i % (p.n / 2) / 16 * 32 + i % 16);
        const double gate = y[at], exact = gate / (1 + std::exp(-gate)) * y[at + 16];
        ASSERT_NEAR(gated[static_cast<size_t>(i)], exact, 1.001 * 0x1p-8 * std::abs(exact) + 1e-30) << i;
      }
    }
  }
}

TEST(BlockMatmul, EveryFormatIsExact) {
  for (const BlockFormat format : kFormats) {
    for (const int64_t k : {256, 768}) {
      for (const int64_t rows : {1, 3, 17}) {
        ExpectExact(BlockProblem({format, format}, k, rows, 3), rows, InfoOf(format).name);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(BlockMatmul, ExtremeValuesDoNotSaturate) {
  for (const BlockFormat format : kFormats) {
    ExpectExact(BlockProblem({format}, 1024, 5, 4, /*extreme=*/true), 5, InfoOf(format).name);
    if (HasFatalFailure()) return;
  }
}

// Strips of other formats and of none beside each other, for teams, as a fused matrix has them.
TEST(BlockMatmul, StripsOfManyFormats) {
  std::vector<BlockFormat> formats;
  for (const BlockFormat format : kFormats) {
    formats.push_back(format);
    if (formats.size() % 3 == 0) formats.push_back(BlockFormat::kNone);
  }
  formats.resize(16);
  for (const int workers : {1, 2, 3, 5}) {
    constexpr int32_t kUneven[] = {0, 32, 45, 58};
    BlockProblem problem(formats, 512, 9, 5, false, 32, workers);
    if (workers == 3) problem.matrix.bounds = kUneven;
    ExpectExact(problem, 9, "mixed");
    if (HasFatalFailure()) return;
  }
}

// k that is no whole number of blocks: what lies behind it has no scale.
TEST(BlockMatmul, RowsDoNotDependOnTheirNumber) {
  const int64_t kRows = 300;
  const BlockProblem problem({BlockFormat::kQ4_K, BlockFormat::kQ5_0, BlockFormat::kQ6_K, BlockFormat::kQ8_0, BlockFormat::kI4,
                         BlockFormat::kU4_32, BlockFormat::kU4_64},
                        512, kRows, 6);
  std::vector<std::pair<int64_t, int64_t>> cases = {{0, kRows}, {7, 257}, {1, 129}};
  for (int64_t rows = 1; rows <= 40; ++rows) cases.push_back({rows % 13, rows});
  std::vector<float> exact = RunBlocks(*Kernels().front(), problem, 0, kRows, Epilogue::kStoreF32, true);
  for (const KernelTable* kernels : Kernels()) {
    for (const auto& [first, rows] : cases) {
      const std::vector<float> got = RunBlocks(*kernels, problem, first, rows, Epilogue::kStoreF32, true);
      ASSERT_TRUE(std::equal(got.begin(), got.end(), exact.begin() + first * problem.n))
          << kernels->detail << " rows " << rows << " from " << first;
    }
  }
}

// A tied embedding: W in BF16.
TEST(Embed, ReadsColumnsOfBlockFormats) {
  const BlockProblem problem({BlockFormat::kQ6_K, BlockFormat::kQ4_K, BlockFormat::kQ5_1, BlockFormat::kU4}, 256, 1, 8);
  const std::vector<int32_t> ids = {0, 5, 17, 31, 32, 63, 48};
  std::vector<BF16> out(ids.size() * 256);
  for (const KernelTable* kernels : Kernels()) {
    EmbedArgs args{.token_ids = ids.data(), .packed = &problem.matrix, .out = out.data(), .hidden = 256,
                   .rows = std::ssize(ids)};
    kernels->embed(args, {0, 1});
    for (size_t i = 0; i < ids.size(); ++i) {
      for (int64_t k = 0; k < 256; ++k) {
        const double w = problem.strips[static_cast<size_t>(ids[i] / 16)]->Weight(k, ids[i] % 16);
        ASSERT_NEAR(ToFloat(out[i * 256 + static_cast<size_t>(k)]), w, std::abs(w) * 0x1.01p-8 + 1e-7) << i << " " << k;
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
