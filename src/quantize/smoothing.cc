#include "quantize/smoothing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace tiercel::quantize {
namespace {

constexpr float kLeastScale = 1e-5f;

// max|w| of every column over all rows of the linears, divided by `rows` (null: 1).
Expected<std::vector<float>> ColumnMax(const checkpoint::Checkpoint& checkpoint,
                                       platform::WorkerTeam* team,
                                       const std::vector<std::string>& linears, int64_t k,
                                       const std::vector<float>* rows = nullptr) {
  const int workers = team->size();
  std::vector<std::vector<float>> largest(workers, std::vector<float>(k, 0)), row = largest;
  for (const std::string& linear : linears) {
    const std::string name = linear + ".weight";
    const int64_t n = checkpoint.Find(name)->shape[0];
    RETURN_IF_ERROR(ForRows(team, n, [&](int64_t r, int worker) -> Status {
      RETURN_IF_ERROR(checkpoint.ReadRows(name, r, r + 1, row[worker].data()));
      const float divisor = rows == nullptr ? 1.0f : (*rows)[r];
      for (int64_t i = 0; i < k; ++i) {
        largest[worker][i] = std::max(largest[worker][i], std::fabs(row[worker][i]) / divisor);
      }
      return OkStatus();
    }));
  }
  for (int worker = 1; worker < workers; ++worker) {
    for (int64_t i = 0; i < k; ++i) largest[0][i] = std::max(largest[0][i], largest[worker][i]);
  }
  return std::move(largest[0]);
}

std::vector<float> Scales(const std::vector<float>& inputs, const std::vector<float>& weights,
                          double alpha) {
  std::vector<float> scales(inputs.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    const double s = std::pow(std::max(inputs[i], kLeastScale), alpha) /
                     std::pow(std::max(weights[i], kLeastScale), 1 - alpha);
    scales[i] = std::max(static_cast<float>(s), kLeastScale);
  }
  return scales;
}

}  // namespace

size_t ValueChannel(const checkpoint::ModelConfig& config, size_t i) {
  const auto head = static_cast<size_t>(config.head_dim), heads = static_cast<size_t>(config.num_heads / config.num_kv_heads);
  return i / head / heads * head + i % head;
}

Status ForRows(platform::WorkerTeam* team, int64_t n,
               FunctionRef<Status(int64_t row, int worker)> body) {
  std::vector<Status> status(team->size());
  team->Run([&](int worker) {
    const Range rows = SplitRange(n, 1, {worker, team->size()});
    for (int64_t r = rows.begin; r < rows.end && status[worker].ok(); ++r) {
      status[worker] = body(r, worker);
    }
  });
  for (Status& s : status) RETURN_IF_ERROR(std::move(s));
  return OkStatus();
}

// From the back of each block to its front: what is folded into v and up changes their columns.
Expected<LayerSmoothing> FindSmoothing(const checkpoint::Checkpoint& checkpoint,
                                       platform::WorkerTeam* team, int64_t layer,
                                       const model::LayerInputs& inputs, double alpha) {
  const checkpoint::ModelConfig& c = checkpoint.config();
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  LayerSmoothing smooth;

  // o's inputs come from v: the query heads of a group share their v head, and so its scales.
  const int64_t q_width = c.num_heads * c.head_dim;
  ASSIGN_OR_RETURN(const std::vector<float> o_columns,
                   ColumnMax(checkpoint, team, {attention + "o_proj"}, q_width));
  const std::vector<float> o_inputs = inputs.o.ranges.Largest();
  const auto v_of = [&](int64_t i) { return ValueChannel(c, static_cast<size_t>(i)); };
  std::vector<float> v_inputs(c.num_kv_heads * c.head_dim, 0), v_columns = v_inputs;
  for (int64_t i = 0; i < q_width; ++i) {
    v_inputs[v_of(i)] = std::max(v_inputs[v_of(i)], o_inputs[i]);
    v_columns[v_of(i)] = std::max(v_columns[v_of(i)], o_columns[i]);
  }
  smooth.v = Scales(v_inputs, v_columns, alpha);
  smooth.o.resize(q_width);
  for (int64_t i = 0; i < q_width; ++i) smooth.o[i] = smooth.v[v_of(i)];

  ASSIGN_OR_RETURN(const std::vector<float> down_columns,
                   ColumnMax(checkpoint, team, {mlp + "down_proj"}, c.intermediate_size));
  smooth.down = Scales(inputs.down.ranges.Largest(), down_columns, alpha);

  const auto norm_linear = [&](const std::vector<std::string>& plain, const std::string& scaled,
                               const std::vector<float>& rows, const model::LinearInputs& into)
      -> Expected<std::vector<float>> {
    ASSIGN_OR_RETURN(std::vector<float> largest, ColumnMax(checkpoint, team, plain, c.hidden_size));
    ASSIGN_OR_RETURN(const std::vector<float> other,
                     ColumnMax(checkpoint, team, {scaled}, c.hidden_size, &rows));
    for (size_t i = 0; i < largest.size(); ++i) largest[i] = std::max(largest[i], other[i]);
    return Scales(into.ranges.Largest(), largest, alpha);
  };
  ASSIGN_OR_RETURN(smooth.qkv, norm_linear({attention + "q_proj", attention + "k_proj"},
                                           attention + "v_proj", smooth.v, inputs.qkv));
  ASSIGN_OR_RETURN(smooth.gate_up,
                   norm_linear({mlp + "gate_proj"}, mlp + "up_proj", smooth.down, inputs.gate_up));
  return smooth;
}

}  // namespace tiercel::quantize
