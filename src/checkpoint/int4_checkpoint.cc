#include "checkpoint/int4_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "base/log.h"
#include "checkpoint/convert.h"
#include "checkpoint/matrix_view.h"
#include "checkpoint/tensor_reader.h"

namespace tiercel::checkpoint {
namespace {

constexpr int64_t kCodesInWord = 8;

uint32_t WordAt(const uint8_t* words, int64_t i) {
  uint32_t word;
  std::memcpy(&word, words + i * static_cast<int64_t>(sizeof(word)), sizeof(word));
  return word;
}
uint8_t CodeOf(uint32_t word, int64_t place) { return static_cast<uint8_t>(word >> 4 * place & 15); }

// Where AWQ has column i of eight in a word.
constexpr int64_t kAwqPlace[] = {0, 4, 1, 5, 2, 6, 3, 7};

// The inputs by their groups, which keep their order within one; empty where these are not of one size.
std::vector<int32_t> ByGroup(const std::vector<int32_t>& group_of, int64_t groups) {
  std::vector<int32_t> order(group_of.size());
  std::iota(order.begin(), order.end(), 0);
  const auto group = [&](int32_t i) { return group_of[static_cast<size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return group(a) < group(b); });
  const int64_t size = std::ssize(order) / groups;
  for (int64_t i = 0; i < std::ssize(order); ++i) {
    if (group(order[static_cast<size_t>(i)]) != i / size) return {};
  }
  return order;
}

struct Int4Matrix {
  int64_t n = 0, k = 0, group = 0;
  const uint8_t* codes = nullptr;
  const uint8_t* zeros = nullptr;  // null: symmetric
  const uint8_t* scale_bytes = nullptr;
  DType scale_type = DType::kF16;
  std::vector<int32_t> group_of;  // of each input, where they are in another order (GPTQ's act-order); else empty
  std::vector<int32_t> order;     // then the inputs by their groups; empty where these are not of one size

  int64_t groups() const { return k / group; }
  int64_t GroupOf(int64_t i) const { return group_of.empty() ? i / group : group_of[static_cast<size_t>(i)]; }
};

class Int4Checkpoint final : public MatrixView<Int4Matrix> {
 public:
  Int4Checkpoint(std::unique_ptr<Checkpoint> stored, const Int4Config& config)
      : MatrixView(std::move(stored), "I4"), layout_(config.layout), zero_bias_(config.stored_zero_less) {}

  Status AddAll(const Int4Config& config);

 private:
  // What has no format becomes BF16.
  BlockFormat FormatOf(const Int4Matrix& m) const override {
    if (!m.group_of.empty() && m.order.empty()) return BlockFormat::kNone;
    return GroupedInt4(m.group, m.zeros == nullptr);
  }
  std::span<const int32_t> OrderOf(const Int4Matrix& m) const override { return m.order; }
  Status ReadRow(const std::string& name, const Int4Matrix& m, int64_t row, float* out) const override;
  Status ReadBlockRow(const std::string& name, const Int4Matrix& m, int64_t row, BlockRow* out) const override;
  Status AddLinear(const std::string& stem, const Int4Config& config);
  Status CheckShape(const std::string& name, const Int4Matrix& m);
  // The bytes of a tensor of INT32 with this shape.
  Expected<const uint8_t*> Words(const std::string& name, const std::vector<int64_t>& shape);
  // The group of each input; an empty list where that is the plain order.
  Expected<std::vector<int32_t>> ReadOrder(const std::string& name, const Int4Matrix& m);
  // Whether every zero point is 8: there might as well be none.
  bool ZerosAre8(const uint8_t* words, int64_t count) const {
    const uint32_t word = 0x11111111u * static_cast<uint32_t>(8 - zero_bias_);
    for (int64_t i = 0; i < count; ++i) {
      if (WordAt(words, i) != word) return false;
    }
    return true;
  }
  uint8_t Code(const Int4Matrix& m, int64_t row, int64_t k) const;
  int Zero(const Int4Matrix& m, int64_t row, int64_t group) const;
  float Scale(const Int4Matrix& m, int64_t row, int64_t group) const;

