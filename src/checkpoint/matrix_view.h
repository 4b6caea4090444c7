// MatrixView: a checkpoint of which some matrices are made of several stored tensors each, and are shown as one.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"

namespace tiercel::checkpoint {

// `Matrix` has n and k, the shape. Everything that is no such matrix, nor a part of one, is as it is stored. A derived
// class reads the rows of its matrices in FP32, which here become BF16, and in blocks.
template <typename Matrix>
class MatrixView : public Checkpoint {
 public:
  std::string path() const final { return stored_->path(); }
  std::string PlaceInFile(std::string_view field) const final { return stored_->PlaceInFile(field); }
  const ModelConfig& config() const final { return stored_->config(); }
  const GenerationConfig& generation_config() const final { return stored_->generation_config(); }
  const Quantization& quantization() const final { return stored_->quantization(); }
  std::optional<TensorInfo> Find(const std::string& name) const final {
    if (const Matrix* m = FindMatrix(name)) return TensorInfo{{m->n, m->k}, type_};
    return parts_.contains(name) ? std::nullopt : stored_->Find(name);
  }
  std::vector<std::string> Names() const final {
    std::vector<std::string> names = stored_->Names();
    std::erase_if(names, [&](const std::string& name) { return parts_.contains(name) || matrices_.contains(name); });
    for (const auto& [name, entry] : matrices_) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }
  int64_t FileBytes() const final { return stored_->FileBytes(); }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const final {
    const Matrix* m = FindMatrix(name);
    if (m == nullptr) return stored_->ReadRows(name, begin, end, out);
    std::vector<float> row(static_cast<size_t>(m->k));
    for (; begin < end; ++begin, out += m->k) {
      RETURN_IF_ERROR(ReadRows(name, begin, begin + 1, row.data()));
      RoundToBF16(row.data(), m->k, out);
    }
    return OkStatus();
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const final {
    const Matrix* m = FindMatrix(name);
    if (m == nullptr) return stored_->ReadRows(name, begin, end, out);
    RETURN_IF_ERROR(CheckRows(name, *m, begin, end));
    for (; begin < end; ++begin, out += m->k) RETURN_IF_ERROR(ReadRow(name, *m, begin, out));
    return OkStatus();
  }
  BlockFormat BlockFormatOf(const std::string& name) const final {
    const Matrix* m = FindMatrix(name);
    return m != nullptr ? FormatOf(*m) : stored_->BlockFormatOf(name);
  }
  std::span<const int32_t> BlockOrderOf(const std::string& name) const final {
    const Matrix* m = FindMatrix(name);
    return m != nullptr ? OrderOf(*m) : stored_->BlockOrderOf(name);
  }
  Status ReadBlocks(const std::string& name, int64_t row, BlockRow* out) const final {
    const Matrix* m = FindMatrix(name);
    if (m == nullptr) return stored_->ReadBlocks(name, row, out);
    RETURN_IF_ERROR(CheckRows(name, *m, row, row + 1));
    return ReadBlockRow(name, *m, row, out);
  }
  const BF16* MappedBF16(const std::string& name) const final {
    return FindMatrix(name) != nullptr ? nullptr : stored_->MappedBF16(name);
  }
  const uint8_t* MappedBytes(const std::string& name) const final {
    return FindMatrix(name) != nullptr ? nullptr : stored_->MappedBytes(name);
  }
  void WillNeed(const std::string& name) const final { stored_->WillNeed(CodesOf(name)); }
  void DontNeed(const std::string& name) const final { stored_->DontNeed(CodesOf(name)); }

 protected:
  // `type`: what Find calls them.
  MatrixView(std::unique_ptr<Checkpoint> stored, std::string type)
      : stored_(std::move(stored)), type_(std::move(type)) {}

  virtual BlockFormat FormatOf(const Matrix& matrix) const = 0;
  virtual std::span<const int32_t> OrderOf(const Matrix&) const { return {}; }
  virtual Status ReadRow(const std::string& name, const Matrix& matrix, int64_t row, float* out) const = 0;
  virtual Status ReadBlockRow(const std::string& name, const Matrix& matrix, int64_t row, BlockRow* out) const = 0;

  const Checkpoint& stored() const { return *stored_; }
  bool empty() const { return matrices_.empty(); }
  // `codes` is the tensor that is most of it; `parts` are no longer seen.
  void Add(const std::string& name, Matrix matrix, std::string codes, const std::vector<std::string>& parts) {
    parts_.insert(parts.begin(), parts.end());
    matrices_.insert_or_assign(name, Entry{std::move(matrix), std::move(codes)});
  }

 private:
  struct Entry {
    Matrix matrix;
    std::string codes;
  };

  const Matrix* FindMatrix(const std::string& name) const {
    const auto it = matrices_.find(name);
    return it == matrices_.end() ? nullptr : &it->second.matrix;
  }
  const std::string& CodesOf(const std::string& name) const {
    const auto it = matrices_.find(name);
    return it == matrices_.end() ? name : it->second.codes;
  }
  static Status CheckRows(const std::string& name, const Matrix& m, int64_t begin, int64_t end) {
    if (0 <= begin && begin <= end && end <= m.n) return OkStatus();
    return InvalidArgument("{}: rows {} to {} were asked for, it has {}", name, begin, end, m.n);
  }

  const std::unique_ptr<Checkpoint> stored_;
  const std::string type_;
  std::unordered_map<std::string, Entry> matrices_;
  std::unordered_set<std::string> parts_;
};

}  // namespace tiercel::checkpoint
