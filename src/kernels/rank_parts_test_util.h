// For tests of Epilogue::kAddParts: what three ranks have computed, the second of which is the one under test.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/ops.h"
#include "kernels/test_random.h"

namespace tiercel::kernels {

class ThreeRanks {
 public:
  // Rows from `first_row` on; a row has the same values wherever they begin.
  ThreeRanks(int64_t first_row, int64_t rows, int64_t n) : ld_(n + 3) {
    for (int rank = 0; rank < 3; ++rank) {
      std::mt19937 random(rank);
      NormalDistribution normal;
      std::vector<float> part(static_cast<size_t>(kOffset));
      for (int64_t i = 0; i < (first_row + rows) * ld_; ++i) {
        const float value = normal(random);  // the own one is not to be read
        part.push_back(rank == kOwn ? std::numeric_limits<float>::quiet_NaN() : value);
      }
      part.erase(part.begin(), part.begin() + first_row * ld_);
      parts_.push_back(std::move(part));
    }
    for (const auto& part : parts_) begins_.push_back(part.data());
  }

  RankParts view() const { return {begins_.data(), 3, kOwn, ld_, kOffset}; }
  // Of the rows as they lie here.
  float Sum(int64_t row, int64_t column, float own) const {
    const auto at = static_cast<size_t>(kOffset + row * ld_ + column);
    volatile float sum = parts_[0][at] + own;
    sum = sum + parts_[2][at];
    return sum;
  }

 private:
  static constexpr int kOwn = 1;
  static constexpr int64_t kOffset = 5;
  const int64_t ld_;
  std::vector<std::vector<float>> parts_;
  std::vector<const float*> begins_;
};

}  // namespace tiercel::kernels
