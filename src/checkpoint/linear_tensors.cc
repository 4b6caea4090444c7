#include "checkpoint/linear_tensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "base/check.h"

namespace tiercel::checkpoint {
namespace {

// The kernels' INT32 sums stay below 2³¹ for fewer inputs than this.
constexpr int64_t kMaxQuantizedInputs = (1 << 16) - 1;

// Checks a tensor of n values, [n] or [n, 1], and gives its element type.
Expected<std::string> CheckValues(const Checkpoint& checkpoint, const std::string& name, int64_t n) {
  const std::optional<TensorInfo> info = checkpoint.Find(name);
  if (info && info->shape == std::vector<int64_t>{n, 1}) return info->type;
  if (info && n == 1 && info->shape.empty()) return info->type;
  RETURN_IF_ERROR(CheckTensor(checkpoint, name, {n}));
  return info->type;
}

template <typename T>
T Load(const uint8_t* bytes, int64_t i) {
  T value;
  std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// Finite numbers of any type.
Expected<std::vector<float>> ReadNumbers(const Checkpoint& checkpoint, const std::string& name,
                                         int64_t n) {
  ASSIGN_OR_RETURN(const std::string type, CheckValues(checkpoint, name, n));
  std::vector<float> values(static_cast<size_t>(n));
  const uint8_t* bytes = checkpoint.MappedBytes(name);
  for (int64_t i = 0; i < n; ++i) {
    if (type == "I8" && bytes != nullptr) {
      values[i] = Load<int8_t>(bytes, i);
    } else if (type == "I32" && bytes != nullptr) {
      values[i] = static_cast<float>(Load<int32_t>(bytes, i));
    } else {
      RETURN_IF_ERROR(checkpoint.ReadRows(name, 0, n, values.data()));
      break;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(values[i])) {
      return Unexpected(InvalidArgument("{}: value {} is {}, expected a finite number", name, i,
                                        values[i]));
    }
  }
  return values;
}

// Scales of output columns. A column of zeros may have the scale 0; that all have it says that the file
// was not filled.
Status CheckScales(const std::string& name, const std::vector<float>& scales) {
  for (size_t i = 0; i < scales.size(); ++i) {
    if (IsScale(scales[i]) || scales[i] == 0) continue;
    return InvalidArgument("{}: value {} is {}, expected a scale from 1e-18 to 1e+18, or 0", name, i,
                           scales[i]);
  }
  if (std::any_of(scales.begin(), scales.end(), [](float scale) { return scale != 0; })) {
    return OkStatus();
  }
  return InvalidArgument("{}: every scale is 0; the file is damaged, download it again", name);
}

Expected<std::vector<float>> ReadScales(const Checkpoint& checkpoint, const std::string& name,
                                        int64_t n) {
  ASSIGN_OR_RETURN(std::vector<float> scales, ReadNumbers(checkpoint, name, n));
  RETURN_IF_ERROR(CheckScales(name, scales));
  return scales;
}

// deq_scale: floats, or for models of FP16 (and old mixed ones) 64-bit integers whose low half is a
// float's bits.
Expected<std::vector<float>> ReadDeqScale(const Checkpoint& checkpoint, const std::string& name,
                                          int64_t n) {
  ASSIGN_OR_RETURN(const std::string type, CheckValues(checkpoint, name, n));
  const uint8_t* bytes = checkpoint.MappedBytes(name);
  if (type != "I64" || bytes == nullptr) return ReadScales(checkpoint, name, n);
  std::vector<float> scales(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    scales[i] = std::bit_cast<float>(static_cast<uint32_t>(Load<uint64_t>(bytes, i)));
  }
  RETURN_IF_ERROR(CheckScales(name, scales));
  return scales;
}

Expected<std::vector<int32_t>> ReadInt32(const Checkpoint& checkpoint, const std::string& name,
                                         int64_t n) {
  ASSIGN_OR_RETURN(const std::string type, CheckValues(checkpoint, name, n));
  const uint8_t* bytes = checkpoint.MappedBytes(name);
  if (type != "I32" || bytes == nullptr) {
    return Unexpected(InvalidArgument("{}: found dtype {}, expected I32", name, type));
  }
  std::vector<int32_t> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[i] = Load<int32_t>(bytes, i);
  return values;
}

// The one scale and offset of a static input. `offset_name` may be absent where `optional`.
Expected<InputQuantization> ReadInput(const Checkpoint& checkpoint, const std::string& scale_name,
                                      const std::string& offset_name, bool optional) {
  InputQuantization input;
  input.kind = InputKind::kStatic;
  ASSIGN_OR_RETURN(const std::vector<float> scale, ReadNumbers(checkpoint, scale_name, 1));
  if (!IsScale(scale[0])) {
    return Unexpected(InvalidArgument("{}: found {}, expected a scale from 1e-18 to 1e+18", scale_name,
                                      scale[0]));
  }
  input.scale = scale[0];
  if (optional && !checkpoint.Find(offset_name)) return input;
  ASSIGN_OR_RETURN(const std::vector<float> offset, ReadNumbers(checkpoint, offset_name, 1));
  if (!(offset[0] >= -128 && offset[0] <= 127) || offset[0] != std::round(offset[0])) {
    return Unexpected(InvalidArgument("{}: found {}, expected an integer from -128 to 127",
                                      offset_name, offset[0]));
  }
  input.offset = offset[0];
  return input;
}

constexpr const char* kWeightOffsets[] = {".weight_offset", ".weight_zero_point"};

// The zeros that symmetric weights come with, under either format's name.
Status CheckNoOffset(const Checkpoint& checkpoint, const std::string& name, int64_t n) {
  for (const char* end : kWeightOffsets) {
    if (!checkpoint.Find(name + end)) continue;
    ASSIGN_OR_RETURN(const std::vector<float> offset, ReadNumbers(checkpoint, name + end, n));
    for (const float value : offset) {
      if (value == 0) continue;
      return Unimplemented("{}{}: found {}, expected 0: asymmetric weights of W8A8 are not supported",
                           name, end, value);
    }
  }
  return OkStatus();
}

Status ReadStatic(const Checkpoint& checkpoint, const std::string& name, int64_t n,
                  LinearTensors* t) {
  ASSIGN_OR_RETURN(t->input, ReadInput(checkpoint, name + ".input_scale", name + ".input_offset",
                                       /*optional=*/false));
  ASSIGN_OR_RETURN(t->scale, ReadDeqScale(checkpoint, name + ".deq_scale", n));
  ASSIGN_OR_RETURN(t->acc_bias, ReadInt32(checkpoint, name + ".quant_bias", n));
  return CheckNoOffset(checkpoint, name, n);
}

// deq_scale and quant_bias made here: they are not in the files of this format.
Status ReadStaticCompressed(const Checkpoint& checkpoint, const std::string& name, int64_t n,
                            LinearTensors* t) {
  ASSIGN_OR_RETURN(t->input, ReadInput(checkpoint, name + ".input_scale",
                                       name + ".input_zero_point", /*optional=*/true));
  ASSIGN_OR_RETURN(t->scale, ReadScales(checkpoint, name + ".weight_scale", n));
  for (float& scale : t->scale) scale *= t->input.scale;
  t->weight_sum_factor = 128 + static_cast<int32_t>(t->input.offset);
  return CheckNoOffset(checkpoint, name, n);
}

Status ReadDynamic(const Checkpoint& checkpoint, const std::string& name, int64_t n,
                   LinearTensors* t) {
  t->input.kind = InputKind::kPerToken;
  ASSIGN_OR_RETURN(t->scale, ReadScales(checkpoint, name + ".weight_scale", n));
  return CheckNoOffset(checkpoint, name, n);
}

Status ReadWeightOnly(const Checkpoint& checkpoint, const std::string& name, int64_t n,
                      LinearTensors* t) {
  ASSIGN_OR_RETURN(t->scale, ReadScales(checkpoint, name + ".weight_scale", n));
  for (const char* offset : kWeightOffsets) {
    if (!checkpoint.Find(name + offset)) continue;
    ASSIGN_OR_RETURN(t->offset, ReadNumbers(checkpoint, name + offset, n));
  }
  return OkStatus();
}

}  // namespace

Expected<LinearTensors> ReadLinearTensors(const Checkpoint& checkpoint, const std::string& name,
                                          int64_t n, int64_t k, bool expects_bias,
                                          const LinearOptions& options) {
  const Quantization& quantization = checkpoint.quantization();
  LinearTensors t;
  // First: weights of a type that is not offered may have another shape because of it.
  if (const std::optional<TensorInfo> weight = checkpoint.Find(name + ".weight")) {
    ASSIGN_OR_RETURN(t.scheme, quantization.SchemeOf(name, weight->type));
  }
  RETURN_IF_ERROR(CheckTensor(checkpoint, name + ".weight", {n, k}));
  if (t.scheme == LinearScheme::kMix) {
    t.scheme = options.mix_static ? LinearScheme::kStatic : LinearScheme::kDynamic;
  }
  if (IsInt4(t.scheme)) t.scheme = LinearScheme::kFloat;  // as GPTQ's: the checkpoint shows a block format
  const bool ascend = quantization.method() == QuantMethod::kAscend;
  switch (t.scheme) {
    case LinearScheme::kFloat:
    case LinearScheme::kInt4:
    case LinearScheme::kInt4WeightOnly:
      if (options.quantize == QuantizeTo::kInt8) {
        t.input.kind = InputKind::kPerToken;
        break;
      }
      if (options.keep_blocks) t.blocks = checkpoint.BlockFormatOf(name + ".weight");
      t.stored_blocks = t.blocks != BlockFormat::kNone;
      if (!t.stored_blocks && options.quantize == QuantizeTo::kInt4) t.blocks = BlockFormat::kI4;
      if (t.blocks == BlockFormat::kF8) {
        t.input.kind = InputKind::kBF16ForFp8;
      } else if (t.blocks != BlockFormat::kNone) {
        t.input.kind = InputKind::kBlocks;
      }
      if (t.stored_blocks) {
        const std::span<const int32_t> order = checkpoint.BlockOrderOf(name + ".weight");
        t.input.order.assign(order.begin(), order.end());
      }
      break;
    case LinearScheme::kStatic:
      RETURN_IF_ERROR(ascend ? ReadStatic(checkpoint, name, n, &t)
                             : ReadStaticCompressed(checkpoint, name, n, &t));
      break;
    case LinearScheme::kMix:
    case LinearScheme::kDynamic:
      RETURN_IF_ERROR(ReadDynamic(checkpoint, name, n, &t));
      break;
    case LinearScheme::kWeightOnly:
      RETURN_IF_ERROR(ReadWeightOnly(checkpoint, name, n, &t));
      break;
  }
  if (!IsBF16(t.input.kind) && k > kMaxQuantizedInputs) {
    return Unexpected(Unimplemented("{}.weight: found {} inputs, expected at most {} for INT8", name,
                                    k, kMaxQuantizedInputs));
  }
  const bool folded = ascend && t.scheme == LinearScheme::kStatic;
  const bool present = ascend && checkpoint.Find(name + ".bias").has_value();
  if (!folded && (expects_bias || present)) {
    ASSIGN_OR_RETURN(t.bias, ReadNumbers(checkpoint, name + ".bias", n));
  }
  return t;
}

// Loops without calls or branches, so that they vectorize.
float QuantizeRow(const float* w, int64_t k, int8_t* q) {
  // The bits of positive floats sort as they do, infinities and NaN last.
  int32_t largest = 0;
  for (int64_t i = 0; i < k; ++i) {
    largest = std::max(largest, std::bit_cast<int32_t>(w[i]) & 0x7fffffff);
  }
  const float scale = std::bit_cast<float>(largest) / 127.0f;
  // A row of zeros (or of numbers so small that they are), and one that is not finite.
  if (!(scale >= std::numeric_limits<float>::min() && std::isfinite(scale))) {
    std::fill_n(q, k, int8_t{0});
    return std::isfinite(scale) ? 1 : scale;
  }
  // Adding 1.5 · 2²³ leaves no bits for a fraction: rounds to nearest, ties to even.
  constexpr float kRound = 12582912.0f;
  for (int64_t i = 0; i < k; ++i) {
    const float rounded = (w[i] / scale + kRound) - kRound;
    q[i] = static_cast<int8_t>(static_cast<int32_t>(rounded));  // |w / scale| ≤ 127
  }
  return scale;
}

WeightReader::WeightReader(const Checkpoint& checkpoint, const std::string& name,
                           const LinearTensors& tensors, int64_t k, Range slice)
    : checkpoint_(checkpoint),
      name_(name + ".weight"),
      tensors_(tensors),
      k_(k),
      slice_(slice),
      rows_(checkpoint, name_, k, slice) {
  if (tensors.scheme != LinearScheme::kFloat) {
    int8_ = reinterpret_cast<const int8_t*>(checkpoint.MappedBytes(name_));
  } else if (!IsBF16(tensors.input.kind)) {
    row_.resize(static_cast<size_t>(k));
    int8_row_.resize(static_cast<size_t>(k));
  }
}

Status WeightReader::ReadBF16(int64_t row, BF16* out) {
  if (int8_ == nullptr) return rows_.Read(row, out);
  const float scale = tensors_.scale[row];
  const float offset = tensors_.offset.empty() ? 0 : tensors_.offset[row];
  const int8_t* values = int8_ + row * k_ + slice_.begin;
  for (int64_t i = 0; i < slice_.size(); ++i) {
    out[i] = ToBF16(scale * (static_cast<float>(values[i]) - offset));
  }
  return OkStatus();
}

Status WeightReader::ReadBlocks(int64_t row, BlockRow* out) {
  if (tensors_.stored_blocks) return checkpoint_.ReadBlocks(name_, row, out);
  CHECK(tensors_.blocks == BlockFormat::kI4);
  RETURN_IF_ERROR(checkpoint_.ReadRows(name_, row, row + 1, row_.data()));
  QuantizeToInt4(row_.data(), k_, out);
  for (const uint16_t scale : out->scale) {
    if (!std::isfinite(HalfToFloat(scale))) {
      return InvalidArgument("{}: row {} has values that do not fit into INT4 with binary16 scales", name_, row);
    }
  }
  return OkStatus();
}

Expected<WeightReader::Int8Row> WeightReader::ReadInt8(int64_t row, int8_t* out) {
  Int8Row result;
  const int8_t* values = nullptr;
  if (int8_ != nullptr) {
    values = int8_ + row * k_;
  } else {
    RETURN_IF_ERROR(checkpoint_.ReadRows(name_, row, row + 1, row_.data()));
    result.scale = QuantizeRow(row_.data(), k_, int8_row_.data());
    if (!std::isfinite(result.scale)) {
      return Unexpected(InvalidArgument("{}: row {} has values that are not finite", name_, row));
    }
    values = int8_row_.data();
  }
  std::copy(values + slice_.begin, values + slice_.end, out);
  for (int64_t i = 0; i < slice_.size(); ++i) result.sum += out[i];
  return result;
}

}  // namespace tiercel::checkpoint
