// LinearTensors: the small tensors of one linear of a checkpoint, whatever its format, in the form in
// which the kernels use them; and readers of its weight's rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quantization.h"
#include "checkpoint/tensor_reader.h"
#include "tensor/packed_matrix.h"

namespace tiercel::checkpoint {

// How a linear's input becomes what its kernel multiplies (kernels/ops.h, QuantizedRows).
enum class InputKind : uint8_t {
  kBF16,
  kBF16ForFp8,  // the same, for weights of FP8
  kStatic,
  kPerToken,
  kBlocks,
};

constexpr bool IsBF16(InputKind kind) { return kind == InputKind::kBF16 || kind == InputKind::kBF16ForFp8; }

struct InputQuantization {
  InputKind kind = InputKind::kBF16;
  float scale = 1;  // kStatic
  float offset = 0;
  std::vector<int32_t> order = {};  // kBlocks: input order[i] comes i-th (Checkpoint::BlockOrderOf); empty: their own order
  friend bool operator==(const InputQuantization&, const InputQuantization&) = default;
};

// y = (q·Wᵀ + acc_bias + quantized zero point's share) · [row scale] · scale + bias, with n columns.
struct LinearTensors {
  LinearScheme scheme = LinearScheme::kFloat;
  BlockFormat blocks = BlockFormat::kNone;  // of inputs kBlocks and kBF16ForFp8
  bool stored_blocks = false;               // the checkpoint has them; else they are made as the rows are read
  InputQuantization input;
  std::vector<float> scale;       // [n] of INT8 inputs; of kWeightOnly: the weights' own
  std::vector<float> offset;      // [n] of kWeightOnly, or empty: W = scale · (q − offset)
  std::vector<int32_t> acc_bias;  // [n] of static inputs, or empty
  std::vector<float> bias;        // [n], or empty
  // The sum of a column's weights times this much is still to be taken from acc_bias: 128 for the
  // kernels' unsigned inputs, and a zero point that the checkpoint has not folded in.
  int32_t weight_sum_factor = 128;
};

// What is made of float weights as they are loaded.
enum class QuantizeTo : uint8_t {
  kNone,
  kInt8,  // a scale for each row, inputs per token
  kInt4,  // a scale for each 128 of a row (BlockFormat::kI4), inputs in blocks
};

struct LinearOptions {
  QuantizeTo quantize = QuantizeTo::kNone;
  bool keep_blocks = true;  // weights of a block format stay in it; else they become BF16
  bool mix_static = false;  // W8A8_MIX: the static reading
};

// Checks and reads what belongs to linear `name` of n outputs and k inputs, the weight's shape
// included. `expects_bias`: the configuration says so; a static linear of the Ascend format has it
// inside quant_bias, every other one then must have it, and linears of that format may have one
// anyway.
Expected<LinearTensors> ReadLinearTensors(const Checkpoint& checkpoint, const std::string& name,
                                          int64_t n, int64_t k, bool expects_bias,
                                          const LinearOptions& options);

// Symmetric, one scale: q = round(w / s) with s = max|w| / 127, ties to even, returned; 1 for a row of
// zeros. What the Ascend quantizer does to a row. `w` must be finite: else the scale returned is not.
float QuantizeRow(const float* w, int64_t k, int8_t* q);

// Rows of one linear's weight as the packer wants them: of their k values those of `slice`. Each worker
// has its own.
class WeightReader {
 public:
  WeightReader(const Checkpoint& checkpoint, const std::string& name, const LinearTensors& tensors,
               int64_t k, Range slice);

  // kBF16 inputs: row `row` in BF16, dequantized where the checkpoint has it in INT8.
  Status ReadBF16(int64_t row, BF16* out);
  // INT8: the slice, its sum, and the whole row's scale where it was quantized here (else 0).
  struct Int8Row {
    int32_t sum = 0;
    float scale = 0;
  };
  Expected<Int8Row> ReadInt8(int64_t row, int8_t* out);
  // kBlocks, kBF16ForFp8: a whole row, of which the packer takes the slice.
  Status ReadBlocks(int64_t row, BlockRow* out);

 private:
  const Checkpoint& checkpoint_;
  const std::string name_;
  const LinearTensors& tensors_;
  const int64_t k_;
  const Range slice_;
  RowReader rows_;
  const int8_t* int8_ = nullptr;  // the weight in the file, where it is INT8
  std::vector<float> row_;        // a whole one
  std::vector<int8_t> int8_row_;
};

}  // namespace tiercel::checkpoint
