#include "model/packing.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace tiercel::model {
namespace {

constexpr int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Scatters 16 rows [16, k_padded] into their column group of a block of width w: for each pair of
// k, 16 neighboring columns get one 32-bit word each. One group at a time keeps the rows in L1/L2.
void InterleaveGroup(const BF16* rows, int64_t k_padded, int64_t width, BF16* out) {
  for (int64_t pair = 0; pair < k_padded / kPair; ++pair) {
    BF16* line = out + pair * width * kPair;
    for (int64_t c = 0; c < kColumnGroup; ++c) {
      line[c * kPair] = rows[c * k_padded + pair * kPair];
      line[c * kPair + 1] = rows[c * k_padded + pair * kPair + 1];
    }
  }
}

}  // namespace

int64_t PackedBytes(int64_t n, int64_t k) {
  return n * RoundUp(k, kKBlock) * static_cast<int64_t>(sizeof(BF16));
}

Status PackColumns(const PackedMatrix& matrix, BF16* data, int worker,
                   FunctionRef<Status(int64_t column, BF16* row)> read_row) {
  CHECK_EQ(matrix.n % kColumnGroup, 0);
  CHECK_EQ(matrix.granule % kColumnGroup, 0);
  CHECK_EQ(matrix.k_padded, RoundUp(matrix.k, kKBlock));
  const Range range = matrix.ColumnRange(worker);
  // The padding behind k stays zero: rows are written only up to k.
  std::vector<BF16> rows(static_cast<size_t>(kColumnGroup * matrix.k_padded), BF16{0});
  for (int64_t block = range.begin; block < range.end; block += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - block);
    BF16* const block_data = data + block * matrix.k_padded;
    for (int64_t group = 0; group < width; group += kColumnGroup) {
      for (int64_t c = 0; c < kColumnGroup; ++c) {
        RETURN_IF_ERROR(read_row(block + group + c, rows.data() + c * matrix.k_padded));
      }
      InterleaveGroup(rows.data(), matrix.k_padded, width, block_data + group * kPair);
    }
  }
  return OkStatus();
}

}  // namespace tiercel::model
