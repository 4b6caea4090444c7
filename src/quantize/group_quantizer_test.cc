#include "quantize/group_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "quantize/upper_factor.h"

namespace tiercel::quantize {
namespace {

constexpr int64_t kGroupSize = 128, kInputs = 256, kRows = 5;
using Matrix = std::vector<std::vector<double>>;

std::unique_ptr<platform::WorkerTeam> TwoWorkers() {
  auto team = platform::WorkerTeam::Create({.cpus = {0, 0}, .pin = false});
  EXPECT_TRUE(team.has_value()) << team.error();
  return std::move(*team);
}

// Inputs of which neighbors are alike, as a model's are.
Matrix ProductsOfAlikeInputs(int64_t k, int64_t tokens) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  Matrix products(k, std::vector<double>(k));
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> x(k);
    double last = 0;
    for (double& value : x) last = value = 0.8 * last + normal(random);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < k; ++j) products[i][j] += x[i] * x[j];
    }
  }
  return products;
}

std::vector<float> Flat(const Matrix& m) {
  std::vector<float> flat;
  for (const auto& row : m) {
    for (const double x : row) flat.push_back(static_cast<float>(x));
  }
  return flat;
}

std::vector<float> Weights() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> w(kRows * kInputs);
  for (float& x : w) x = normal(random);
  return w;
}

double Code(double w, double scale) { return std::clamp(std::nearbyint(w / scale), -8.0, 7.0); }

double SquaredError(const double* w, double scale) {
  double error = 0;
  for (int64_t i = 0; i < kGroupSize; ++i) error += std::pow(w[i] - scale * Code(w[i], scale), 2);
  return error;
}

// The least squared error of the 21 scales that the header names, by trying each.
double LeastError(const double* w) {
  double largest = 0, least = std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < kGroupSize; ++i) {
    if (std::fabs(w[i]) > std::fabs(largest)) largest = w[i];
  }
  for (double d = 7; d <= 12; d += 0.25) {
    least = std::min(least, SquaredError(w, ToFloat(ToBF16(static_cast<float>(-largest / d)))));
  }
  return least;
}

Matrix Inverse(Matrix a) {
  const size_t n = a.size();
  Matrix b(n, std::vector<double>(n));
  for (size_t i = 0; i < n; ++i) b[i][i] = 1;
  for (size_t i = 0; i < n; ++i) {  // positive definite: no pivoting
    const double pivot = a[i][i];
    for (size_t j = 0; j < n; ++j) {
      a[i][j] /= pivot;
      b[i][j] /= pivot;
    }
    for (size_t r = 0; r < n; ++r) {
      const double factor = a[r][i];
      for (size_t j = 0; r != i && j < n; ++j) {
        a[r][j] -= factor * a[i][j];
        b[r][j] -= factor * b[i][j];
      }
    }
  }
  return b;
}

// The upper Cholesky factor U of A = Uᵀ·U.
Matrix UpperCholesky(const Matrix& a) {
  const size_t n = a.size();
  Matrix u(n, std::vector<double>(n));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i; j < n; ++j) {
      double sum = a[i][j];
      for (size_t m = 0; m < i; ++m) sum -= u[m][i] * u[m][j];
      u[i][j] = i == j ? std::sqrt(sum) : sum / u[i][i];
    }
  }
  return u;
}

struct Rounded {
  std::vector<int8_t> codes = std::vector<int8_t>(kRows * kInputs);
  std::vector<BF16> scales = std::vector<BF16>(kRows * kInputs / kGroupSize);
  GroupRow Row(int64_t r) { return {codes.data() + r * kInputs, scales.data() + r * kInputs / kGroupSize}; }
  double Value(int64_t r, int64_t i) const {
    return double{ToFloat(scales[(r * kInputs + i) / kGroupSize])} * codes[r * kInputs + i];
  }
};

// Goes along with the paper's algorithm as its authors' program has it: the inverse Hessian, its Cholesky factor, and
// after each column the error over the diagonal taken from all columns behind it. Each of the row's codes must be the
// nearest to what the algorithm has made of the weight by then.
void ExpectPapers(const std::vector<float>& row, Matrix hessian, const GroupRow& found) {
  double mean = 0;
  for (int64_t i = 0; i < kInputs; ++i) mean += hessian[i][i] / kInputs;
  for (int64_t i = 0; i < kInputs; ++i) hessian[i][i] += 0.01 * mean;
  const Matrix u = UpperCholesky(Inverse(std::move(hessian)));
  std::vector<double> w(row.begin(), row.end());
  for (int64_t i = 0; i < kInputs; ++i) {
    const double scale = ToFloat(found.scales[i / kGroupSize]);
    if (i % kGroupSize == 0) {
      EXPECT_LE(SquaredError(&w[i], scale), LeastError(&w[i]) * 1.0001) << i;
    }
    EXPECT_NEAR(std::clamp(w[i] / scale, -8.0, 7.0), found.codes[i], 0.501) << i;
    const double error = (w[i] - scale * found.codes[i]) / u[i][i];
    for (int64_t j = i + 1; j < kInputs; ++j) w[j] -= error * u[i][j];
  }
}

double Loss(const std::vector<float>& w, int64_t r, const Matrix& products, const auto& value) {
  double loss = 0;
  for (int64_t i = 0; i < kInputs; ++i) {
    for (int64_t j = 0; j < kInputs; ++j) {
      loss += (w[r * kInputs + i] - value(i)) * products[i][j] * (w[r * kInputs + j] - value(j));
    }
  }
  return loss;
}

