// Checked access to single tensors of a checkpoint.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "tensor/packed_matrix.h"

namespace tiercel::checkpoint {

// What is wrong with a tensor, with the folder or file of the checkpoint before it where that is not named.
Status WithPath(const Checkpoint& checkpoint, Status status);

// Ok if the checkpoint has the tensor in exactly this shape. Else one line with the tensor, and the
// file where it was looked for, or the shape found and the one expected.
Status CheckTensor(const Checkpoint& checkpoint, const std::string& name,
                   const std::vector<int64_t>& shape);

// What a scale may be: it, its reciprocal and products of two are ordinary numbers. Neither zero nor a
// subnormal number is (1 / s is infinite), nor what is negative, infinite or not a number.
inline bool IsScale(float value) { return value >= 1e-18f && value <= 1e18f; }

// Rows of one matrix of k columns as BF16, of each the columns of `slice`: straight from the mapped file
// where it holds BF16.
class RowReader {
 public:
  RowReader(const Checkpoint& checkpoint, std::string name, int64_t k, Range slice)
      : checkpoint_(checkpoint),
        name_(std::move(name)),
        k_(k),
        slice_(slice),
        mapped_(checkpoint.MappedBF16(name_)) {
    if (mapped_ == nullptr && slice.size() < k) row_.resize(static_cast<size_t>(k));
  }

  Status Read(int64_t row, BF16* out) {
    if (mapped_ == nullptr && row_.empty()) return checkpoint_.ReadRows(name_, row, row + 1, out);
    const BF16* values = nullptr;
    if (mapped_ != nullptr) {
      values = mapped_ + row * k_;
    } else {
      RETURN_IF_ERROR(checkpoint_.ReadRows(name_, row, row + 1, row_.data()));
      values = row_.data();
    }
    std::copy(values + slice_.begin, values + slice_.end, out);
    return OkStatus();
  }

 private:
  const Checkpoint& checkpoint_;
  std::string name_;
  int64_t k_;
  Range slice_;
  const BF16* mapped_;
  std::vector<BF16> row_;  // a whole one, where it must be read to be cut
};

}  // namespace tiercel::checkpoint
