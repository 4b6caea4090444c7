#include "checkpoint/ascend_int4_checkpoint.h"

#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/convert.h"
#include "checkpoint/matrix_view.h"
#include "checkpoint/tensor_account.h"
#include "checkpoint/tensor_reader.h"
#include "tensor/shape.h"

namespace tiercel::checkpoint {
namespace {

constexpr int kZero = 8;  // what the kernels' unsigned codes have for 0

// A stored tensor of floats or integers.
struct Numbers {
  const uint8_t* bytes = nullptr;  // null: there is none
  DType type = DType::kF32;

  float At(int64_t i) const {
    const uint8_t* const at = bytes + i * static_cast<int64_t>(SizeOf(type));
    switch (type) {
      case DType::kI8: return static_cast<float>(static_cast<int8_t>(*at));
      case DType::kI32: return static_cast<float>(Load<int32_t>(at));
      case DType::kI64: return static_cast<float>(Load<int64_t>(at));
      default: break;
    }
    float value;
    Convert(at, type, 1, &value);
    return value;
  }

 private:
  template <typename T>
  static T Load(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
  }
};

std::optional<DType> NumberType(const std::string& name) {
  for (const DType type : {DType::kI8, DType::kI32, DType::kI64}) {
    if (name == Name(type)) return type;
  }
  return ConvertibleType(name);
}

enum class Packing : uint8_t { kNone, kRows, kInputs };  // which codes share a byte

struct AscendInt4Matrix {
  int64_t n = 0, k = 0, groups = 1;
  Packing packing = Packing::kNone;
  const uint8_t* codes = nullptr;
  std::vector<float> row_scale;  // [n] where scales have two levels, or empty
  Numbers scales, offsets;       // [n][groups]: the only level, or the second
  bool symmetric = true;         // offsets are 0

  int64_t group() const { return k / groups; }
};

class AscendInt4Checkpoint final : public MatrixView<AscendInt4Matrix> {
 public:
  explicit AscendInt4Checkpoint(std::unique_ptr<Checkpoint> stored) : MatrixView(std::move(stored), "I4") {}

  Status AddLinear(const std::string& stem, int64_t n, int64_t k, LinearScheme scheme);

 private:
  BlockFormat FormatOf(const AscendInt4Matrix& m) const override { return GroupedInt4(m.group(), m.symmetric); }
  Status ReadRow(const std::string& name, const AscendInt4Matrix& m, int64_t row, float* out) const override;
  Status ReadBlockRow(const std::string& name, const AscendInt4Matrix& m, int64_t row, BlockRow* out) const override;

  std::string Found(const std::string& name) const {
    const std::optional<TensorInfo> info = stored().Find(name);
    return info ? fmt::format("{} [{}]", info->type, fmt::join(info->shape, ", ")) : "nothing";
  }
  // How many numbers a tensor has; 0: it is not there.
  int64_t Count(const std::string& name) const;
  Status FindPacking(const std::string& name, bool by_inputs, AscendInt4Matrix* m) const;
  // The tensor `name` of rows · columns numbers, [rows, columns] or in one column.
  Expected<Numbers> FindNumbers(const std::string& name, int64_t rows, int64_t columns, bool integers) const;
  Status FindGroups(const std::string& scales, AscendInt4Matrix* m) const;
  Status ReadRowScales(const std::string& stem, AscendInt4Matrix* m) const;
  Status FindOffsets(const std::string& name, AscendInt4Matrix* m) const;

