// DummyBasedModel: a small checkpoint of random numbers, for tests that put others in the place of some.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/dummy_checkpoint.h"

namespace tiercel::parity {

class DummyBasedModel : public checkpoint::Checkpoint {
 public:
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
  const BF16* MappedBF16(const std::string&) const override { return nullptr; }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

 protected:
  explicit DummyBasedModel(int64_t intermediate_size = 768, bool tied = true)
      : dummy_(checkpoint::MakeDummyCheckpoint(Config(intermediate_size, tied), {}, 1)) {}

  // Of a row; of a vector 1.
  int64_t Width(const std::string& name) const {
    const std::vector<int64_t> shape = dummy_->Find(name)->shape;
    return shape.size() == 2 ? shape[1] : 1;
  }

 private:
  static checkpoint::ModelConfig Config(int64_t intermediate_size, bool tied) {
    checkpoint::ModelConfig config;
    config.hidden_size = 256;
    config.num_layers = 2;
    config.num_heads = 8;
    config.num_kv_heads = 2;
    config.head_dim = 64;
    config.intermediate_size = intermediate_size;
    config.vocab_size = 500;
    config.max_position_embeddings = 256;
    config.qk_norm = true;
    config.tie_word_embeddings = tied;
    return config;
  }

  std::unique_ptr<checkpoint::Checkpoint> dummy_;
};

}  // namespace tiercel::parity
