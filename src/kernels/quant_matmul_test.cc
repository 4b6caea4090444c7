// W8A8 matmuls of every ISA that this CPU runs. The sums are integers, so the truth is exact, and
// all of the epilogue but SwiGLU's exp is compared bit for bit with the formula of ops.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/guarded_buffer.h"
#include "kernels/rank_parts_test_util.h"
#include "kernels/test_kernels.h"
#include "kernels/test_random.h"

namespace tiercel::kernels {
namespace {

struct Shape {
  int64_t n, k;
  int64_t granule = kColumnGroup;
  int workers = 1;
};

enum class Values { kRandom, kExtreme };

// Operands. Weights [n, k] are kept row-major and packed for a team.
struct QuantProblem {
  QuantProblem(const Shape& shape, int64_t max_rows, uint32_t seed, Values values = Values::kRandom)
      : shape(shape),
        k_padded((shape.k + kKBlockI8 - 1) / kKBlockI8 * kKBlockI8),
        weights(shape.n * shape.k),
        packed(shape.n * k_padded),
        x(max_rows * k_padded) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> byte(0, 255);
    NormalDistribution normal;
    const auto next = [&] {
      return values == Values::kRandom ? byte(random) : (byte(random) < 32 ? 255 : 0);
    };
    for (int8_t& w : weights) w = static_cast<int8_t>(next() - 128);
    // x's pad is not zero: it must be multiplied by the weights' zeros.
    for (int64_t i = 0; i < max_rows * k_padded; ++i) {
      x.as<uint8_t>()[i] = static_cast<uint8_t>(next());
    }
    for (int64_t c = 0; c < shape.n; ++c) {
      int32_t sum = 0;
      for (int64_t k = 0; k < shape.k; ++k) sum += weights[c * shape.k + k];
      acc_bias.push_back(-128 * sum + byte(random) * 1000 - 128000);
      scale.push_back((1.5f + normal(random) / 8) / std::sqrt(static_cast<float>(shape.k)) / 4096);
      bias.push_back(normal(random));
    }
    for (int64_t r = 0; r < max_rows; ++r) row_scale.push_back(1.0f + normal(random) / 4);
    residual.resize(max_rows * shape.n);
    for (BF16& r : residual) r = ToBF16(normal(random));
    Pack(shape.workers);
  }

  // The layout of tensor/packed_matrix.h, element by element from its formula.
  void Pack(int workers, const int32_t* bounds = nullptr) {
    matrix = {packed.as<void>(), DType::kI8, shape.n, shape.k, k_padded, shape.granule, workers, nullptr, bounds};
    std::memset(packed.as<void>(), 0, shape.n * k_padded);
    for (int worker = 0; worker < workers; ++worker) {
      const Range range = matrix.ColumnRange(worker);
      for (int64_t c = range.begin; c < range.end; ++c) {
        const int64_t block = (c - range.begin) / kColumnBlock;
        const int64_t width = std::min(kColumnBlock, range.size() - block * kColumnBlock);
        const int64_t in_block = (c - range.begin) % kColumnBlock;
        for (int64_t k = 0; k < shape.k; ++k) {
          packed.as<int8_t>()[range.begin * k_padded + block * kColumnBlock * k_padded +
                              ((k / 4) * width + in_block) * 4 + k % 4] = weights[c * shape.k + k];
        }
      }
    }
  }

  // y of ops.h: each step is one rounding (volatile keeps the compiler from contracting).
  float Exact(int64_t row, int64_t column, bool dynamic, bool with_bias) const {
    int64_t sum = acc_bias[column];
    for (int64_t k = 0; k < shape.k; ++k) {
      sum += int64_t{x.as<uint8_t>()[row * k_padded + k]} * weights[column * shape.k + k];
    }
    volatile float y = static_cast<float>(static_cast<int32_t>(sum));
    EXPECT_EQ(static_cast<int32_t>(sum), sum);
    if (dynamic) y = y * row_scale[row];
    y = y * scale[column];
    if (with_bias) y = y + bias[column];
    return y;
  }

