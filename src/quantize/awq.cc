#include "quantize/awq.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/round_up.h"
#include "quantize/group_quantizer.h"
#include "quantize/output_loss.h"

namespace tiercel::quantize {
namespace {

constexpr int kAlphas = 20, kCandidates = 2 * kAlphas;  // by inputs alone, and by weights, too
// Of a sample, and of a linear's rows, are taken at most so many, evenly: enough to tell one α from another.
constexpr int64_t kTokens = 128, kRows = 512;
constexpr float kLeastSize = 1e-4f;

// At most kTokens of the sample.
model::LinearInputs Thinned(const model::LinearInputs& inputs, int64_t k) {
  const int64_t tokens = std::ssize(inputs.sample) / k, step = CeilDiv(tokens, kTokens);
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
  for (float& mean : means) mean = std::max(mean / tokens, kLeastSize);
  return means;
}

// Calls use(w, rows, worker) for a sample of the linears' rows, in parallel: each stands for so many.
Status ForSample(const checkpoint::Checkpoint& checkpoint, platform::WorkerTeam* team, const std::vector<std::string>& linears,
                 int64_t k, FunctionRef<void(const std::vector<float>& w, int64_t rows, int worker)> use) {
  for (const std::string& linear : linears) {
    const std::string name = linear + ".weight";
    const int64_t n = checkpoint.Find(name)->shape[0], step = CeilDiv(n, kRows);
    RETURN_IF_ERROR(ForRows(team, CeilDiv(n, step), [&](int64_t index, int worker) -> Status {
      std::vector<float> w(static_cast<size_t>(k));
      RETURN_IF_ERROR(checkpoint.ReadRows(name, index * step, index * step + 1, w.data()));
      use(w, step, worker);
      return OkStatus();
    }));
  }
  return OkStatus();
}

// The mean over the linears' rows of each input's |w| ÷ the largest of its group.
Expected<std::vector<float>> WeightSizes(const checkpoint::Checkpoint& checkpoint, platform::WorkerTeam* team,
                                         const std::vector<std::string>& linears, int64_t k, int64_t group) {
  const auto workers = static_cast<size_t>(team->size());
  std::vector<std::vector<double>> sums(workers, std::vector<double>(static_cast<size_t>(k)));
  std::vector<int64_t> taken(workers);
  RETURN_IF_ERROR(ForSample(checkpoint, team, linears, k, [&](const std::vector<float>& w, int64_t, int worker) {
    ++taken[static_cast<size_t>(worker)];
    for (int64_t g = 0; g < k; g += group) {
      float largest = kLeastSize;
      for (int64_t i = g; i < g + group; ++i) largest = std::max(largest, std::fabs(w[static_cast<size_t>(i)]));
      for (int64_t i = g; i < g + group; ++i) {
        sums[static_cast<size_t>(worker)][static_cast<size_t>(i)] += std::fabs(w[static_cast<size_t>(i)]) / largest;
      }
    }
  }));
  const auto rows = static_cast<double>(std::accumulate(taken.begin(), taken.end(), int64_t{0}));
  std::vector<float> sizes(static_cast<size_t>(k));
  for (size_t i = 0; i < sizes.size(); ++i) {
    double sum = 0;
    for (const auto& of_worker : sums) sum += of_worker[i];
    sizes[i] = std::max(static_cast<float>(sum / rows), kLeastSize);
  }
  return sizes;
}

// means^alpha · sizes^(-beta), around 1.
std::vector<float> Scales(const std::vector<float>& means, double alpha, const std::vector<float>& sizes, double beta) {
  std::vector<double> s;
  for (size_t i = 0; i < means.size(); ++i) s.push_back(std::pow(double{means[i]}, alpha) * std::pow(double{sizes[i]}, -beta));
  const auto [least, largest] = std::minmax_element(s.begin(), s.end());
  const double middle = std::sqrt(*least * *largest);
  std::vector<float> scales;
  for (const double x : s) scales.push_back(static_cast<float>(x / middle));
  return scales;
}

// The scales with which the linears lose least, of those that the sizes of their inputs and weights propose. tie(sizes): makes
// inputs alike that must have the same.
Expected<std::vector<float>> BestScales(const checkpoint::Checkpoint& checkpoint, platform::WorkerTeam* team,
                                        const std::vector<std::string>& linears, const model::LinearInputs& inputs,
                                        int64_t k, int64_t group, FunctionRef<void(std::vector<float>*)> tie) {
  const OutputNorm outputs(Thinned(inputs, k), k, nullptr);
  std::vector<float> means = Means(inputs, k);
  ASSIGN_OR_RETURN(std::vector<float> sizes, WeightSizes(checkpoint, team, linears, k, group));
  tie(&means);
  tie(&sizes);
  std::vector<std::vector<float>> scales;
  for (const bool of_weights : {false, true}) {
    for (int i = 0; i < kAlphas; ++i) {
      const double alpha = static_cast<double>(i) / kAlphas;
      scales.push_back(Scales(means, alpha, sizes, of_weights ? 1 - alpha : 0));
    }
  }
  std::vector<std::array<double, kCandidates>> losses(static_cast<size_t>(team->size()));
  RETURN_IF_ERROR(ForSample(checkpoint, team, linears, k, [&](const std::vector<float>& w, int64_t rows, int worker) {
    std::vector<float> scaled(w.size());
    std::vector<int8_t> codes(w.size());
    std::vector<BF16> group_scales(static_cast<size_t>(k / group));
    for (int i = 0; i < kCandidates; ++i) {
      const std::vector<float>& s = scales[static_cast<size_t>(i)];
      for (size_t j = 0; j < w.size(); ++j) scaled[j] = w[j] * s[j];
      RoundRow(scaled.data(), k, group, {codes.data(), group_scales.data()});
      for (size_t j = 0; j < w.size(); ++j) {
        const float scale = ToFloat(group_scales[static_cast<size_t>(static_cast<int64_t>(j) / group)]);
        scaled[j] = w[j] - scale * static_cast<float>(codes[j]) / s[j];
      }
      const double loss = outputs.Square(scaled.data()) * static_cast<double>(rows);
      losses[static_cast<size_t>(worker)][static_cast<size_t>(i)] += loss;
    }
  }));
  size_t best = 0;
  std::array<double, kCandidates> sums = {};
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
  const auto best = [&](std::vector<std::string> linears, const model::LinearInputs& of, int64_t k,
                        FunctionRef<void(std::vector<float>*)> tie) -> Expected<std::vector<float>> {
    std::erase_if(linears, [&](const std::string& linear) { return !rounded(linear); });
    if (linears.empty()) return std::vector<float>();
    return BestScales(checkpoint, team, linears, of, k, group, tie);
  };
  const auto each = [](std::vector<float>*) {};
  // The query heads of a group share their v head, and so its scales.
  const auto by_v = [&](std::vector<float>* sizes) {
    std::vector<float> of_v(static_cast<size_t>(c.num_kv_heads * c.head_dim), 0.0f);
    const auto heads = static_cast<float>(c.num_heads / c.num_kv_heads);
    for (size_t i = 0; i < sizes->size(); ++i) of_v[ValueChannel(c, i)] += (*sizes)[i] / heads;
    for (size_t i = 0; i < sizes->size(); ++i) (*sizes)[i] = of_v[ValueChannel(c, i)];
  };
  LayerSmoothing found;
  ASSIGN_OR_RETURN(found.qkv, best({attention + "q_proj", attention + "k_proj", attention + "v_proj"}, inputs.qkv,
                                   c.hidden_size, each));
  ASSIGN_OR_RETURN(found.gate_up, best({mlp + "gate_proj", mlp + "up_proj"}, inputs.gate_up, c.hidden_size, each));
  ASSIGN_OR_RETURN(found.down, best({mlp + "down_proj"}, inputs.down, c.intermediate_size, each));
  ASSIGN_OR_RETURN(found.o, best({attention + "o_proj"}, inputs.o, c.num_heads * c.head_dim, by_v));
  if (found.o.empty()) return found;
  found.v.resize(static_cast<size_t>(c.num_kv_heads * c.head_dim));
  for (size_t i = 0; i < found.o.size(); ++i) found.v[ValueChannel(c, i)] = found.o[i];
  return found;
}

}  // namespace tiercel::quantize
