// What the loader does with an opened checkpoint, on all of its tensors.
#pragma once

#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/linear_tensors.h"
#include "checkpoint/tensor_account.h"
#include "fuzz/one_line.h"
#include "model/block_packing.h"

namespace tiercel::fuzz {

inline void ReadAll(const checkpoint::Checkpoint& checkpoint) {
  const auto account = checkpoint::AccountForTensors(checkpoint, checkpoint::Head::kLogits);
  ExpectOneLineError(account);
  if (account) {
    for (const std::string& warning : *account) ExpectOneLine(warning);
  }
  for (const std::string& notice : checkpoint.quantization().notices()) ExpectOneLine(notice);
  for (const std::string& name : checkpoint.Names()) {
    const std::vector<int64_t> shape = checkpoint.Find(name)->shape;
    const int64_t rows = shape.empty() ? 1 : shape[0];
    int64_t elements = 1;
    for (const int64_t dimension : shape) elements *= dimension;  // bounded by the file's size
    std::vector<float> floats(static_cast<size_t>(elements));
    std::vector<BF16> bf16(static_cast<size_t>(elements));
    ExpectOneLine(checkpoint.ReadRows(name, 0, rows, floats.data()).message());
    ExpectOneLine(checkpoint.ReadRows(name, 0, rows, bf16.data()).message());
    ExpectOneLine(checkpoint.ReadRows(name, 0, rows + 1, floats.data()).message());
    if (shape.size() != 2 || !name.ends_with(".weight")) continue;
    const std::string linear = name.substr(0, name.size() - std::string_view(".weight").size());
    const auto tensors =
        checkpoint::ReadLinearTensors(checkpoint, linear, shape[0], shape[1], false, {});
    ExpectOneLineError(tensors);
    if (!tensors || shape[0] == 0) continue;
    checkpoint::WeightReader reader(checkpoint, linear, *tensors, shape[1], {0, shape[1]});
    if (tensors->input.kind == checkpoint::InputKind::kBlocks) {
      checkpoint::BlockRow row;
      const Status status = reader.ReadBlocks(0, &row);
      ExpectOneLine(status.message());
      if (!status.ok()) continue;
      std::vector<uint8_t> strip(static_cast<size_t>(StripBytes(tensors->blocks, shape[1])));
      model::PackStrip(tensors->blocks, {&row, nullptr, &row}, {0, shape[1]}, strip.data());
    } else if (tensors->input.kind == checkpoint::InputKind::kBF16) {
      ExpectOneLine(reader.ReadBF16(0, bf16.data()).message());
    } else {
      std::vector<int8_t> row(static_cast<size_t>(shape[1]));
      ExpectOneLineError(reader.ReadInt8(0, row.data()));
    }
  }
}

}  // namespace tiercel::fuzz