  Shape shape;
  int64_t k_padded;
  std::vector<int8_t> weights;
  GuardedBuffer packed, x;
  std::vector<int32_t> acc_bias;
  std::vector<float> scale, row_scale, bias;
  std::vector<BF16> residual;
  PackedMatrix matrix;
};

// How one call differs from another on the same operands.
struct Mode {
  Epilogue epilogue = Epilogue::kStore;
  bool dynamic = false, bias = false, quantized = false;
};

constexpr QuantizedRows kOutScale = {.scale = 0.02f, .offset = 11};

std::string Describe(const KernelTable& kernels, const QuantProblem& p, int64_t rows, const Mode& m) {
  return std::string(kernels.detail) + " n=" + std::to_string(p.shape.n) +
         " k=" + std::to_string(p.shape.k) + " workers=" + std::to_string(p.matrix.workers) +
         " rows=" + std::to_string(rows) + " epilogue=" +
         std::to_string(static_cast<int>(m.epilogue)) + (m.dynamic ? " dynamic" : "") +
         (m.bias ? " bias" : "") + (m.quantized ? " quantized" : "");
}

int64_t OutColumns(const QuantProblem& p, const Mode& m) {
  return m.epilogue == Epilogue::kSwiGlu ? p.shape.n / 2 : p.shape.n;
}

// The output of one call for every worker, as raw bytes; the padding of each row is checked.
std::vector<uint8_t> RunQuant(const KernelTable& kernels, const QuantProblem& p, int64_t first_row,
                         int64_t rows, const Mode& m) {
  const int64_t columns = OutColumns(p, m);
  const int64_t element = m.quantized ? 1 : (m.epilogue == Epilogue::kStoreF32 ? 4 : 2);
  const int64_t ldo = columns + 8;
  constexpr uint8_t kCanary = 0xA5;
  // The last row has no pad: writing behind it faults.
  const int64_t bytes = rows > 0 ? ((rows - 1) * ldo + columns) * element : 0;
  GuardedBuffer out(bytes);
  std::memset(out.as<void>(), kCanary, bytes);
  QuantMatmulArgs args;
  args.x = p.x.as<uint8_t>() + first_row * p.k_padded;
  args.ldx = p.k_padded;
  args.weight = &p.matrix;
  args.acc_bias = p.acc_bias.data();
  args.scale = p.scale.data();
  args.row_scale = m.dynamic ? p.row_scale.data() + first_row : nullptr;
  args.bias = m.bias ? p.bias.data() : nullptr;
  args.epilogue = m.epilogue;
  args.out = out.as<BF16>();
  args.out_f32 = out.as<float>();
  args.ldo = ldo;
  args.rows = rows;
  if (m.quantized) {
    args.quantized = kOutScale;
    args.quantized.data = out.as<uint8_t>();
    args.quantized.ld = ldo;
  }
  const ThreeRanks ranks(first_row, rows, columns);
  args.parts = ranks.view();
  if (m.epilogue == Epilogue::kAdd || m.epilogue == Epilogue::kAddParts) {  // in place, as the residual stream is
    args.residual = args.out;
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(args.out + r * ldo, &p.residual[(first_row + r) * columns], columns * 2);
    }
  }
  for (int worker = 0; worker < p.matrix.workers; ++worker) {
    kernels.quant_matmul(args, p.matrix.ShareOf(worker));
  }
  std::vector<uint8_t> result(rows * columns * element);
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* row = out.as<uint8_t>() + r * ldo * element;
    std::memcpy(&result[r * columns * element], row, columns * element);
    for (int64_t i = columns * element; r + 1 < rows && i < ldo * element; ++i) {
      EXPECT_EQ(row[i], kCanary) << kernels.detail << " wrote behind row " << r;
    }
  }
  return result;
}

