#include "model/packing.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/check.h"
#include "base/round_up.h"

namespace tiercel::model {
namespace {

// One column's share of a line: a pair of BF16 values or a quad of INT8 ones.
using Word = uint32_t;

int64_t WordsInRow(const PackedMatrix& matrix) {
  return matrix.k_padded * static_cast<int64_t>(SizeOf(matrix.dtype)) /
         static_cast<int64_t>(sizeof(Word));
}

// Scatters 16 rows [16, words] into their column group of a block of width w: for each word of a
// row, 16 neighboring columns get one each. One group at a time keeps the rows in L1/L2.
void InterleaveGroup(const Word* rows, int64_t words, int64_t width, Word* out) {
  for (int64_t i = 0; i < words; ++i) {
    Word* const line = out + i * width;
    for (int64_t c = 0; c < kColumnGroup; ++c) line[c] = rows[c * words + i];
  }
}

}  // namespace

int64_t PaddedK(int64_t k, DType dtype) {
  switch (dtype) {
    case DType::kBF16: return RoundUp(k, kKBlock);
    case DType::kI8: return RoundUp(k, kKBlockI8);
    case DType::kU8: return RoundUp(k, kBlockInputs);
    default: break;
  }
  CHECK_MSG(false, "no packed form of this type");
  return 0;
}

int64_t PackedBytes(int64_t n, int64_t k, DType dtype) {
  return n * PaddedK(k, dtype) * static_cast<int64_t>(SizeOf(dtype));
}

Status PackColumns(const PackedMatrix& matrix, void* data, int worker,
                   FunctionRef<Status(int64_t column, void* row)> read_row) {
  CHECK_EQ(matrix.n % kColumnGroup, 0);
  CHECK_EQ(matrix.granule % kColumnGroup, 0);
  CHECK_EQ(matrix.k_padded, PaddedK(matrix.k, matrix.dtype));
  const Range range = matrix.ColumnRange(worker);
  const int64_t words = WordsInRow(matrix);
  // The padding behind k stays zero: rows are written only up to k.
  std::vector<Word> rows(static_cast<size_t>(kColumnGroup * words), 0);
  for (int64_t block = range.begin; block < range.end; block += kColumnBlock) {
    const int64_t width = std::min(kColumnBlock, range.end - block);
    Word* const block_data = static_cast<Word*>(data) + block * words;
    for (int64_t group = 0; group < width; group += kColumnGroup) {
      for (int64_t c = 0; c < kColumnGroup; ++c) {
        RETURN_IF_ERROR(read_row(block + group + c, rows.data() + c * words));
      }
      InterleaveGroup(rows.data(), words, width, block_data + group);
    }
  }
  return OkStatus();
}

}  // namespace tiercel::model