TEST(GroupQuantizer, RoundsToTheNearest) {
  const std::vector<float> w = Weights();
  Rounded rounded;
  for (int64_t r = 0; r < kRows; ++r) {
    RoundRow(w.data() + r * kInputs, kInputs, kGroupSize, rounded.Row(r));
    const std::vector<double> row(w.begin() + r * kInputs, w.begin() + (r + 1) * kInputs);
    for (int64_t i = 0; i < kInputs; ++i) {
      const double scale = ToFloat(rounded.Row(r).scales[i / kGroupSize]);
      if (i % kGroupSize == 0) {
        const auto largest = std::max_element(row.begin() + i, row.begin() + i + kGroupSize,
                                              [](double a, double b) { return std::fabs(a) < std::fabs(b); });
        EXPECT_EQ(scale, ToFloat(ToBF16(static_cast<float>(*largest / -8))));
      }
      EXPECT_NEAR(std::clamp(row[i] / scale, -8.0, 7.0), rounded.Row(r).codes[i], 0.5001);
    }
  }
}

TEST(GroupQuantizer, GroupsOfZerosAndOfNoNumbers) {
  std::vector<float> w(kGroupSize, 0.0f);
  std::vector<int8_t> codes(kGroupSize, 1);
  BF16 scale = {};
  RoundRow(w.data(), kGroupSize, kGroupSize, {codes.data(), &scale});
  EXPECT_EQ(codes, std::vector<int8_t>(kGroupSize, 0));
  EXPECT_TRUE(std::isfinite(ToFloat(scale)));
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    w[5] = bad;
    RoundRow(w.data(), kGroupSize, kGroupSize, {codes.data(), &scale});
    EXPECT_FALSE(std::isfinite(ToFloat(scale)));
  }
}

TEST(GroupQuantizer, GptqIsThePapers) {
  const std::vector<float> w = Weights();
  const Matrix products = ProductsOfAlikeInputs(kInputs, 1000);
  const auto team = TwoWorkers();
  const auto gptq = Gptq::Create(Flat(products), kInputs, team.get());
  ASSERT_TRUE(gptq.has_value()) << gptq.error();
  Rounded found, nearest;
  std::vector<GroupRow> out;
  for (int64_t r = 0; r < kRows; ++r) out.push_back(found.Row(r));
  gptq->Quantize(w.data(), kRows, kGroupSize, out.data());
  for (int64_t r = 0; r < kRows; ++r) {
    RoundRow(w.data() + r * kInputs, kInputs, kGroupSize, nearest.Row(r));
    ExpectPapers({w.begin() + r * kInputs, w.begin() + (r + 1) * kInputs}, products, found.Row(r));
    EXPECT_LT(Loss(w, r, products, [&](int64_t i) { return found.Value(r, i); }),
              0.6 * Loss(w, r, products, [&](int64_t i) { return nearest.Value(r, i); }));
  }
}

TEST(GroupQuantizer, InputsThatNeverCameAndInputsThatAreAlike) {
  const std::vector<float> w = Weights();
  const auto team = TwoWorkers();
  Rounded found;
  std::vector<GroupRow> out;
  for (int64_t r = 0; r < kRows; ++r) out.push_back(found.Row(r));
  const auto never = Gptq::Create(std::vector<float>(kInputs * kInputs, 0.0f), kInputs, team.get());
  ASSERT_TRUE(never.has_value()) << never.error();
  never->Quantize(w.data(), kRows, kGroupSize, out.data());
  for (int64_t i = 0; i < kRows * kInputs; ++i) {
    const double scale = ToFloat(found.scales[i / kGroupSize]);
    EXPECT_NEAR(std::clamp(w[i] / scale, -8.0, 7.0), found.codes[i], 0.5001);
  }
  // Of rank one: no factor without damping, and with too little of it none in FP32.
  EXPECT_FALSE(Gptq::Create(std::vector<float>(kInputs * kInputs, 1e6f), kInputs, team.get(), 1e-12).has_value());
  EXPECT_TRUE(Gptq::Create(std::vector<float>(kInputs * kInputs, 1e6f), kInputs, team.get(), 1e-7).has_value());
  EXPECT_FALSE(Gptq::Create(std::vector<float>(kInputs * kInputs, std::nanf("")), kInputs, team.get()).has_value());
}

TEST(UpperFactor, TimesItsTransposeIsTheMatrix) {
  const auto team = TwoWorkers();
  for (const int64_t k : {1, 64, 150}) {
    const Matrix products = ProductsOfAlikeInputs(k, 500);
    std::vector<float> r = Flat(products);
    ASSERT_TRUE(FactorUpper(k, team.get(), r.data()));
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = i; j < k; ++j) {
        double sum = 0;
        for (int64_t m = j; m < k; ++m) sum += double{r[i * k + m]} * double{r[j * k + m]};
        EXPECT_NEAR(sum, products[i][j], 1e-4 * products[i][i]);
        if (i == j) continue;
        EXPECT_EQ(r[j * k + i], static_cast<float>(products[j][i]));  // below the diagonal
      }
    }
  }
  std::vector<float> indefinite = {1, 2, 2, 1};
  EXPECT_FALSE(FactorUpper(2, team.get(), indefinite.data()));
}

}  // namespace
}  // namespace tiercel::quantize