template <typename T>
std::vector<uint8_t> Bytes(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

uint8_t QuantizeOut(BF16 y) {
  volatile float quotient = ToFloat(y) / kOutScale.scale;
  const float q = std::min(127.0f, std::max(-128.0f, quotient + kOutScale.offset));
  return static_cast<uint8_t>(static_cast<int>(std::nearbyint(q)) + 128);
}

// y [rows, n] of a mode.
std::vector<float> ExactRows(const QuantProblem& p, int64_t rows, const Mode& m) {
  std::vector<float> y;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < p.shape.n; ++c) y.push_back(p.Exact(r, c, m.dynamic, m.bias));
  }
  return y;
}

// The bits of a mode without SwiGLU.
std::vector<uint8_t> ExactBytes(const QuantProblem& p, const std::vector<float>& y, const Mode& m) {
  if (m.epilogue == Epilogue::kStoreF32) return Bytes(y);
  std::vector<BF16> out;
  const int64_t n = p.shape.n;
  const ThreeRanks ranks(0, std::ssize(y) / n, n);
  for (size_t i = 0; i < y.size(); ++i) {
    volatile float v = y[i];
    if (m.epilogue == Epilogue::kAddParts) v = ranks.Sum(static_cast<int64_t>(i) / n, static_cast<int64_t>(i) % n, v);
    if (m.epilogue != Epilogue::kStore) v = v + ToFloat(p.residual[i]);
    out.push_back(ToBF16(v));
  }
  if (!m.quantized) return Bytes(out);
  std::vector<uint8_t> bytes;
  for (BF16 v : out) bytes.push_back(QuantizeOut(v));
  return bytes;
}

// exp errs by about 1 ulp, so a SwiGLU output is at most one BF16 step from the exact one; its
// quantized form is to the bit that of the kernel's own BF16 output.
void ExpectSwiGlu(const KernelTable& kernels, const QuantProblem& p, const std::vector<float>& y,
                  int64_t rows, Mode m) {
  m.quantized = false;
  const std::vector<uint8_t> bytes = RunQuant(kernels, p, 0, rows, m);
  const int64_t columns = OutColumns(p, m);
  std::vector<BF16> out(rows * columns);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  std::vector<uint8_t> quantized;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const int64_t at = i / columns * p.shape.n + i % columns / 16 * 32 + i % 16;
    const double gate = y[at], exact = gate / (1 + std::exp(-gate)) * y[at + 16];
    ASSERT_NEAR(ToFloat(out[i]), exact, 1.001 * 0x1p-8 * std::abs(exact) + 1e-30)
        << Describe(kernels, p, rows, m) << " at " << i;
    quantized.push_back(QuantizeOut(out[i]));
  }
  m.quantized = true;
  ASSERT_EQ(RunQuant(kernels, p, 0, rows, m), quantized) << Describe(kernels, p, rows, m);
}