  const Int4Layout layout_;
  const int zero_bias_;
  int64_t as_bf16_ = 0;  // linears that have no block format
};

Status Int4Checkpoint::AddAll(const Int4Config& config) {
  const std::string end = layout_ == Int4Layout::kCompressed ? ".weight_packed" : ".qweight";
  for (const std::string& name : stored().Names()) {
    if (!name.ends_with(end)) continue;
    RETURN_IF_ERROR(AddLinear(name.substr(0, name.size() - end.size()), config));
  }
  if (as_bf16_ > 0) {
    LOG_WARNING("{} linears of four bits have groups of different sizes (desc_act): they become BF16, which takes four "
                "times the memory",
                as_bf16_);
  }
  if (!empty()) return OkStatus();
  return InvalidArgument("the weights' files hold no linear of the format {} that quantization_config in config.json "
                         "names; they belong to another model",
                         Name(layout_));
}

Expected<const uint8_t*> Int4Checkpoint::Words(const std::string& name, const std::vector<int64_t>& shape) {
  const std::optional<TensorInfo> info = stored().Find(name);
  const uint8_t* bytes = stored().MappedBytes(name);
  if (!info || bytes == nullptr || info->type != "I32" || info->shape != shape) {
    return Unexpected(InvalidArgument("{}: found {} [{}], expected I32 [{}]", name, info ? info->type : "nothing",
                                      info ? fmt::format("{}", fmt::join(info->shape, ", ")) : "",
                                      fmt::join(shape, ", ")));
  }
  return bytes;
}

// compressed-tensors writes down the shape that the packed words have.
Status Int4Checkpoint::CheckShape(const std::string& name, const Int4Matrix& m) {
  const std::optional<TensorInfo> info = stored().Find(name);
  const uint8_t* bytes = stored().MappedBytes(name);
  if (!info || bytes == nullptr) return OkStatus();
  if ((info->type != "I64" && info->type != "I32") || info->shape != std::vector<int64_t>{2}) {
    return InvalidArgument("{}: found {} [{}], expected I64 [2]", name, info->type, fmt::join(info->shape, ", "));
  }
  const auto value = [&](int i) -> int64_t {
    int64_t wide = 0;
    int32_t narrow = 0;
    if (info->type == "I64") {
      std::memcpy(&wide, bytes + i * 8, sizeof(wide));
      return wide;
    }
    std::memcpy(&narrow, bytes + i * 4, sizeof(narrow));
    return narrow;
  };
  if (value(0) == m.n && value(1) == m.k) return OkStatus();
  return InvalidArgument("{}: found [{}, {}], expected [{}, {}], the shape of the packed weights", name, value(0), value(1), m.n,
                         m.k);
}

Status Int4Checkpoint::AddLinear(const std::string& stem, const Int4Config& config) {
  const bool compressed = layout_ == Int4Layout::kCompressed;
  const std::string codes = stem + (compressed ? ".weight_packed" : ".qweight");
  const std::vector<int64_t> packed = stored().Find(codes)->shape;
  if (packed.size() != 2) return InvalidArgument("{}: found {} dimensions, expected 2", codes, packed.size());
  Int4Matrix t;
  t.n = layout_ == Int4Layout::kAwq ? packed[1] * kCodesInWord : compressed ? packed[0] : packed[1];
  t.k = layout_ == Int4Layout::kAwq ? packed[0] : (compressed ? packed[1] : packed[0]) * kCodesInWord;
  t.group = config.group == 0 ? t.k : config.group;
  if (t.k <= 0 || t.n <= 0 || t.k % t.group != 0 || t.group % 32 != 0 ||
      (layout_ == Int4Layout::kGptq && t.n % kCodesInWord != 0)) {
    return Unimplemented("{}: found {} outputs of {} inputs in groups of {}, expected whole groups of a multiple of 32 "
                         "and outputs in eights",
                         codes, t.n, t.k, t.group);
  }
  if (compressed) RETURN_IF_ERROR(CheckShape(stem + ".weight_shape", t));
  ASSIGN_OR_RETURN(t.codes, Words(codes, packed));
  if (!compressed) {
    ASSIGN_OR_RETURN(t.zeros, Words(stem + ".qzeros", {t.groups(), t.n / kCodesInWord}));
    if (ZerosAre8(t.zeros, t.groups() * t.n / kCodesInWord)) t.zeros = nullptr;
  } else if (!config.symmetric) {
    ASSIGN_OR_RETURN(t.zeros, Words(stem + ".weight_zero_point", {(t.n + 7) / kCodesInWord, t.groups()}));
  }
  const std::string scales_name = stem + (compressed ? ".weight_scale" : ".scales");
  const std::optional<TensorInfo> scales = stored().Find(scales_name);
  const std::vector<int64_t> shape =
      compressed ? std::vector<int64_t>{t.n, t.groups()} : std::vector<int64_t>{t.groups(), t.n};
  const std::optional<DType> type = scales ? ConvertibleType(scales->type) : std::nullopt;
  t.scale_bytes = stored().MappedBytes(scales_name);
  if (!type || scales->shape != shape || t.scale_bytes == nullptr) {
    return InvalidArgument("{}: found {}, expected floats [{}]", scales_name,
                           scales ? fmt::format("{} [{}]", scales->type, fmt::join(scales->shape, ", ")) : "nothing",
                           fmt::join(shape, ", "));
  }
  t.scale_type = *type;
  const std::string order = stem + (compressed ? ".weight_g_idx" : ".g_idx");
  if (config.reordered) {
    ASSIGN_OR_RETURN(t.group_of, ReadOrder(order, t));
    // An embedding's rows are read as they are.
    if (!stem.ends_with("embed_tokens")) t.order = ByGroup(t.group_of, t.groups());
  }
  if (FormatOf(t) == BlockFormat::kNone) ++as_bf16_;
  std::vector<std::string> parts;
  for (const char* end : {".qweight", ".qzeros", ".scales", ".weight_packed", ".weight_scale", ".weight_zero_point",
                          ".weight_shape", ".g_idx", ".weight_g_idx"}) {
    parts.push_back(stem + end);
  }
  Add(stem + ".weight", t, codes, parts);
  return OkStatus();
}

Expected<std::vector<int32_t>> Int4Checkpoint::ReadOrder(const std::string& name, const Int4Matrix& m) {
  std::vector<int32_t> group_of;
  ASSIGN_OR_RETURN(const uint8_t* const words, Words(name, {m.k}));
  bool plain = true;
  for (int64_t i = 0; i < m.k; ++i) {
    const uint32_t group = WordAt(words, i);
    if (group >= static_cast<uint64_t>(m.groups())) {
      return Unexpected(InvalidArgument("{}: value {} is {}, expected a group from 0 to {}", name, i,
                                        static_cast<int32_t>(group), m.groups() - 1));
    }
    plain = plain && group == static_cast<uint64_t>(i / m.group);
    group_of.push_back(static_cast<int32_t>(group));
  }
  if (plain) group_of.clear();
  return group_of;
}

uint8_t Int4Checkpoint::Code(const Int4Matrix& t, int64_t row, int64_t k) const {
  switch (layout_) {
    case Int4Layout::kGptq: return CodeOf(WordAt(t.codes, k / kCodesInWord * t.n + row), k % kCodesInWord);
    case Int4Layout::kAwq:
      return CodeOf(WordAt(t.codes, (k * t.n + row) / kCodesInWord), kAwqPlace[row % kCodesInWord]);
    case Int4Layout::kCompressed: return CodeOf(WordAt(t.codes, (row * t.k + k) / kCodesInWord), k % kCodesInWord);
  }
  return 0;
}

int Int4Checkpoint::Zero(const Int4Matrix& t, int64_t row, int64_t group) const {
  if (t.zeros == nullptr) return 8;
  switch (layout_) {
    case Int4Layout::kGptq:
      return CodeOf(WordAt(t.zeros, (group * t.n + row) / kCodesInWord), row % kCodesInWord) + zero_bias_;
    case Int4Layout::kAwq:
      return CodeOf(WordAt(t.zeros, (group * t.n + row) / kCodesInWord), kAwqPlace[row % kCodesInWord]);
    case Int4Layout::kCompressed:
      return CodeOf(WordAt(t.zeros, row / kCodesInWord * t.groups() + group), row % kCodesInWord);
  }
  return 0;
}

float Int4Checkpoint::Scale(const Int4Matrix& t, int64_t row, int64_t group) const {
  const int64_t at = layout_ == Int4Layout::kCompressed ? row * t.groups() + group : group * t.n + row;
  float scale;
  Convert(t.scale_bytes + at * static_cast<int64_t>(SizeOf(t.scale_type)), t.scale_type, 1, &scale);
  return scale;
}

Status Int4Checkpoint::ReadRow(const std::string&, const Int4Matrix& t, int64_t row, float* out) const {
  std::vector<float> scale;
  std::vector<int> zero;
  for (int64_t group = 0; group < t.groups(); ++group) {
    scale.push_back(Scale(t, row, group));
    zero.push_back(Zero(t, row, group));
  }
  for (int64_t k = 0; k < t.k; ++k) {
    const auto group = static_cast<size_t>(t.GroupOf(k));
    out[k] = scale[group] * static_cast<float>(Code(t, row, k) - zero[group]);
  }
  return OkStatus();
}

Status Int4Checkpoint::ReadBlockRow(const std::string& name, const Int4Matrix& t, int64_t row, BlockRow* out) const {
  const BlockFormatInfo info = InfoOf(FormatOf(t));
  out->Resize(info, t.k);
  for (int64_t i = 0; i < t.k; ++i) {
    const auto at = static_cast<size_t>(i);
    out->codes[at] = Code(t, row, t.order.empty() ? i : t.order[at]);
  }
  for (int64_t g = 0; g < t.k / info.group; ++g) {
    const int64_t group = g * info.group / t.group;
    const uint16_t scale = ToHalf(Scale(t, row, group));
    if (!std::isfinite(HalfToFloat(scale))) {
      return InvalidArgument("{}: row {}: found the scale {}, expected a finite binary16 number", name, row,
                             Scale(t, row, group));
    }
    out->scale[static_cast<size_t>(g)] = scale;
    if (t.zeros != nullptr) out->sub_min[static_cast<size_t>(g)] = static_cast<uint8_t>(Zero(t, row, group));
  }
  return OkStatus();
}

}  // namespace

Expected<std::unique_ptr<Checkpoint>> OpenInt4(std::unique_ptr<Checkpoint> stored, const Int4Config& config) {
  auto checkpoint = std::make_unique<Int4Checkpoint>(std::move(stored), config);
  if (Status status = checkpoint->AddAll(config); !status.ok()) return Unexpected(WithPath(*checkpoint, std::move(status)));
  return checkpoint;
}

}  // namespace tiercel::checkpoint