  // Of one row: codes from 0 to 15, of which kZero is 0; a group's scale and zero point.
  static Status ReadCodes(const std::string& name, const AscendInt4Matrix& m, int64_t row, uint8_t* out);
  static Expected<float> Scale(const std::string& name, const AscendInt4Matrix& m, int64_t row, int64_t group);
  static Expected<int> Zero(const std::string& name, const AscendInt4Matrix& m, int64_t row, int64_t group);
};

int64_t AscendInt4Checkpoint::Count(const std::string& name) const {
  const std::optional<TensorInfo> info = stored().Find(name);
  return info ? ElementsOf(info->shape) : 0;
}

Status AscendInt4Checkpoint::FindPacking(const std::string& name, bool by_inputs, AscendInt4Matrix* m) const {
  using Shape = std::vector<int64_t>;
  const Shape shape = stored().Find(name)->shape;
  if (shape == Shape{m->n, m->k}) {
    m->packing = Packing::kNone;
  } else if (m->n % 2 == 0 && shape == Shape{m->n / 2, m->k}) {
    m->packing = Packing::kRows;
  } else if (by_inputs && shape == Shape{m->n, m->k / 2}) {
    m->packing = Packing::kInputs;
  } else {
    std::string expected = fmt::format("I8 [{}, {}]", m->n, m->k);
    if (m->n % 2 == 0) expected += fmt::format(", or [{}, {}] with two codes in a byte", m->n / 2, m->k);
    return InvalidArgument("{}: found {}, expected {}", name, Found(name), expected);
  }
  m->codes = stored().MappedBytes(name);
  return m->codes != nullptr ? OkStatus() : InvalidArgument("{}: its data cannot be read in place", name);
}

Expected<Numbers> AscendInt4Checkpoint::FindNumbers(const std::string& name, int64_t rows, int64_t columns,
                                                    bool integers) const {
  using Shape = std::vector<int64_t>;
  const std::optional<TensorInfo> info = stored().Find(name);
  const bool fits = info && (info->shape == Shape{rows, columns} || info->shape == Shape{rows * columns, 1} ||
                             info->shape == Shape{rows * columns});
  const std::optional<DType> type = !info ? std::nullopt : integers ? NumberType(info->type) : ConvertibleType(info->type);
  const uint8_t* const bytes = fits ? stored().MappedBytes(name) : nullptr;
  if (bytes != nullptr && type) return Numbers{bytes, *type};
  return Unexpected(InvalidArgument("{}: found {}, expected {} [{}, {}]", name, Found(name),
                                    integers ? "numbers" : "floats", rows, columns));
}

// The description says how large groups are, or else the number of scales.
Status AscendInt4Checkpoint::FindGroups(const std::string& scales, AscendInt4Matrix* m) const {
  const int64_t described = quantization().group_size(), count = Count(scales);
  m->groups = described > 0 ? m->k / described : count / m->n;
  const bool whole = described > 0 ? m->k % described == 0 : count % m->n == 0;
  if (whole && m->groups > 0 && m->k % m->groups == 0 && m->group() % 32 == 0) return OkStatus();
  return Unimplemented("{}: found {}, expected scales of {} outputs for whole groups{} of {} inputs, each a multiple of 32",
                       scales, Found(scales), m->n, described > 0 ? fmt::format(" of {}", described) : "", m->k);
}

Status AscendInt4Checkpoint::ReadRowScales(const std::string& stem, AscendInt4Matrix* m) const {
  ASSIGN_OR_RETURN(const Numbers scales, FindNumbers(stem + ".weight_scale", m->n, 1, /*integers=*/false));
  for (int64_t i = 0; i < m->n; ++i) {
    const float scale = scales.At(i);
    if (!IsScale(scale) && scale != 0) {
      return InvalidArgument("{}.weight_scale: value {} is {}, expected a scale from 1e-18 to 1e+18, or 0", stem, i, scale);
    }
    m->row_scale.push_back(scale);
  }
  const std::string offset_name = stem + ".weight_offset";
  if (!stored().Find(offset_name)) return OkStatus();
  ASSIGN_OR_RETURN(const Numbers offsets, FindNumbers(offset_name, m->n, 1, /*integers=*/true));
  for (int64_t i = 0; i < m->n; ++i) {
    if (offsets.At(i) != 0) return Unimplemented("{}: value {} is {}, expected 0", offset_name, i, offsets.At(i));
  }
  return OkStatus();
}

// Those of a second level are not looked at yet: they are 0, and many.
Status AscendInt4Checkpoint::FindOffsets(const std::string& name, AscendInt4Matrix* m) const {
  if (!stored().Find(name)) return OkStatus();
  ASSIGN_OR_RETURN(m->offsets, FindNumbers(name, m->n, m->groups, /*integers=*/true));
  if (!m->row_scale.empty()) return OkStatus();
  for (int64_t i = 0; i < m->n * m->groups && m->symmetric; ++i) m->symmetric = m->offsets.At(i) == 0;
  return OkStatus();
}

Status AscendInt4Checkpoint::AddLinear(const std::string& stem, int64_t n, int64_t k, LinearScheme scheme) {
  const std::string name = stem + ".weight";
  AscendInt4Matrix m;
  m.n = n;
  m.k = k;
  RETURN_IF_ERROR(FindPacking(name, scheme == LinearScheme::kInt4WeightOnly, &m));
  // One scale for each row where the description speaks of groups: the second level is missing.
  const int64_t described = quantization().group_size();
  const bool incomplete = described > 0 && described < k && Count(stem + ".weight_scale") == n;
  const bool second = incomplete || stored().Find(stem + ".weight_scale_second") || stored().Find(stem + ".weight_offset_second");
  const std::string level = second ? "_second" : "", scales = stem + ".weight_scale" + level;
  if (described > 0 || Count(scales) > 0) RETURN_IF_ERROR(FindGroups(scales, &m));
  ASSIGN_OR_RETURN(m.scales, FindNumbers(scales, n, m.groups, /*integers=*/false));
  if (second) RETURN_IF_ERROR(ReadRowScales(stem, &m));
  RETURN_IF_ERROR(FindOffsets(stem + ".weight_offset" + level, &m));
  std::vector<std::string> parts;
  for (const char* end : {".weight_scale", ".weight_offset", ".weight_scale_second", ".weight_offset_second", ".scale_bias"}) {
    parts.push_back(stem + end);
  }
  Add(name, std::move(m), name, parts);
  return OkStatus();
}

Status AscendInt4Checkpoint::ReadCodes(const std::string& name, const AscendInt4Matrix& m, int64_t row, uint8_t* out) {
  const auto nibble = [](uint8_t byte, int64_t high) {
    return static_cast<uint8_t>(((high != 0 ? byte >> 4 : byte) & 15) ^ kZero);
  };
  switch (m.packing) {
    case Packing::kNone:
      for (int64_t i = 0; i < m.k; ++i) {
        const int code = static_cast<int8_t>(m.codes[row * m.k + i]);
        if (code < -8 || code > 7) {
          return InvalidArgument("{}: row {}: found the code {} at input {}, expected -8 to 7", name, row, code, i);
        }
        out[i] = static_cast<uint8_t>(code + kZero);
      }
      break;
    case Packing::kRows:
      for (int64_t i = 0; i < m.k; ++i) out[i] = nibble(m.codes[row / 2 * m.k + i], row % 2);
      break;
    case Packing::kInputs:
      for (int64_t i = 0; i < m.k; ++i) out[i] = nibble(m.codes[(row * m.k + i) / 2], i % 2);
      break;
  }
  return OkStatus();
}

Expected<float> AscendInt4Checkpoint::Scale(const std::string& name, const AscendInt4Matrix& m, int64_t row, int64_t group) {
  const float scale = m.scales.At(row * m.groups + group) * (m.row_scale.empty() ? 1 : m.row_scale[static_cast<size_t>(row)]);
  if (std::isfinite(HalfToFloat(ToHalf(scale)))) return scale;
  return Unexpected(InvalidArgument("{}: row {}: found the scale {}, expected a finite binary16 number", name, row, scale));
}

Expected<int> AscendInt4Checkpoint::Zero(const std::string& name, const AscendInt4Matrix& m, int64_t row, int64_t group) {
  const float offset = m.offsets.bytes == nullptr ? 0 : m.offsets.At(row * m.groups + group);
  if (m.symmetric ? offset == 0 : offset >= -8 && offset <= 7 && offset == std::round(offset)) {
    return kZero + static_cast<int>(offset);
  }
  return Unexpected(Unimplemented("{}: row {}: found the offset {}, expected {}", name, row, offset,
                                  m.row_scale.empty() ? "an integer from -8 to 7" : "0"));
}

Status AscendInt4Checkpoint::ReadRow(const std::string& name, const AscendInt4Matrix& m, int64_t row, float* out) const {
  std::vector<uint8_t> codes(static_cast<size_t>(m.k));
  RETURN_IF_ERROR(ReadCodes(name, m, row, codes.data()));
  for (int64_t i = 0; i < m.k; i += m.group()) {
    ASSIGN_OR_RETURN(const float scale, Scale(name, m, row, i / m.group()));
    ASSIGN_OR_RETURN(const int zero, Zero(name, m, row, i / m.group()));
    for (int64_t j = i; j < i + m.group(); ++j) out[j] = scale * static_cast<float>(codes[static_cast<size_t>(j)] - zero);
  }
  return OkStatus();
}

Status AscendInt4Checkpoint::ReadBlockRow(const std::string& name, const AscendInt4Matrix& m, int64_t row,
                                          BlockRow* out) const {
  const BlockFormatInfo info = InfoOf(FormatOf(m));
  out->Resize(info, m.k);
  RETURN_IF_ERROR(ReadCodes(name, m, row, out->codes.data()));
  for (int64_t g = 0; g < m.k / info.group; ++g) {
    const int64_t group = g * info.group / m.group();
    ASSIGN_OR_RETURN(const float scale, Scale(name, m, row, group));
    ASSIGN_OR_RETURN(const int zero, Zero(name, m, row, group));
    out->scale[static_cast<size_t>(g)] = ToHalf(scale);
    if (!m.symmetric) out->sub_min[static_cast<size_t>(g)] = static_cast<uint8_t>(zero);
  }
  return OkStatus();
}

}  // namespace

Expected<std::unique_ptr<Checkpoint>> OpenAscendInt4(std::unique_ptr<Checkpoint> stored) {
  struct Linear {
    std::string stem;
    std::vector<int64_t> shape;
    LinearScheme scheme;
  };
  std::vector<Linear> linears;
  for (const PlannedShape& tensor : TensorsOf(stored->config(), Head::kLogits)) {
    constexpr std::string_view kEnd = ".weight";
    if (!tensor.name.ends_with(kEnd) || tensor.shape.size() != 2) continue;
    const std::string stem = tensor.name.substr(0, tensor.name.size() - kEnd.size());
    const std::optional<LinearScheme> scheme = stored->quantization().DescribedScheme(stem);
    const std::optional<TensorInfo> info = stored->Find(tensor.name);
    // What is missing, or of another type, the loader refuses.
    if (scheme && IsInt4(*scheme) && info && info->type == "I8") linears.push_back({stem, tensor.shape, *scheme});
  }
  if (linears.empty()) return stored;
  auto checkpoint = std::make_unique<AscendInt4Checkpoint>(std::move(stored));
  for (const Linear& linear : linears) {
    RETURN_IF_ERROR(checkpoint->AddLinear(linear.stem, linear.shape[0], linear.shape[1], linear.scheme));
  }
  return checkpoint;
}

}  // namespace tiercel::checkpoint
