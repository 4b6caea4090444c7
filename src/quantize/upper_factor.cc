#include "quantize/upper_factor.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/packed_matrix.h"

namespace tiercel::quantize {
namespace {

constexpr int64_t kBlock = 64;

// The block [begin, end) of the diagonal, from its last column to its first.
bool FactorBlock(int64_t k, int64_t begin, int64_t end, float* a) {
  for (int64_t j = end - 1; j >= begin; --j) {
    double square = double{a[j * k + j]};
    for (int64_t m = j + 1; m < end; ++m) square -= double{a[j * k + m]} * double{a[j * k + m]};
    if (!(square > 0) || !std::isfinite(square)) return false;
    const double root = std::sqrt(square);
    a[j * k + j] = static_cast<float>(root);
    for (int64_t i = begin; i < j; ++i) {
      double sum = double{a[i * k + j]};
      for (int64_t m = j + 1; m < end; ++m) sum -= double{a[i * k + m]} * double{a[j * k + m]};
      a[i * k + j] = static_cast<float>(sum / root);
    }
  }
  return true;
}

// Row i of the columns [begin, end) above the block: solves R[i, block] · R[block, block]ᵀ = A[i, block].
void SolveRow(int64_t k, int64_t begin, int64_t end, const float* block, float* row) {
  for (int64_t j = end - 1; j >= begin; --j) {
    double sum = double{row[j]};
    for (int64_t m = j + 1; m < end; ++m) sum -= double{row[m]} * double{block[j * k + m]};
    row[j] = static_cast<float>(sum / double{block[j * k + j]});
  }
}

// A[i, j] −= Σ_m R[i, m] · R[j, m] for j in [i, begin): `panel` has R[:, block] transposed, [kBlock][stride], so that the
// sum runs over contiguous j.
void UpdateRow(int64_t i, int64_t begin, int64_t width, const float* panel, int64_t stride, float* row) {
  int64_t m = 0;
  for (; m + 4 <= width; m += 4) {
    const float *p0 = panel + m * stride, *p1 = p0 + stride, *p2 = p1 + stride, *p3 = p2 + stride;
    const float a0 = p0[i], a1 = p1[i], a2 = p2[i], a3 = p3[i];
    for (int64_t j = i; j < begin; ++j) row[j] -= a0 * p0[j] + a1 * p1[j] + a2 * p2[j] + a3 * p3[j];
  }
  for (; m < width; ++m) {
    const float* const p = panel + m * stride;
    for (int64_t j = i; j < begin; ++j) row[j] -= p[i] * p[j];
  }
}

}  // namespace

bool FactorUpper(int64_t k, platform::WorkerTeam* team, float* a) {
  std::vector<float> panel(static_cast<size_t>(kBlock * k));
  for (int64_t end = k; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, (end - 1) / kBlock * kBlock), width = end - begin;
    if (!FactorBlock(k, begin, end, a)) return false;
    team->Run([&](int worker) {
      const Range own = SplitRange(begin, 1, {worker, team->size()});
      for (int64_t i = own.begin; i < own.end; ++i) {
        SolveRow(k, begin, end, a, a + i * k);
        for (int64_t m = 0; m < width; ++m) panel[static_cast<size_t>(m * k + i)] = a[i * k + begin + m];
      }
      team->Barrier();
      // In turns, since the first rows are the longest.
      for (int64_t i = worker; i < begin; i += team->size()) UpdateRow(i, begin, width, panel.data(), k, a + i * k);
    });
    end = begin;
  }
  return true;
}

}  // namespace tiercel::quantize
