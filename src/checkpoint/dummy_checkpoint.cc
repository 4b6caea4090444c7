#include "checkpoint/dummy_checkpoint.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "base/check.h"
#include "checkpoint/tensor_account.h"
#include "platform/mapped_file.h"

namespace tiercel::checkpoint {
namespace {

// SplitMix64 (Steele et al. 2014): a good mix of a counter, so that rows need no order.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class DummyCheckpoint final : public Checkpoint {
 public:
  DummyCheckpoint(ModelConfig config, GenerationConfig generation, uint64_t seed, std::string folder)
      : config_(std::move(config)), generation_(std::move(generation)), seed_(seed), folder_(std::move(folder)) {
    for (PlannedShape& tensor : TensorsOf(config_, Head::kLogits)) {
      tensors_[std::move(tensor.name)] = {std::move(tensor.shape), "BF16"};
    }
  }

  std::string path() const override { return folder_; }
  const ModelConfig& config() const override { return config_; }
  const GenerationConfig& generation_config() const override { return generation_; }
  std::optional<TensorInfo> Find(const std::string& name) const override {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return std::nullopt;
    return it->second;
  }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, info] : tensors_) names.push_back(name);
    return names;
  }
  int64_t FileBytes() const override { return 0; }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    return Generate(name, begin, end, [&](float value) { *out++ = ToBF16(value); });
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    return Generate(name, begin, end, [&](float value) { *out++ = value; });
  }
  const BF16* MappedBF16(const std::string&) const override { return nullptr; }
  void WillNeed(const std::string&) const override {}
  void DontNeed(const std::string&) const override {}

 private:
  template <typename Put>
  Status Generate(const std::string& name, int64_t begin, int64_t end, Put put) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return NotFound("{}: not a tensor of this configuration", name);
    const std::vector<int64_t>& shape = it->second.shape;
    CHECK(begin >= 0 && begin <= end && end <= shape[0]);
    if (shape.size() == 1) {
      const float value = name.ends_with(".bias") ? 0.0f : 1.0f;
      for (int64_t r = begin; r < end; ++r) put(value);
      return OkStatus();
    }
    // A uniform 16-bit number u gives (u − 32767.5) · scale, of standard deviation 0.02.
    constexpr float kScale = 0.02f * 1.7320508f / 32768.0f;
    const uint64_t stream = Mix(seed_ ^ std::hash<std::string>{}(name));
    for (int64_t r = begin; r < end; ++r) {
      uint64_t counter = Mix(stream + static_cast<uint64_t>(r));
      for (int64_t i = 0; i < shape[1]; i += 4) {
        uint64_t bits = Mix(counter++);
        for (int64_t j = i; j < std::min(i + 4, shape[1]); ++j, bits >>= 16) {
          put((static_cast<float>(bits & 0xffffu) - 32767.5f) * kScale);
        }
      }
    }
    return OkStatus();
  }

  const ModelConfig config_;
  const GenerationConfig generation_;
  const uint64_t seed_;
  const std::string folder_;
  std::map<std::string, TensorInfo> tensors_;
};

std::string_view Text(const platform::MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

std::unique_ptr<Checkpoint> MakeDummyCheckpoint(ModelConfig config, GenerationConfig generation,
                                                uint64_t seed) {
  return std::make_unique<DummyCheckpoint>(std::move(config), std::move(generation), seed, "");
}

Expected<std::unique_ptr<Checkpoint>> OpenDummyCheckpoint(const std::string& folder,
                                                          std::string_view hf_overrides,
                                                          uint64_t seed) {
  const std::string path = folder + "/config.json";
  ASSIGN_OR_RETURN(const platform::MappedFile file, platform::MappedFile::Open(path));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(Text(file), hf_overrides, path));
  GenerationConfig generation;
  const std::string generation_path = folder + "/generation_config.json";
  const auto generation_file = platform::MappedFile::Open(generation_path);
  if (generation_file.has_value()) {
    ASSIGN_OR_RETURN(generation, ParseGenerationConfig(Text(*generation_file), generation_path));
  } else if (generation_file.error().code() != StatusCode::kNotFound) {
    return Unexpected(generation_file.error());
  }
  return std::make_unique<DummyCheckpoint>(std::move(config), std::move(generation), seed, folder);
}

}  // namespace tiercel::checkpoint
