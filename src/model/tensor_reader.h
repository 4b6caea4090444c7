// Checked access to single tensors of a checkpoint.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "model/checkpoint.h"

namespace tiercel::model {

// Ok if the checkpoint has the tensor in exactly this shape. Else one line with the tensor, and the
// file where it was looked for, or the shape found and the one expected.
Status CheckTensor(const Checkpoint& checkpoint, const std::string& name,
                   const std::vector<int64_t>& shape);

// What a scale may be: it, its reciprocal and products of two are ordinary numbers. Neither zero nor a
// subnormal number is (1 / s is infinite), nor what is negative, infinite or not a number.
inline bool IsScale(float value) { return value >= 1e-18f && value <= 1e18f; }

// Rows of one matrix as BF16: straight from the mapped file where it holds BF16.
class RowReader {
 public:
  RowReader(const Checkpoint& checkpoint, std::string name, int64_t k)
      : checkpoint_(checkpoint),
        name_(std::move(name)),
        k_(k),
        mapped_(checkpoint.MappedBF16(name_)) {}

  Status Read(int64_t row, BF16* out) const {
    if (mapped_ == nullptr) return checkpoint_.ReadRows(name_, row, row + 1, out);
    std::copy_n(mapped_ + row * k_, k_, out);
    return OkStatus();
  }

 private:
  const Checkpoint& checkpoint_;
  std::string name_;
  int64_t k_;
  const BF16* mapped_;
};

}  // namespace tiercel::model
