#include "quantize/awq.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "quantize/group_quantizer.h"
#include "quantize/output_loss.h"

namespace tiercel::quantize {
namespace {

constexpr int kAlphas = 20;
// Of a sample, and of a linear's rows: enough to tell one α from another.
constexpr int64_t kTokens = 128, kRows = 512;
constexpr float kLeastMean = 1e-4f;

double Alpha(int i) { return static_cast<double>(i) / kAlphas; }

// The step with which at most `most` of `n` are taken, evenly.
int64_t StepOf(int64_t n, int64_t most) { return (n + most - 1) / most; }

// At most kTokens of the sample.
model::LinearInputs Thinned(const model::LinearInputs& inputs, int64_t k) {
  const int64_t tokens = std::ssize(inputs.sample) / k, step = StepOf(tokens, kTokens);
  model::LinearInputs few;
  for (int64_t t = 0; t < tokens; t += step) {
    few.sample.insert(few.sample.end(), inputs.sample.begin() + t * k, inputs.sample.begin() + (t + 1) * k);
  }
  return few;
}

// mean|x| of each input on the sample.
std::vector<float> Means(const model::LinearInputs& inputs, int64_t k) {
  std::vector<float> means(static_cast<size_t>(k), 0.0f);
  for (size_t i = 0; i < inputs.sample.size(); ++i) means[i % means.size()] += std::fabs(ToFloat(inputs.sample[i]));
  const auto tokens = static_cast<float>(std::ssize(inputs.sample) / k);
  for (float& mean : means) mean = std::max(mean / tokens, kLeastMean);
  return means;
}

std::vector<float> Scales(const std::vector<float>& means, double alpha) {
  const auto [least, largest] = std::minmax_element(means.begin(), means.end());
  const double middle = std::sqrt(double{*least} * double{*largest});
  std::vector<float> scales;
  for (const float mean : means) scales.push_back(static_cast<float>(std::pow(double{mean} / middle, alpha)));
  return scales;
}

// The scales with which the linears lose least, by the means of their inputs.
Expected<std::vector<float>> BestScales(const checkpoint::Checkpoint& checkpoint, platform::WorkerTeam* team,
                                        const std::vector<std::string>& linears, const model::LinearInputs& inputs,
                                        const std::vector<float>& means, int64_t group) {
  const int64_t k = std::ssize(means);
  const OutputNorm outputs(Thinned(inputs, k), k, nullptr);
  std::vector<std::vector<float>> scales;
  for (int i = 0; i < kAlphas; ++i) scales.push_back(Scales(means, Alpha(i)));
  std::vector<std::array<double, kAlphas>> losses(static_cast<size_t>(team->size()));
  for (const std::string& linear : linears) {
    const std::string name = linear + ".weight";
    const int64_t n = checkpoint.Find(name)->shape[0], step = StepOf(n, kRows);
    RETURN_IF_ERROR(ForRows(team, (n + step - 1) / step, [&](int64_t index, int worker) -> Status {
      const int64_t row = index * step;
      std::vector<float> w(static_cast<size_t>(k)), scaled = w;
      std::vector<int8_t> codes(static_cast<size_t>(k));
      std::vector<BF16> group_scales(static_cast<size_t>(k / group));
      RETURN_IF_ERROR(checkpoint.ReadRows(name, row, row + 1, w.data()));
      for (int i = 0; i < kAlphas; ++i) {
        const std::vector<float>& s = scales[static_cast<size_t>(i)];
        for (size_t j = 0; j < w.size(); ++j) scaled[j] = w[j] * s[j];
        RoundRow(scaled.data(), k, group, {codes.data(), group_scales.data()});
        for (size_t j = 0; j < w.size(); ++j) {
          const float scale = ToFloat(group_scales[static_cast<size_t>(static_cast<int64_t>(j) / group)]);
          scaled[j] = w[j] - scale * static_cast<float>(codes[j]) / s[j];
        }
        const double loss = outputs.Square(scaled.data()) * static_cast<double>(step);
        losses[static_cast<size_t>(worker)][static_cast<size_t>(i)] += loss;
      }
      return OkStatus();
    }));
  }
  size_t best = 0;
  std::array<double, kAlphas> sums = {};
  for (size_t i = 0; i < sums.size(); ++i) {
    for (const auto& of_worker : losses) sums[i] += of_worker[i];
    if (sums[i] < sums[best]) best = i;
  }
  return std::move(scales[best]);
}

}  // namespace

Expected<LayerSmoothing> FindAwqScales(const checkpoint::Checkpoint& checkpoint, platform::WorkerTeam* team, int64_t layer,
                                       const model::LayerInputs& inputs, int64_t group,
                                       FunctionRef<bool(const std::string& linear)> rounded) {
  const checkpoint::ModelConfig& c = checkpoint.config();
  const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
  const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
  const auto best = [&](std::vector<std::string> linears, const model::LinearInputs& of,
                        const std::vector<float>& means) -> Expected<std::vector<float>> {
    std::erase_if(linears, [&](const std::string& linear) { return !rounded(linear); });
    if (linears.empty()) return std::vector<float>();
    return BestScales(checkpoint, team, linears, of, means, group);
  };
  LayerSmoothing found;
  ASSIGN_OR_RETURN(found.qkv, best({attention + "q_proj", attention + "k_proj", attention + "v_proj"}, inputs.qkv,
                                   Means(inputs.qkv, c.hidden_size)));
  ASSIGN_OR_RETURN(found.gate_up, best({mlp + "gate_proj", mlp + "up_proj"}, inputs.gate_up,
                                       Means(inputs.gate_up, c.hidden_size)));
  ASSIGN_OR_RETURN(found.down, best({mlp + "down_proj"}, inputs.down, Means(inputs.down, c.intermediate_size)));

  // The query heads of a group share their v head, and so its scales.
  std::vector<float> means = Means(inputs.o, c.num_heads * c.head_dim);
  std::vector<float> of_v(static_cast<size_t>(c.num_kv_heads * c.head_dim), 0.0f);
  const auto heads = static_cast<float>(c.num_heads / c.num_kv_heads);
  for (size_t i = 0; i < means.size(); ++i) of_v[ValueChannel(c, i)] += means[i] / heads;
  for (size_t i = 0; i < means.size(); ++i) means[i] = of_v[ValueChannel(c, i)];
  ASSIGN_OR_RETURN(found.o, best({attention + "o_proj"}, inputs.o, means));
  if (found.o.empty()) return found;
  found.v.resize(of_v.size());
  for (size_t i = 0; i < means.size(); ++i) found.v[ValueChannel(c, i)] = found.o[i];
  return found;
}

}  // namespace tiercel::quantize
