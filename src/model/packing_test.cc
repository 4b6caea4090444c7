#include "model/packing.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/bf16.h"

namespace tiercel::model {
namespace {

// The element's place as tensor/packed_matrix.h states it, computed the slow way.
int64_t Place(const PackedMatrix& m, int64_t column, int64_t k) {
  const int64_t together = m.dtype == DType::kI8 ? kQuad : kPair;
  for (int worker = 0; worker < m.workers; ++worker) {
    const Range range = m.ColumnRange(worker);
    if (column < range.begin || column >= range.end) continue;
    const int64_t block = (column - range.begin) / kColumnBlock;
    const int64_t c = (column - range.begin) % kColumnBlock;
    const int64_t width = std::min(kColumnBlock, range.size() - block * kColumnBlock);
    return range.begin * m.k_padded + block * kColumnBlock * m.k_padded +
           ((k / together) * width + c) * together + k % together;
  }
  return -1;
}

template <typename T>
T Element(int64_t column, int64_t k);
template <>
BF16 Element<BF16>(int64_t column, int64_t k) {
  return BF16{static_cast<uint16_t>(1 + (column * 977 + k * 31) % 65535)};
}
template <>
int8_t Element<int8_t>(int64_t column, int64_t k) {
  return static_cast<int8_t>(1 + (column * 97 + k * 31) % 127);
}

template <typename T>
void CheckPacking(DType dtype, int64_t n, int64_t k, int64_t granule, int workers) {
  PackedMatrix m;
  m.dtype = dtype;
  m.n = n;
  m.k = k;
  const int64_t step = dtype == DType::kI8 ? 64 : 32;
  m.k_padded = (k + step - 1) / step * step;
  ASSERT_EQ(PaddedK(k, dtype), m.k_padded);
  m.granule = granule;
  m.workers = workers;
  ASSERT_EQ(PackedBytes(n, k, dtype), n * m.k_padded * static_cast<int64_t>(sizeof(T)));
  std::vector<T> data(static_cast<size_t>(n * m.k_padded), Element<T>(1, 1));
  for (int worker = 0; worker < workers; ++worker) {
    const Status status = PackColumns(m, data.data(), worker, [&](int64_t column, void* row) {
      for (int64_t i = 0; i < k; ++i) static_cast<T*>(row)[i] = Element<T>(column, i);
      return OkStatus();
    });
    ASSERT_TRUE(status.ok());
  }
  for (int64_t column = 0; column < n; ++column) {
    for (int64_t i = 0; i < m.k_padded; ++i) {
      const T expected = i < k ? Element<T>(column, i) : T{0};
      ASSERT_EQ(data[static_cast<size_t>(Place(m, column, i))], expected)
          << "column " << column << " k " << i;
    }
  }
}

TEST(Packing, PlacesEveryElementAndZeroesPadding) {
  for (const auto& [n, k, granule, workers] :
       {std::tuple{64, 32, 16, 1}, {160, 64, 16, 1}, {160, 40, 16, 3}, {16, 33, 16, 2},
        {96, 96, 32, 2}, {384, 32, 192, 2}}) {  // (16, 33, 16, 2): one worker has nothing
    CheckPacking<BF16>(DType::kBF16, n, k, granule, workers);
    CheckPacking<int8_t>(DType::kI8, n, k, granule, workers);
  }
}

TEST(Packing, PassesTheReadersErrorOn) {
  PackedMatrix m;
  m.n = 32;
  m.k = m.k_padded = 32;
  std::vector<BF16> data(32 * 32);
  const Status status = PackColumns(m, data.data(), 0, [](int64_t column, void*) {
    return column == 17 ? NotFound("column {}", column) : OkStatus();
  });
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "column 17");
}

}  // namespace
}  // namespace tiercel::model
