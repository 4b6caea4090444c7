#include "checkpoint/fp8_checkpoint.h"

#include <cmath>
#include <utility>
#include <vector>

#include "base/e4m3.h"
#include "checkpoint/matrix_view.h"
#include "checkpoint/tensor_reader.h"

namespace tiercel::checkpoint {
namespace {

constexpr int64_t kBlock = 128;
constexpr std::string_view kType = "F8_E4M3";

constexpr int64_t Blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

// Scales [rows][columns]: of one row and column, of n rows and one column, or of a grid of blocks.
struct Fp8Matrix {
  int64_t n = 0, k = 0;
  const uint8_t* codes = nullptr;
  std::vector<float> scales;
  int64_t row_block = 0, columns = 0;  // rows that share a row of the scales; columns of 128 inputs, or 1

  float Scale(int64_t row, int64_t block) const {
    return scales[static_cast<size_t>(row / row_block * columns + (columns == 1 ? 0 : block))];
  }
};

class Fp8Checkpoint final : public MatrixView<Fp8Matrix> {
 public:
  explicit Fp8Checkpoint(std::unique_ptr<Checkpoint> stored) : MatrixView(std::move(stored), std::string(kType)) {}

  Status AddAll() {
    for (const std::string& name : stored().Names()) {
      const TensorInfo info = *stored().Find(name);
      if (info.type == kType && name.ends_with(".weight")) RETURN_IF_ERROR(AddLinear(name, info));
    }
    if (!empty()) return OkStatus();
    return InvalidArgument("the weights' files hold no linear in FP8 (F8_E4M3), which quantization_config in config.json "
                           "names; they belong to another model");
  }

 private:
  Status AddLinear(const std::string& name, const TensorInfo& info);
  BlockFormat FormatOf(const Fp8Matrix&) const override { return BlockFormat::kF8; }
  Status ReadRow(const std::string& name, const Fp8Matrix& m, int64_t row, float* out) const override {
    const uint8_t* const codes = m.codes + row * m.k;
    RETURN_IF_ERROR(CheckCodes(name, m, row));
    for (int64_t i = 0; i < m.k; ++i) out[i] = m.Scale(row, i / kBlock) * E4M3ToFloat(codes[i]);
    return OkStatus();
  }
  Status ReadBlockRow(const std::string& name, const Fp8Matrix& m, int64_t row, BlockRow* out) const override {
    RETURN_IF_ERROR(CheckCodes(name, m, row));
    out->Resize(InfoOf(BlockFormat::kF8), m.k);
    std::copy_n(m.codes + row * m.k, m.k, out->codes.begin());
    for (int64_t block = 0; block < Blocks(m.k); ++block) {
      out->float_scale[static_cast<size_t>(block)] = m.Scale(row, block);
    }
    return OkStatus();
  }
  static Status CheckCodes(const std::string& name, const Fp8Matrix& m, int64_t row) {
    const uint8_t* const codes = m.codes + row * m.k;
    for (int64_t i = 0; i < m.k; ++i) {
      if (!IsE4M3NaN(codes[i])) continue;
      return InvalidArgument("{}: row {}: found a NaN at input {}, expected numbers; the file is damaged", name, row, i);
    }
    return OkStatus();
  }
};

Status Fp8Checkpoint::AddLinear(const std::string& name, const TensorInfo& info) {
  if (info.shape.size() != 2 || info.shape[0] <= 0 || info.shape[1] <= 0) {
    return InvalidArgument("{}: found [{}], expected two dimensions", name, fmt::join(info.shape, ", "));
  }
  Fp8Matrix m;
  m.n = info.shape[0];
  m.k = info.shape[1];
  m.codes = stored().MappedBytes(name);
  if (m.codes == nullptr) return InvalidArgument("{}: its data cannot be read in place", name);
  std::string scale_name = name + "_scale_inv";
  if (!stored().Find(scale_name)) scale_name = name + "_scale";
  const std::optional<TensorInfo> scale = stored().Find(scale_name);
  const std::vector<int64_t> one = {1}, row = {m.n}, rows = {m.n, 1}, grid = {Blocks(m.n), Blocks(m.k)};
  if (scale && (scale->shape.empty() || scale->shape == one)) {
    m.row_block = m.n;
    m.columns = 1;
  } else if (scale && (scale->shape == row || scale->shape == rows)) {
    m.row_block = m.columns = 1;
  } else if (scale && scale->shape == grid) {
    m.row_block = kBlock;
    m.columns = grid[1];
  } else {
    return InvalidArgument("{}: found {}, expected a scale, {} of rows, or [{}] of blocks of 128 x 128", scale_name,
                           scale ? fmt::format("[{}]", fmt::join(scale->shape, ", ")) : "nothing", m.n,
                           fmt::join(grid, ", "));
  }
  const std::optional<DType> type = ConvertibleType(scale->type);
  const uint8_t* const bytes = stored().MappedBytes(scale_name);
  if (!type || bytes == nullptr) return InvalidArgument("{}: found {}, expected floats", scale_name, scale->type);
  m.scales.resize(static_cast<size_t>((m.n + m.row_block - 1) / m.row_block * m.columns));
  Convert(bytes, *type, std::ssize(m.scales), m.scales.data());
  for (size_t i = 0; i < m.scales.size(); ++i) {
    if (IsScale(m.scales[i]) || m.scales[i] == 0) continue;
    return InvalidArgument("{}: value {} is {}, expected a scale from 1e-18 to 1e+18, or 0", scale_name, i, m.scales[i]);
  }
  const std::string stem = name.substr(0, name.size() - std::string_view(".weight").size());
  Add(name, std::move(m), name, {name + "_scale_inv", name + "_scale", stem + ".input_scale"});
  return OkStatus();
}

}  // namespace

Expected<std::unique_ptr<Checkpoint>> OpenFp8(std::unique_ptr<Checkpoint> stored) {
  auto checkpoint = std::make_unique<Fp8Checkpoint>(std::move(stored));
  if (Status status = checkpoint->AddAll(); !status.ok()) return Unexpected(WithPath(*checkpoint, std::move(status)));
  return checkpoint;
}

}  // namespace tiercel::checkpoint
