// Models over an INT8 KV cache whose tokens have scales: each channel of a head has its share of the bytes, however large it is.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "parity/cosine.h"
#include "parity/dummy_based_model.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;

// A dummy model whose keys have larger and smaller channels, by powers of two, as queries have smaller and larger ones: no score
// changes in a bit. Where rotary embedding turns two channels into each other they have the same.
class UnevenModel final : public DummyBasedModel {
 public:
  // Channels are larger by up to 2 to the power of `range`.
  explicit UnevenModel(int range) : range_(range) {}

  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    RETURN_IF_ERROR(DummyBasedModel::ReadRows(name, begin, end, out));
    return Scale(name, begin, end, [&](int64_t i, float f) { out[i] = ToBF16(ToFloat(out[i]) * f); });
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    RETURN_IF_ERROR(DummyBasedModel::ReadRows(name, begin, end, out));
    return Scale(name, begin, end, [&](int64_t i, float f) { out[i] *= f; });
  }

 private:
  template <typename Times>
  Status Scale(const std::string& name, int64_t begin, int64_t end, const Times& times) const {
    const bool k = name.ends_with("self_attn.k_norm.weight"), q = name.ends_with("self_attn.q_norm.weight");
    const int64_t half = config().head_dim / 2;
    for (int64_t i = 0; (k || q) && i < end - begin; ++i) {
      const float factor = std::exp2(static_cast<float>((begin + i) % half % (range_ + 1)));
      times(i, k ? factor : 1 / factor);
    }
    return OkStatus();
  }

  const int range_;
};

Logits RunModel(const checkpoint::Checkpoint& model, DType cache, const kernels::KernelTable* kernels) {
  RunnerOptions options;
  options.team = {1, 2};
  options.kernels = kernels;
  options.weights.kv_dtype = cache;
  const auto runner = ModelRunner::Create(model, options);
  EXPECT_TRUE(runner.has_value()) << runner.error();
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 70; ++i) tokens.push_back(i * i * 7 % 500);
  (*runner)->Step({{(*runner)->NewSequence(), tokens}});
  return (*runner)->logits();
}

TEST(Int8Cache, BitsDoNotDependOnHowLargeAKeysChannelsAre) {
  const UnevenModel even(0), uneven(6);
  for (const kernels::KernelTable* kernels : AllKernels()) {
    EXPECT_EQ(RunModel(uneven, DType::kBF16, kernels), RunModel(even, DType::kBF16, kernels)) << kernels->detail;
    EXPECT_EQ(RunModel(uneven, DType::kI8, kernels), RunModel(even, DType::kI8, kernels)) << kernels->detail;
  }
}

TEST(Int8Cache, LogitsAreNearThoseOverABF16Cache) {
  const UnevenModel uneven(6);
  for (const kernels::KernelTable* kernels : AllKernels()) {
    EXPECT_GT(Cosine(RunModel(uneven, DType::kI8, kernels), RunModel(uneven, DType::kBF16, kernels)), 0.9995) << kernels->detail;
  }
}

}  // namespace
}  // namespace tiercel::parity
