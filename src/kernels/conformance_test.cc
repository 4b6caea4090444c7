// Every matmul and embedding kernel that this CPU runs against the scalar reference, over one
// table of shapes, and the promises of ops.h: batch invariance to the bit, no reads or writes out
// of bounds.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/guarded_buffer.h"
#include "kernels/rank_parts_test_util.h"
#include "kernels/registry.h"
#include "kernels/test_kernels.h"
#include "kernels/test_random.h"

namespace tiercel::kernels {
namespace {

struct Shape {
  int64_t n, k;
  int64_t granule = kColumnGroup;
  int workers = 1;
};

std::string Describe(const Shape& s, int64_t rows, Epilogue epilogue) {
  return "n=" + std::to_string(s.n) + " k=" + std::to_string(s.k) +
         " granule=" + std::to_string(s.granule) + " workers=" + std::to_string(s.workers) +
         " rows=" + std::to_string(rows) +
         " epilogue=" + std::to_string(static_cast<int>(epilogue));
}

// Σ x·w in double, and Σ |x·w|, to which rounding errors are proportional.
struct Truth {
  double value = 0;
  double magnitude = 0;
};

// A matmul with random operands. Weights [n, k] are kept row-major and packed for a team.
struct Problem {
  Problem(const Shape& shape, int64_t max_rows, uint32_t seed)
      : shape(shape),
        k_padded((shape.k + kKBlock - 1) / kKBlock * kKBlock),
        weights(shape.n * shape.k),
        packed(shape.n * k_padded * sizeof(BF16)),
        x(max_rows * k_padded * sizeof(BF16)),
        truths(max_rows * shape.n) {
    std::mt19937 random(seed);
    NormalDistribution normal;
    for (BF16& w : weights) w = ToBF16(normal(random));
    bias.resize(shape.n);
    for (float& b : bias) b = normal(random);
    // The pad of x is finite and not zero: it must be multiplied by the weights' zeros.
    for (int64_t i = 0; i < max_rows * k_padded; ++i) {
      x.as<BF16>()[i] = ToBF16(normal(random) / std::sqrt(static_cast<float>(shape.k)));
    }
    residual.resize(max_rows * shape.n);
    for (BF16& r : residual) r = ToBF16(normal(random));
    Pack(shape.workers);
  }

  // The layout of tensor/packed_matrix.h, element by element from its formula.
  void Pack(int workers, const int32_t* bounds = nullptr) {
    matrix = {packed.as<void>(), DType::kBF16, shape.n, shape.k, k_padded, shape.granule, workers, nullptr, bounds};
    std::memset(packed.as<void>(), 0, shape.n * k_padded * sizeof(BF16));
    for (int worker = 0; worker < workers; ++worker) {
      const Range range = matrix.ColumnRange(worker);
      for (int64_t c = range.begin; c < range.end; ++c) {
        const int64_t block = (c - range.begin) / kColumnBlock;
        const int64_t width = std::min(kColumnBlock, range.size() - block * kColumnBlock);
        const int64_t in_block = (c - range.begin) % kColumnBlock;
        for (int64_t k = 0; k < shape.k; ++k) {
          packed.as<BF16>()[range.begin * k_padded + block * kColumnBlock * k_padded +
                            ((k / 2) * width + in_block) * 2 + k % 2] = weights[c * shape.k + k];
        }
      }
    }
  }

