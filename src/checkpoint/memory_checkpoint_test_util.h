// For tests: a checkpoint whose tensors are put into it.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace tiercel::checkpoint {

class MemoryCheckpoint final : public Checkpoint {
 public:
  struct Tensor {
    TensorInfo info;
    std::vector<uint8_t> bytes;
  };
  template <typename T>
  void Put(const std::string& name, const std::string& type, std::vector<int64_t> shape, const std::vector<T>& values) {
    Tensor& t = tensors[name];
    t.info = {std::move(shape), type};
    t.bytes.resize(values.size() * sizeof(T));
    std::memcpy(t.bytes.data(), values.data(), t.bytes.size());
  }

  const ModelConfig& config() const override { return model; }
  const Quantization& quantization() const override { return described; }
  const GenerationConfig& generation_config() const override { return generation_; }
  std::optional<TensorInfo> Find(const std::string& name) const override {
    const auto it = tensors.find(name);
    return it == tensors.end() ? std::nullopt : std::optional(it->second.info);
  }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors) names.push_back(name);
    return names;
  }
  int64_t FileBytes() const override { return 0; }
  Status ReadRows(const std::string&, int64_t, int64_t, BF16*) const override { return Internal("not asked for"); }
  // Of matrices and vectors in FP32.
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    const Tensor& t = tensors.at(name);
    if (t.info.type != "F32") return Internal("not asked for");
    const auto row = static_cast<size_t>(t.info.shape.size() > 1 ? t.info.shape[1] : 1) * sizeof(float);
    std::memcpy(out, t.bytes.data() + static_cast<size_t>(begin) * row, static_cast<size_t>(end - begin) * row);
    return OkStatus();
  }
  const BF16* MappedBF16(const std::string&) const override { return nullptr; }
  const uint8_t* MappedBytes(const std::string& name) const override {
    const auto it = tensors.find(name);
    return it == tensors.end() ? nullptr : it->second.bytes.data();
  }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

  std::map<std::string, Tensor> tensors;
  ModelConfig model;
  Quantization described;

 private:
  GenerationConfig generation_;
};

}  // namespace tiercel::checkpoint
