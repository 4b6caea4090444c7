#include "quantize/layer_linears.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <utility>

namespace tiercel::quantize {

bool IsExcluded(const std::vector<std::string>& patterns, const std::string& linear) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) {
    return ::fnmatch(p.c_str(), linear.c_str(), FNM_NOESCAPE) == 0;
  });
}

std::vector<LinearJob> LinearsOf(const checkpoint::ModelConfig& c, int64_t layer, const LayerSmoothing& smooth,
                                 const std::vector<std::string>& excluded) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const int64_t q = c.num_heads * c.head_dim;
  const int64_t kv = c.num_kv_heads * c.head_dim;
  const auto part = [](const std::vector<float>& v) { return v.empty() ? nullptr : &v; };
  const std::vector<float>*qkv = part(smooth.qkv), *v = part(smooth.v), *o = part(smooth.o),
                          *gate_up = part(smooth.gate_up), *down = part(smooth.down);
  std::vector<LinearJob> jobs;
  const auto add = [&](const char* name, int64_t n, int64_t k, bool has_bias,
                       const std::vector<float>* columns, const std::vector<float>* rows = nullptr) {
    LinearJob job;
    job.name = prefix + name;
    job.n = n;
    job.k = k;
    job.has_bias = has_bias;
    job.columns = columns;
    job.rows = rows;
    job.excluded = IsExcluded(excluded, job.name);
    jobs.push_back(std::move(job));
  };
  add("self_attn.q_proj", q, c.hidden_size, c.qkv_bias, qkv);
  add("self_attn.k_proj", kv, c.hidden_size, c.qkv_bias, qkv);
  add("self_attn.v_proj", kv, c.hidden_size, c.qkv_bias, qkv, v);
  add("self_attn.o_proj", c.hidden_size, q, c.o_bias, o);
  add("mlp.gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, gate_up);
  add("mlp.up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, gate_up, down);
  add("mlp.down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, down);
  return jobs;
}

std::vector<std::string> NormsOf(const checkpoint::ModelConfig& config, int64_t layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  std::vector<std::string> names = {prefix + "input_layernorm.weight",
                                    prefix + "post_attention_layernorm.weight"};
  if (config.qk_norm) {
    names.push_back(prefix + "self_attn.q_norm.weight");
    names.push_back(prefix + "self_attn.k_norm.weight");
  }
  return names;
}

std::array<model::LinearInputs*, 7> InputsOf(model::LayerInputs* inputs) {
  return {&inputs->qkv, &inputs->qkv, &inputs->qkv, &inputs->o, &inputs->gate_up, &inputs->gate_up, &inputs->down};
}

std::string NameInLayer(const std::string& linear) {
  return linear.substr(linear.find('.', std::string_view("model.layers.").size()) + 1);
}

Status LinearSource::ReadRow(int64_t row, float* out) const {
  RETURN_IF_ERROR(checkpoint_.ReadRows(job_.name + ".weight", row, row + 1, out));
  if (job_.columns != nullptr) {
    for (int64_t i = 0; i < job_.k; ++i) out[i] *= (*job_.columns)[i];
  }
  if (job_.rows != nullptr) {
    for (int64_t i = 0; i < job_.k; ++i) out[i] /= (*job_.rows)[row];
  }
  return OkStatus();
}

Expected<std::vector<float>> LinearSource::ReadBias() const {
  std::vector<float> bias(job_.has_bias ? job_.n : 0);
  if (bias.empty()) return bias;
  RETURN_IF_ERROR(checkpoint_.ReadRows(job_.name + ".bias", 0, job_.n, bias.data()));
  for (int64_t r = 0; r < job_.n && job_.rows != nullptr; ++r) bias[r] /= (*job_.rows)[r];
  return bias;
}

}  // namespace tiercel::quantize