void ExpectExact(const QuantProblem& p, int64_t rows, bool dynamic, bool bias) {
  const bool swiglu = p.shape.n % 32 == 0 && (p.shape.granule % 32 == 0 || p.matrix.workers == 1);
  const std::vector<float> y = ExactRows(p, rows, {.dynamic = dynamic, .bias = bias});
  for (const KernelTable* kernels : Kernels()) {
    for (const Mode& m : {Mode{Epilogue::kStore, dynamic, bias},
                          Mode{Epilogue::kStore, dynamic, bias, true},
                          Mode{Epilogue::kAdd, dynamic, bias},
                          Mode{Epilogue::kAddParts, dynamic, bias},
                          Mode{Epilogue::kStoreF32, dynamic, bias}}) {
      ASSERT_EQ(RunQuant(*kernels, p, 0, rows, m), ExactBytes(p, y, m))
          << Describe(*kernels, p, rows, m);
    }
    if (swiglu) ExpectSwiGlu(*kernels, p, y, rows, {Epilogue::kSwiGlu, dynamic, bias});
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(QuantMatmul, EveryEpilogueAndShapeIsExact) {
  const Shape shapes[] = {{32, 64},          {64, 1},         {16, 63},          {48, 65},
                          {96, 200},         {176, 130},      {64, 1024},        {160, 31, 32},
                          {352, 160, 32, 2}, {352, 96, 32, 3}, {192, 100, 64, 2}, {32, 70, 32, 5}};
  for (const Shape& shape : shapes) {
    for (int64_t rows : {1, 2, 7, 17, 33}) {
      const QuantProblem problem(shape, rows, static_cast<uint32_t>(shape.n * 7 + rows));
      ExpectExact(problem, rows, rows % 2 == 0, rows > 2);
      if (HasFatalFailure()) return;
    }
  }
}

// vpmaddubsw adds pairs of products in 16 bits, where these overflow; a sum of 25600 times the
// largest product is the largest that a Qwen3-32B's down_proj could have.
TEST(QuantMatmul, ExtremeValuesDoNotSaturate) {
  for (int64_t k : {64, 1000, 25600}) {
    const QuantProblem mixed({64, k}, 3, 5, Values::kExtreme);
    ExpectExact(mixed, 3, false, false);
    for (const auto& [byte, weight] : {std::pair<uint8_t, int8_t>{0, -128}, {0, 127}, {255, -128},
                                       {255, 127}}) {
      QuantProblem same({32, k}, 2, 6);
      std::memset(same.x.as<void>(), byte, 2 * same.k_padded);
      std::fill(same.weights.begin(), same.weights.end(), weight);
      std::fill(same.acc_bias.begin(), same.acc_bias.end(), -128 * static_cast<int>(k) * weight);
      same.Pack(1);
      ExpectExact(same, 2, true, true);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(QuantMatmul, NoRowsWritesNothing) {
  const QuantProblem problem({64, 64}, 1, 1);
  for (const KernelTable* kernels : Kernels()) {
    EXPECT_TRUE(RunQuant(*kernels, problem, 0, 0, {}).empty());
  }
}

// All numbers of rows, at any place, by teams of every size.
TEST(QuantMatmul, RowsAndColumnsDoNotDependOnTheirNumberOrOnTheTeam) {
  constexpr int64_t kRows = 530;
  QuantProblem problem({16 * 11, 330}, kRows, 3);
  const Mode mode{Epilogue::kStoreF32, true, true};
  const std::vector<float> y = ExactRows(problem, kRows, mode);
  const std::vector<uint8_t> exact = Bytes(y);
  const int64_t row_bytes = problem.shape.n * 4;
  std::vector<std::pair<int64_t, int64_t>> cases = {{0, kRows}, {0, 512}, {7, 257}, {1, 129}};
  for (int64_t rows = 1; rows <= 70; ++rows) cases.push_back({rows % 13, rows});
  for (const KernelTable* kernels : Kernels()) {
    for (int workers = 1; workers <= 5; workers += 2) {
      const int32_t uneven[] = {0, 32, 45, 58};
      problem.Pack(workers, workers == 3 ? uneven : nullptr);
      for (const auto& [first, rows] : cases) {
        const std::vector<uint8_t> got = RunQuant(*kernels, problem, first, rows, mode);
        ASSERT_EQ(std::memcmp(got.data(), &exact[first * row_bytes], rows * row_bytes), 0)
            << Describe(*kernels, problem, rows, mode) << " from row " << first;
      }
    }
  }
}

// Large enough for every level of blocking: more rows than a panel, more k than a chunk, more
// columns than a band.
TEST(QuantMatmul, LargeShapesAgreeWithTheScalarKernel) {
  const QuantProblem problem({16 * 37, 1600}, 600, 4);
  const Mode mode{Epilogue::kStoreF32, true, false};
  const std::vector<uint8_t> exact = RunQuant(*Kernels().front(), problem, 0, 600, mode);
  for (const KernelTable* kernels : Kernels()) {
    EXPECT_EQ(RunQuant(*kernels, problem, 0, 600, mode), exact) << kernels->detail;
    EXPECT_GT(kernels->peak_matmul_i8(1), 0) << kernels->detail;
  }
}

}  // namespace
}  // namespace tiercel::kernels