  Shape shape;
  int64_t k_padded;
  std::vector<BF16> weights;
  GuardedBuffer packed, x;
  std::vector<float> bias;
  std::vector<BF16> residual;
  PackedMatrix matrix;
  mutable std::vector<std::optional<Truth>> truths;  // of every row and column that Dot was asked for
};

// The output of one call for every worker, as raw bytes, and the padding of each row checked.
std::vector<uint8_t> RunMatmul(const KernelTable& kernels, const Problem& problem,
                               int64_t first_row, int64_t rows, Epilogue epilogue,
                               bool with_bias) {
  const int64_t columns = epilogue == Epilogue::kSwiGlu ? problem.shape.n / 2 : problem.shape.n;
  const size_t element = epilogue == Epilogue::kStoreF32 ? sizeof(float) : sizeof(BF16);
  const int64_t ldo = columns + 8;  // 8 elements behind each row must stay as they were
  constexpr uint8_t kCanary = 0xA5;
  // The last row has no pad: writing behind it faults.
  const size_t bytes = rows > 0 ? ((rows - 1) * ldo + columns) * element : 0;
  GuardedBuffer out(bytes);
  std::memset(out.as<void>(), kCanary, bytes);
  MatmulArgs args;
  args.x = problem.x.as<BF16>() + first_row * problem.k_padded;
  args.ldx = problem.k_padded;
  args.weight = &problem.matrix;
  args.bias = with_bias ? problem.bias.data() : nullptr;
  args.epilogue = epilogue;
  args.out = out.as<BF16>();
  args.out_f32 = out.as<float>();
  args.ldo = ldo;
  args.rows = rows;
  const ThreeRanks ranks(first_row, rows, columns);
  args.parts = ranks.view();
  if (epilogue == Epilogue::kAdd || epilogue == Epilogue::kAddParts) {  // in place, as the residual stream is
    args.residual = args.out;
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(args.out + r * ldo, &problem.residual[(first_row + r) * columns],
                  columns * sizeof(BF16));
    }
  }
  for (int worker = 0; worker < problem.matrix.workers; ++worker) {
    kernels.matmul(args, problem.matrix.ShareOf(worker));
  }
  std::vector<uint8_t> result(rows * columns * element);
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* row = out.as<uint8_t>() + r * ldo * element;
    std::memcpy(&result[r * columns * element], row, columns * element);
    for (size_t i = columns * element; r + 1 < rows && i < ldo * element; ++i) {
      EXPECT_EQ(row[i], kCanary) << kernels.detail << " wrote behind row " << r;
    }
  }
  return result;
}

float ValueAt(const std::vector<uint8_t>& bytes, Epilogue epilogue, int64_t i) {
  if (epilogue == Epilogue::kStoreF32) return reinterpret_cast<const float*>(bytes.data())[i];
  return ToFloat(reinterpret_cast<const BF16*>(bytes.data())[i]);
}

// Of Σ x·w + bias. The products are summed once, not again for every kernel and epilogue.
Truth Dot(const Problem& p, int64_t row, int64_t column, bool with_bias) {
  std::optional<Truth>& sum = p.truths[row * p.shape.n + column];
  if (!sum) {
    sum.emplace();
    for (int64_t k = 0; k < p.shape.k; ++k) {
      const double product = double{ToFloat(p.x.as<BF16>()[row * p.k_padded + k])} *
                             ToFloat(p.weights[column * p.shape.k + k]);
      sum->value += product;
      sum->magnitude += std::abs(product);
    }
  }
  Truth t = *sum;
  if (with_bias) {
    t.value += p.bias[column];
    t.magnitude += std::abs(p.bias[column]);
  }
  return t;
}

const Epilogue kEpilogues[] = {Epilogue::kStore, Epilogue::kAdd, Epilogue::kAddParts,
                               Epilogue::kSwiGlu, Epilogue::kStoreF32};

// To the bit what the formula makes of the kernel's own sums.
void ExpectSumOfParts(const KernelTable& kernels, const Problem& p, int64_t rows, bool with_bias) {
  const std::vector<uint8_t> own = RunMatmul(kernels, p, 0, rows, Epilogue::kStoreF32, with_bias);
  const std::vector<uint8_t> out = RunMatmul(kernels, p, 0, rows, Epilogue::kAddParts, with_bias);
  const int64_t n = p.shape.n;
  const ThreeRanks ranks(0, rows, n);
  for (int64_t i = 0; i < rows * n; ++i) {
    const float sum = ranks.Sum(i / n, i % n, ValueAt(own, Epilogue::kStoreF32, i));
    ASSERT_EQ(ValueAt(out, Epilogue::kAddParts, i), ToFloat(ToBF16(ToFloat(p.residual[i]) + sum)))
        << kernels.detail << " " << Describe(p.shape, rows, Epilogue::kAddParts) << " at " << i;
  }
}

