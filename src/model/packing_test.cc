#include "model/packing.h"

#include <gtest/gtest.h>

#include <vector>

namespace tiercel::model {
namespace {

// The element's place as tensor/packed_matrix.h states it, computed the slow way.
int64_t Place(const PackedMatrix& m, int64_t column, int64_t k) {
  for (int worker = 0; worker < m.workers; ++worker) {
    const Range range = m.ColumnRange(worker);
    if (column < range.begin || column >= range.end) continue;
    const int64_t block = (column - range.begin) / kColumnBlock;
    const int64_t c = (column - range.begin) % kColumnBlock;
    const int64_t width = std::min(kColumnBlock, range.size() - block * kColumnBlock);
    return range.begin * m.k_padded + block * kColumnBlock * m.k_padded +
           ((k / 2) * width + c) * 2 + k % 2;
  }
  return -1;
}

BF16 Element(int64_t column, int64_t k) {
  return BF16{static_cast<uint16_t>(1 + (column * 977 + k * 31) % 65535)};
}

void CheckPacking(int64_t n, int64_t k, int64_t granule, int workers) {
  PackedMatrix m;
  m.n = n;
  m.k = k;
  m.k_padded = (k + kKBlock - 1) / kKBlock * kKBlock;
  m.granule = granule;
  m.workers = workers;
  ASSERT_EQ(PackedBytes(n, k), n * m.k_padded * 2);
  std::vector<BF16> data(static_cast<size_t>(n * m.k_padded), BF16{0xffff});
  for (int worker = 0; worker < workers; ++worker) {
    const Status status = PackColumns(m, data.data(), worker, [&](int64_t column, BF16* row) {
      for (int64_t i = 0; i < k; ++i) row[i] = Element(column, i);
      return OkStatus();
    });
    ASSERT_TRUE(status.ok());
  }
  for (int64_t column = 0; column < n; ++column) {
    for (int64_t i = 0; i < m.k_padded; ++i) {
      const BF16 expected = i < k ? Element(column, i) : BF16{0};
      ASSERT_EQ(data[static_cast<size_t>(Place(m, column, i))], expected)
          << "column " << column << " k " << i;
    }
  }
}

TEST(Packing, PlacesEveryElementAndZeroesPadding) {
  CheckPacking(64, 32, 16, 1);
  CheckPacking(160, 64, 16, 1);
  CheckPacking(160, 40, 16, 3);
  CheckPacking(16, 33, 16, 2);  // one worker has nothing
  CheckPacking(96, 96, 32, 2);
  CheckPacking(384, 32, 192, 2);
}

TEST(Packing, PassesTheReadersErrorOn) {
  PackedMatrix m;
  m.n = 32;
  m.k = m.k_padded = 32;
  std::vector<BF16> data(32 * 32);
  const Status status = PackColumns(m, data.data(), 0, [](int64_t column, BF16*) {
    return column == 17 ? NotFound("column {}", column) : OkStatus();
  });
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "column 17");
}

}  // namespace
}  // namespace tiercel::model
