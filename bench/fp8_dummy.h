// Fp8Dummy: random weights whose linears are FP8, for their speed alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/block_row.h"
#include "checkpoint/checkpoint.h"

namespace tiercel {

class Fp8Dummy final : public checkpoint::Checkpoint {
 public:
  // `dummy` has the shapes, and what is not FP8.
  explicit Fp8Dummy(std::unique_ptr<checkpoint::Checkpoint> dummy) : dummy_(std::move(dummy)) {}

  const checkpoint::ModelConfig& config() const override { return dummy_->config(); }
  const checkpoint::GenerationConfig& generation_config() const override { return dummy_->generation_config(); }
  std::optional<checkpoint::TensorInfo> Find(const std::string& name) const override { return dummy_->Find(name); }
  std::vector<std::string> Names() const override { return dummy_->Names(); }
  int64_t FileBytes() const override { return 0; }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    return dummy_->ReadRows(name, begin, end, out);
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    return dummy_->ReadRows(name, begin, end, out);
  }
  BlockFormat BlockFormatOf(const std::string& name) const override {
    return name.ends_with("_proj.weight") ? BlockFormat::kF8 : BlockFormat::kNone;
  }
  Status ReadBlocks(const std::string& name, int64_t row, checkpoint::BlockRow* out) const override {
    out->Resize(InfoOf(BlockFormat::kF8), dummy_->Find(name)->shape[1]);
    std::minstd_rand random(static_cast<uint32_t>(std::hash<std::string>{}(name) + static_cast<size_t>(row)));
    for (uint8_t& code : out->codes) code = static_cast<uint8_t>(random() % 127 + random() % 2 * 128);  // no NaN
    for (float& scale : out->float_scale) scale = 2e-4f;
    return OkStatus();
  }
  const BF16* MappedBF16(const std::string& name) const override { return dummy_->MappedBF16(name); }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

 private:
  const std::unique_ptr<checkpoint::Checkpoint> dummy_;
};

}  // namespace tiercel