// Tolerance. A chain of k FP32 roundings errs by at most k·2⁻²⁴·Σ|x·w|; roundings are not all to
// one side, so √k times the same with a factor of 8 holds for random data with room (vdpbf16ps and
// tdpbf16ps may also truncate inside a pair, bfdot rounds to odd: another factor 2). Storing BF16 adds half a unit in
// the last of 8 bits: 2⁻⁸ of the value at most. SwiGLU passes gate's and up's errors on, each
// times a factor of the other's size (|silu'| ≤ 1.1).
void ExpectNearTruth(const KernelTable& kernels, const Problem& p, int64_t rows, Epilogue epilogue,
                     bool with_bias) {
  if (epilogue == Epilogue::kAddParts) return ExpectSumOfParts(kernels, p, rows, with_bias);
  const std::vector<uint8_t> out = RunMatmul(kernels, p, 0, rows, epilogue, with_bias);
  const int64_t columns = epilogue == Epilogue::kSwiGlu ? p.shape.n / 2 : p.shape.n;
  const double relative = 16 * std::sqrt(static_cast<double>(p.shape.k)) * 0x1p-24;
  const double store = epilogue == Epilogue::kStoreF32 ? 0 : 0x1p-8;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      double expected, error;
      if (epilogue == Epilogue::kSwiGlu) {
        const int64_t at = c / 16 * 32 + c % 16;
        const Truth gate = Dot(p, r, at, with_bias);
        const Truth up = Dot(p, r, at + 16, with_bias);
        const double silu = gate.value / (1 + std::exp(-gate.value));
        expected = silu * up.value;
        error = relative * (1.1 * gate.magnitude * std::abs(up.value) +
                            std::abs(silu) * up.magnitude) + 1e-6 * std::abs(expected);
      } else {
        const Truth t = Dot(p, r, c, with_bias);
        expected = t.value;
        error = relative * t.magnitude;
        if (epilogue == Epilogue::kAdd) expected += ToFloat(p.residual[r * columns + c]);
      }
      error += store * std::abs(expected) + 1e-30;
      ASSERT_NEAR(ValueAt(out, epilogue, r * columns + c), expected, error)
          << kernels.detail << " " << Describe(p.shape, rows, epilogue) << " row " << r
          << " column " << c;
    }
  }
}

