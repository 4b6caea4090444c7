// A linear as a checkpoint has it, the matrices that are made of it, and their packing: rows of the checkpoint into
// tensor/packed_matrix.h's layout, in the forward pass's order of columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config.h"
#include "checkpoint/linear_tensors.h"
#include "model/column_order.h"
#include "model/weights.h"

namespace tiercel::model {

// Whether the weights lie in strips of block formats.
constexpr bool HasStrips(checkpoint::InputKind kind) {
  return kind == checkpoint::InputKind::kBlocks || kind == checkpoint::InputKind::kBF16ForFp8;
}

// One shard of a fused linear: which tensors of the checkpoint, which of their rows, and what was read
// of them.
struct Shard {
  std::string name;  // without ".weight"
  Range rows;        // the rank's
  checkpoint::LinearTensors tensors;
};

// A linear as the checkpoint has it.
struct FusedLinear {
  ColumnOrder order = ColumnOrder::kPlain;
  std::vector<Shard> shards;
  int64_t k = 0;
  Range slice;  // of k: the rank's
  // Where ranks have slices, their products are added: what belongs to the sum is the first rank's.
  bool has_bias = true;
};

// One matrix to pack: those of the shards whose inputs are quantized in one way.
struct MatrixJob {
  Linear* linear = nullptr;  // null: the BF16 embedding table, copied row by row
  const FusedLinear* source = nullptr;
  checkpoint::InputQuantization input;
  int64_t offset = 0;  // bytes in the buffer
  int64_t bytes = 0;

  bool Has(const Shard& shard) const { return shard.tensors.input == input; }
};

// Worker `worker`'s part, of so many, into the matrix's place `data`: it touches first what it will read. `part` is the rank's
// config. Of INT8 weights their sums and scales go into the linear.
Status PackMatrix(const checkpoint::Checkpoint& checkpoint, const checkpoint::ModelConfig& part, const MatrixJob& job,
                  std::byte* data, int worker, int workers);

}  // namespace tiercel::model
