#include <algorithm>
#include <cstring>

#include "kernels/reference/block_weights.h"
#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {
namespace {

// Row `column` of the checkpoint's matrix, gathered from its packed form: k in pairs, which lie
// one block width apart.
void GatherPackedRow(const PackedMatrix& matrix, int64_t column, BF16* out) {
  int worker = 0;
  while (column >= matrix.ColumnRange(worker).end) ++worker;
  const Range range = matrix.ColumnRange(worker);
  const int64_t block = (column - range.begin) / kColumnBlock * kColumnBlock;
  const int64_t width = std::min(kColumnBlock, range.size() - block);
  const BF16* pair = static_cast<const BF16*>(matrix.data) +
                     (range.begin + block) * matrix.k_padded +
                     (column - range.begin - block) * kPair;
  for (int64_t k = 0; k < matrix.k; k += kPair, pair += width * kPair) {
    out[k] = pair[0];
    if (k + 1 < matrix.k) out[k + 1] = pair[1];
  }
}

// The same of a block format, dequantized.
void ReadStripColumn(const PackedMatrix& matrix, int64_t column, BF16* out) {
  const BlockStrip& strip = matrix.strips[column / kStripColumns];
  const StripReader reader(strip.format, static_cast<const uint8_t*>(matrix.data) + strip.offset);
  const int64_t c = column % kStripColumns, group = reader.info().group;
  for (int64_t begin = 0; begin < matrix.k; begin += group) {
    const float scale = reader.Scale(begin / group, c), min = reader.Min(begin / group, c);
    for (int64_t k = begin; k < std::min(begin + group, matrix.k); ++k) {
      out[k] = ToBF16(scale * static_cast<float>(reader.Code(k, c) - reader.info().zero) - min);
    }
  }
}

}  // namespace

void Embed(const EmbedArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    BF16* out = args.out + r * args.hidden;
    const int64_t id = args.token_ids[r];
    if (args.table != nullptr) {
      std::memcpy(out, args.table + id * args.hidden, args.hidden * sizeof(BF16));
    } else {
      const PackedMatrix* part = args.packed;
      int64_t column = id;
      for (; column >= part->n; ++part) column -= part->n;
      (part->strips != nullptr ? ReadStripColumn : GatherPackedRow)(*part, column, out);
    }
  }
}

}  // namespace tiercel::kernels::reference