TEST(MatmulConformance, EveryKernelEpilogueAndShapeIsNearTheExactSum) {
  const Shape shapes[] = {
      {32, 32},           {64, 64},           {96, 33},       {160, 31, 32},    {128, 1},
      {224, 250, 32},     {64, 1024},         {352, 160, 32, 2}, {352, 96, 32, 3},
      {192, 100, 64, 2},
      {32, 70, 32, 5},    {480, 64, 160, 2},
  };
  for (const Shape& shape : shapes) {
    for (int64_t rows : {1, 2, 7, 17, 35}) {
      const Problem problem(shape, rows, static_cast<uint32_t>(shape.n * 7 + rows));
      for (Epilogue epilogue : kEpilogues) {
        if (epilogue == Epilogue::kSwiGlu && shape.granule % 32 != 0 && shape.workers > 1) continue;
        for (const KernelTable* kernels : Kernels()) {
          ExpectNearTruth(*kernels, problem, rows, epilogue, rows % 2 == 1);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(MatmulConformance, LastBlocksOfEveryWidthAndManyRows) {
  for (int64_t n : {16, 48, 80, 176}) {
    for (int64_t rows : {5, 64, 130}) {
      const Problem problem({n, 96}, rows, static_cast<uint32_t>(n + rows));
      for (const KernelTable* kernels : Kernels()) {
        ExpectNearTruth(*kernels, problem, rows, Epilogue::kStoreF32, true);
        ExpectNearTruth(*kernels, problem, rows, Epilogue::kAdd, false);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// More than the 512 columns and 132 rows that the FMA kernels of many rows take at a time, and k in chunks
// with a shorter last one.
TEST(MatmulConformance, PartsOfTheColumnsAndPanelsOfRows) {
  for (int64_t rows : {133, 270}) {
    const Problem problem({1120, 330}, rows, static_cast<uint32_t>(rows));
    for (const KernelTable* kernels : Kernels()) {
      for (Epilogue epilogue : kEpilogues) {
        ExpectNearTruth(*kernels, problem, rows, epilogue, rows == 133);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Around the 64 Ki numbers of x that the kernels of few rows hold as FP32, with a last chunk of k of half
// the size.
TEST(MatmulConformance, FewRowsOfLongSums) {
  for (const auto& [rows, k] : {std::pair<int64_t, int64_t>{18, 3616}, {18, 3680}, {24, 2720}, {24, 2752},
                                {3, 25600}}) {
    const Problem problem({16, k}, rows, static_cast<uint32_t>(k));
    for (const KernelTable* kernels : Kernels()) {
      ExpectNearTruth(*kernels, problem, rows, Epilogue::kStoreF32, false);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(MatmulConformance, NoRowsWritesNothing) {
  const Problem problem({64, 64}, 1, 1);
  for (const KernelTable* kernels : Kernels()) {
    EXPECT_TRUE(RunMatmul(*kernels, problem, 0, 0, Epilogue::kStore, false).empty());
  }
}

// A row's bits are the same alone and among any number of others, at any place.
TEST(MatmulBatchInvariance, RowsDoNotDependOnTheirNumberOrPlace) {
  constexpr int64_t kRows = 530;
  for (const Shape& shape : {Shape{112, 200, 16}, Shape{64, 2080}}) {
    const Problem problem(shape, kRows, 3);
    for (const KernelTable* kernels : Kernels()) {
      if (std::string(kernels->isa) == "scalar" && shape.k > 1000) continue;
      std::vector<uint8_t> alone;
      for (int64_t r = 0; r < kRows; ++r) {
        const auto row = RunMatmul(*kernels, problem, r, 1, Epilogue::kStoreF32, true);
        alone.insert(alone.end(), row.begin(), row.end());
      }
      const size_t row_bytes = shape.n * sizeof(float);
      std::vector<std::pair<int64_t, int64_t>> cases = {{0, kRows}, {0, 512}, {7, 257}, {1, 129}};
      for (int64_t rows = 1; rows <= 80; ++rows) cases.push_back({rows % 13, rows});
      for (const auto& [first, rows] : cases) {
        const auto together = RunMatmul(*kernels, problem, first, rows, Epilogue::kStoreF32, true);
        ASSERT_EQ(std::memcmp(together.data(), &alone[first * row_bytes], rows * row_bytes), 0)
            << kernels->detail << " " << Describe(shape, rows, Epilogue::kStoreF32)
            << " from row " << first;
      }
    }
  }
}

// Of workers that have not the same share.
const std::vector<int32_t> kUneven[] = {{0, 2, 3}, {0, 1, 4}, {0, 32, 64, 77, 90}, {0, 1, 40}};

// The same columns give the same bits however the columns are divided among workers.
TEST(MatmulBatchInvariance, ColumnsDoNotDependOnTheTeam) {
  for (int64_t rows : {1, 5, 16, 33, 80}) {
    Problem problem({16 * 22, 160}, rows, 11);
    for (const KernelTable* kernels : Kernels()) {
      for (Epilogue epilogue : kEpilogues) {
        problem.shape.granule = epilogue == Epilogue::kSwiGlu ? 32 : 16;
        problem.Pack(1);
        const auto one = RunMatmul(*kernels, problem, 0, rows, epilogue, true);
        for (int workers = 2; workers <= 5; ++workers) {
          problem.Pack(workers);
          ASSERT_EQ(RunMatmul(*kernels, problem, 0, rows, epilogue, true), one)
              << kernels->detail << " " << Describe(problem.shape, rows, epilogue) << " team of "
              << workers;
        }
        for (const std::vector<int32_t>& bounds : kUneven) {
          problem.Pack(static_cast<int>(bounds.size()) - 1, bounds.data());
          ASSERT_EQ(RunMatmul(*kernels, problem, 0, rows, epilogue, true), one)
              << kernels->detail << " " << Describe(problem.shape, rows, epilogue) << " shares up to " << bounds[1];
        }
      }
    }
  }
}

// All FMA paths are one chain over k, so ISAs of one architecture and of another agree to the bit.
TEST(MatmulBatchInvariance, FmaKernelsAreOneChain) {
  const Problem problem({208, 330}, 140, 5);
  const int64_t n = problem.shape.n;
  std::vector<float> chains(140 * n);
  for (int64_t i = 0; i < 140 * n; ++i) {
    float sum = 0;
    for (int64_t k = 0; k < problem.shape.k; ++k) {
      sum = std::fma(ToFloat(problem.x.as<BF16>()[i / n * problem.k_padded + k]),
                     ToFloat(problem.weights[i % n * problem.shape.k + k]), sum);
    }
    chains[i] = sum + problem.bias[i % n];
  }
  for (const KernelTable* kernels : Kernels()) {
    if (std::string(kernels->detail).find("bf16 by fp32 fma") == std::string::npos) continue;
    for (int64_t rows : {1, 3, 6, 29, 140}) {
      const std::vector<uint8_t> out = RunMatmul(*kernels, problem, 0, rows, Epilogue::kStoreF32, true);
      EXPECT_EQ(std::memcmp(out.data(), chains.data(), out.size()), 0) << kernels->detail << " rows " << rows;
    }
  }
}

// BFMMLA is defined as two BFDOT. So it has its bits, also where sums overflow, are denormal or no numbers.
TEST(MatmulBatchInvariance, BfdotAndBfmmlaAreOneChain) {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* kernels : Kernels()) {
    if (std::string(kernels->detail).find("bf16 by bf") != std::string::npos) tables.push_back(kernels);
  }
  if (tables.size() < 2) GTEST_SKIP() << "this CPU has no BFMMLA";
  for (const Shape& shape : {Shape{16, 1}, Shape{48, 33}, Shape{208, 330}, Shape{80, 1100, 16, 2}, Shape{592, 96}}) {
    Problem problem(shape, 140, static_cast<uint32_t>(shape.n));
    const float powers[] = {1.0f, 0x1p60f, 0x1p-60f, 0x1p66f, 0x1p-66f};
    for (int64_t i = 0; i < shape.n * shape.k; ++i) {
      problem.weights[i] = ToBF16(ToFloat(problem.weights[i]) * powers[i / shape.k % 3]);
    }
    problem.Pack(shape.workers);
    std::mt19937 random(7);
    for (int64_t i = 0; i < 140 * problem.k_padded; ++i) {
      const int64_t row = i / problem.k_padded;
      BF16& x = problem.x.as<BF16>()[i];
      x = ToBF16(ToFloat(x) * powers[row % 5]);
      if (row % 7 == 3 && random() % 64 == 0) x.bits = static_cast<uint16_t>(random());
    }
    std::vector<int64_t> counts = {132, 133, 140};
    for (int64_t rows = 1; rows <= 20; ++rows) counts.push_back(rows);
    for (const int64_t rows : counts) {
      const std::vector<uint8_t> one = RunMatmul(*tables[0], problem, 0, rows, Epilogue::kStoreF32, false);
      for (const KernelTable* kernels : tables) {
        EXPECT_EQ(RunMatmul(*kernels, problem, 0, rows, Epilogue::kStoreF32, false), one)
            << kernels->detail << " " << Describe(shape, rows, Epilogue::kStoreF32);
      }
    }
  }
}

// SwiGLU where exp overflows, underflows or is not a number.
TEST(MatmulConformance, SwiGluOfExtremeGates) {
  Problem problem({32, 32}, 1, 1);
  for (float gate : {0.0f, -0.0f, 1e-30f, 30.0f, 88.0f, 120.0f, -30.0f, -87.0f, -120.0f, 3e38f,
                     -3e38f, INFINITY, NAN}) {
    std::fill(problem.weights.begin(), problem.weights.end(), ToBF16(0.0f));
    problem.Pack(1);
    problem.bias.assign(32, gate);
    for (int i = 16; i < 32; ++i) problem.bias[i] = 1.0f;
    const float silu = ToFloat(ToBF16(gate / (1.0f + std::exp(-gate))));
    for (const KernelTable* kernels : Kernels()) {
      const float got = ValueAt(RunMatmul(*kernels, problem, 0, 1, Epilogue::kSwiGlu, true),
                                Epilogue::kSwiGlu, 3);
      if (std::isnan(silu)) {
        EXPECT_TRUE(std::isnan(got)) << kernels->detail << " gate " << gate << " gave " << got;
      } else if (std::isinf(silu)) {
        EXPECT_EQ(got, silu) << kernels->detail;
      } else {
        // Below exp's range (gate < −87) both sides are denormal or zero.
        EXPECT_NEAR(got, silu, std::abs(silu) * 0x1p-7 + 1e-35) << kernels->detail << " " << gate;
      }
    }
  }
}

TEST(EmbedConformance, RowMajorAndPackedTables) {
  constexpr int64_t kVocab = 208;
  for (int64_t hidden : {64, 70, 33}) {
    Problem problem({kVocab, hidden}, 1, 9);
    const std::vector<int32_t> ids = {0, 207, 5, 5, 63, 64, 100, 150};
    for (const KernelTable* kernels : Kernels()) {
      const int32_t uneven[] = {0, 32, 45, 58};
      for (int workers : {1, 3}) {
        problem.Pack(workers, workers == 3 ? uneven : nullptr);
        for (bool packed : {false, true}) {
          GuardedBuffer out(ids.size() * hidden * sizeof(BF16));
          EmbedArgs args;
          args.token_ids = ids.data();
          if (packed) {
            args.packed = &problem.matrix;
          } else {
            args.table = problem.weights.data();
          }
          args.out = out.as<BF16>();
          args.hidden = hidden;
          args.rows = static_cast<int64_t>(ids.size());
          const int32_t bounds[] = {0, 5, 6, 8};
          for (int i = 0; i < 3; ++i) kernels->embed(args, {i, 3, workers == 3 ? bounds : nullptr});
          for (size_t r = 0; r < ids.size(); ++r) {
            EXPECT_EQ(std::memcmp(args.out + r * hidden, &problem.weights[ids[r] * hidden],
                                  hidden * sizeof(BF16)), 0)
                << kernels->detail << " packed=" << packed << " id " << ids[r];
          }
        }
      }
    }
  }
}

// A kernel that loads tile registers of another shape restores those that the next one counts on.
TEST(Tiles, AreAsInitThreadLeftThemAfterEveryOperator) {
  const Problem problem({64, 64}, 140, 3);
  for (const KernelTable* kernels : Kernels()) {
    // Rows for the tiles' full height, for less, and for full height again.
    const auto whole = RunMatmul(*kernels, problem, 0, 140, Epilogue::kStoreF32, true);
    for (const int64_t rows : {1, 5, 17, 40}) {
      RunMatmul(*kernels, problem, 0, rows, Epilogue::kStoreF32, true);
      EXPECT_EQ(RunMatmul(*kernels, problem, 0, 140, Epilogue::kStoreF32, true), whole)
          << kernels->detail << " after " << rows << " rows";
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels
