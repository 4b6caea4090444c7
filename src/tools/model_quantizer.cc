#include "tools/model_quantizer.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "base/check.h"
#include "model/layer_calibration.h"
#include "model/linear_tensors.h"
#include "model/safetensors_writer.h"
#include "model/tensor_reader.h"
#include "options/json_value.h"
#include "tools/smoothing.h"

namespace tiercel::tools {
namespace {

using model::ChannelRanges;
using model::LayerCalibration;
using model::LayerInputs;
using model::LinearInputs;
using model::PlannedTensor;

constexpr float kLeastCacheScale = 1e-10f;  // of a channel that is always 0

const char* TypeName(QuantScheme scheme) {
  switch (scheme) {
    case QuantScheme::kStatic: return "W8A8";
    case QuantScheme::kDynamic: return "W8A8_DYNAMIC";
    case QuantScheme::kMix: return "W8A8_MIX";
  }
  return "";
}

bool IsStatic(QuantScheme scheme) { return scheme != QuantScheme::kDynamic; }
bool HasWeightScale(QuantScheme scheme) { return scheme != QuantScheme::kStatic; }

// A linear of the checkpoint and what smoothing does to it: w'[r, c] = w[r, c] · columns[c] / rows[r].
struct LinearJob {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t n = 0, k = 0;
  bool has_bias = false;
  const std::vector<float>* columns = nullptr;  // null: 1
  const std::vector<float>* rows = nullptr;
  const LinearInputs* inputs = nullptr;  // before smoothing; null: not calibrated
  QuantScheme scheme = QuantScheme::kDynamic;
  bool excluded = false;  // stays float
};

class Quantizer {
 public:
  Quantizer(const model::Checkpoint& checkpoint, const QuantizeOptions& options,
            kernels::Environment* environment, const std::string& folder,
            const QuantizeCallbacks& callbacks)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        options_(options),
        environment_(environment),
        folder_(folder),
        callbacks_(callbacks) {}

  Status Run();

 private:
  bool IsExcluded(const std::string& linear) const;

  std::vector<LinearJob> LinearsOf(int64_t layer) const;
  std::vector<std::string> NormsOf(int64_t layer) const;
  // Everything that is read is there, in the shapes of config.json; adds up total_.
  Status CheckAll(const std::vector<std::string>& ends);
  void PlanLinear(const LinearJob& job);
  void PlanFloat(const std::string& name);
  void PlanCache(int64_t layer);
  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape, const char* type);
  Status BeginPart();
  Status WriteDescription() const;

  Status QuantizeLayer(int64_t layer);
  Status WriteCache(int64_t layer, const LayerInputs& inputs);
  Status WriteNorm(const std::string& name, const std::vector<float>* smooth);
  Status WriteFloat(const std::string& name);
  Status WriteLinear(const LinearJob& job, double* error);
  Status ReadRow(const LinearJob& job, int64_t row, float* out) const;
  Status WriteBias(const LinearJob& job, const std::vector<float>& bias);
  void Advance(const std::string& tensor);

  const model::Checkpoint& checkpoint_;
  const model::ModelConfig& config_;
  const QuantizeOptions& options_;
  kernels::Environment* const environment_;
  const std::string folder_;
  const QuantizeCallbacks& callbacks_;

  std::vector<PlannedTensor> plan_;  // of the part that begins next
  std::vector<std::pair<std::string, std::string>> types_;  // the description's entries
  std::optional<model::SafetensorsWriter> writer_;  // a part for each layer and one for the ends
  std::unique_ptr<LayerCalibration> calibration_;
  int64_t done_ = 0, total_ = 0;

  LayerSmoothing smooth_;  // of the current layer
};

int64_t Elements(const model::TensorInfo& info) {
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  return count;
}

bool Quantizer::IsExcluded(const std::string& linear) const {
  return std::any_of(options_.exclude.begin(), options_.exclude.end(), [&](const std::string& p) {
    return ::fnmatch(p.c_str(), linear.c_str(), FNM_NOESCAPE) == 0;
  });
}

std::vector<LinearJob> Quantizer::LinearsOf(int64_t layer) const {
  const model::ModelConfig& c = config_;
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const int64_t q = c.num_heads * c.head_dim;
  const int64_t kv = c.num_kv_heads * c.head_dim;
  const auto part = [](const std::vector<float>& v) { return v.empty() ? nullptr : &v; };
  const std::vector<float>*qkv = part(smooth_.qkv), *v = part(smooth_.v), *o = part(smooth_.o),
                          *gate_up = part(smooth_.gate_up), *down = part(smooth_.down);
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
    job.scheme = options_.scheme;
    job.excluded = IsExcluded(job.name);
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

std::vector<std::string> Quantizer::NormsOf(int64_t layer) const {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  std::vector<std::string> names = {prefix + "input_layernorm.weight",
                                    prefix + "post_attention_layernorm.weight"};
  if (config_.qk_norm) {
    names.push_back(prefix + "self_attn.q_norm.weight");
    names.push_back(prefix + "self_attn.k_norm.weight");
  }
  return names;
}

void Quantizer::Add(const std::string& name, DType dtype, std::vector<int64_t> shape,
                    const char* type) {
  plan_.push_back({name, dtype, std::move(shape)});
  types_.emplace_back(name, type);
}

void Quantizer::PlanFloat(const std::string& name) {
  Add(name, DType::kBF16, checkpoint_.Find(name)->shape, "FLOAT");
}

void Quantizer::PlanLinear(const LinearJob& job) {
  if (job.excluded) {
    Add(job.name + ".weight", DType::kBF16, {job.n, job.k}, "FLOAT");
    if (job.has_bias) Add(job.name + ".bias", DType::kBF16, {job.n}, "FLOAT");
    return;
  }
  const char* const type = TypeName(job.scheme);
  Add(job.name + ".weight", DType::kI8, {job.n, job.k}, type);
  if (IsStatic(job.scheme)) {
    Add(job.name + ".quant_bias", DType::kI32, {job.n}, type);
    Add(job.name + ".input_scale", DType::kF32, {1}, type);
    Add(job.name + ".input_offset", DType::kF32, {1}, type);
    Add(job.name + ".deq_scale", DType::kF32, {job.n}, type);
  }
  if (HasWeightScale(job.scheme)) {
    Add(job.name + ".weight_scale", DType::kF32, {job.n, 1}, type);
    Add(job.name + ".weight_offset", DType::kF32, {job.n, 1}, type);
  }
  if (job.has_bias) Add(job.name + ".bias", DType::kF32, {job.n}, "FLOAT");
}

// The names of a layer's scales and offsets of its INT8 cache.
std::array<std::string, 4> CacheNames(int64_t layer) {
  const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
  return {attention + "k_proj.kv_cache_scale", attention + "k_proj.kv_cache_offset",
          attention + "v_proj.kv_cache_scale", attention + "v_proj.kv_cache_offset"};
}

void Quantizer::PlanCache(int64_t layer) {
  for (const std::string& name : CacheNames(layer)) {
    Add(name, DType::kF32, {config_.num_kv_heads * config_.head_dim}, "C8");
  }
}

Status Quantizer::BeginPart() {
  return writer_->BeginPart(std::exchange(plan_, {}));
}

Status Quantizer::WriteDescription() const {
  const std::string path = folder_ + "/quant_model_description.json";
  std::ofstream file(path);
  file << "{\n";
  for (const auto& [name, type] : types_) {
    file << "    " << options::JsonQuote(name) << ": " << options::JsonQuote(type) << ",\n";
  }
  if (options_.kv_int8) file << "    \"kv_cache_type\": \"C8\",\n";
  file << "    \"version\": \"1.0.0\",\n    \"model_quant_type\": \"" << TypeName(options_.scheme)
       << "\",\n    \"metadata\": {},\n    \"group_size\": 0,\n    \"optional\": {}\n}\n";
  file.close();
  return file ? OkStatus() : ResourceExhausted("{}: cannot be written", path);
}

Status Quantizer::CheckAll(const std::vector<std::string>& ends) {
  const auto check_float = [&](const std::string& name) -> Status {
    const std::optional<model::TensorInfo> info = checkpoint_.Find(name);
    if (!info) return model::CheckTensor(checkpoint_, name, {});
    total_ += Elements(*info);
    return OkStatus();
  };
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    for (const LinearJob& job : LinearsOf(i)) {
      RETURN_IF_ERROR(model::CheckTensor(checkpoint_, job.name + ".weight", {job.n, job.k}));
      total_ += job.n * job.k;
    }
    for (const std::string& name : NormsOf(i)) RETURN_IF_ERROR(check_float(name));
  }
  for (const std::string& name : ends) RETURN_IF_ERROR(check_float(name));
  total_ *= static_cast<int64_t>(sizeof(BF16));
  return OkStatus();
}

Status Quantizer::Run() {
  std::vector<std::string> ends = {"model.embed_tokens.weight", "model.norm.weight"};
  if (!config_.tie_word_embeddings) ends.push_back("lm_head.weight");
  RETURN_IF_ERROR(CheckAll(ends));
  writer_.emplace(folder_, "quant_model_weights", static_cast<int>(config_.num_layers) + 1);
  if (!options_.calibration.empty()) {
    ASSIGN_OR_RETURN(calibration_, LayerCalibration::Create(checkpoint_, environment_,
                                                            options_.calibration));
  }
  for (int64_t i = 0; i < config_.num_layers; ++i) RETURN_IF_ERROR(QuantizeLayer(i));
  for (const std::string& name : ends) PlanFloat(name);
  RETURN_IF_ERROR(BeginPart());
  for (const std::string& name : ends) RETURN_IF_ERROR(WriteFloat(name));
  RETURN_IF_ERROR(writer_->Finish());
  return WriteDescription();
}

Status Quantizer::QuantizeLayer(int64_t layer) {
  LayerInputs inputs;
  if (calibration_ != nullptr) {
    ASSIGN_OR_RETURN(inputs, calibration_->NextLayer());
    if (options_.smooth > 0) {
      ASSIGN_OR_RETURN(smooth_, FindSmoothing(checkpoint_, environment_->team.get(), layer, inputs,
                                              options_.smooth));
    }
  }
  std::vector<LinearError> errors;
  std::vector<LinearJob> jobs = LinearsOf(layer);
  const LinearInputs* const inputs_of[] = {&inputs.qkv,     &inputs.qkv,     &inputs.qkv, &inputs.o,
                                           &inputs.gate_up, &inputs.gate_up, &inputs.down};
  for (size_t i = 0; i < jobs.size(); ++i) {
    LinearJob& job = jobs[i];
    LinearError error;
    error.name = job.name.substr(job.name.find('.', 13) + 1);
    if (calibration_ != nullptr) {
      job.inputs = inputs_of[i];
      // Linears with one input are one matmul: what they lose is the same for all of them.
      error.inputs = i > 0 && job.inputs == jobs[i - 1].inputs ? errors.back().inputs
                                                               : LossOf(*job.inputs, job.columns);
    }
    if (job.scheme == QuantScheme::kStatic && error.inputs.one_scale > options_.static_loss) {
      job.scheme = QuantScheme::kDynamic;
    }
    error.per_token = !job.excluded && job.scheme == QuantScheme::kDynamic;
    errors.push_back(std::move(error));
    PlanLinear(job);
  }
  for (const std::string& name : NormsOf(layer)) PlanFloat(name);
  if (options_.kv_int8) PlanCache(layer);
  RETURN_IF_ERROR(BeginPart());

  for (size_t i = 0; i < jobs.size(); ++i) RETURN_IF_ERROR(WriteLinear(jobs[i], &errors[i].error));
  for (const std::string& name : NormsOf(layer)) {
    const bool input = name.ends_with("input_layernorm.weight");
    const bool post = name.ends_with("post_attention_layernorm.weight");
    const std::vector<float>& smooth = input ? smooth_.qkv : smooth_.gate_up;
    RETURN_IF_ERROR(WriteNorm(name, (input || post) && !smooth.empty() ? &smooth : nullptr));
  }
  if (options_.kv_int8) RETURN_IF_ERROR(WriteCache(layer, inputs));
  if (callbacks_.layer) callbacks_.layer(layer, errors);
  return OkStatus();
}

// Symmetric: a key's offset would cancel out in the softmax, and not every reader has them.
Status Quantizer::WriteCache(int64_t layer, const LayerInputs& inputs) {
  const std::array<std::string, 4> names = CacheNames(layer);
  // What smoothing divides v by.
  const std::vector<float> one(inputs.v.min.size(), 1.0f);
  const std::vector<float>& smooth_v = smooth_.v.empty() ? one : smooth_.v;
  const auto write = [&](const ChannelRanges& ranges, const std::vector<float>& smooth,
                         const std::string& scale_name, const std::string& offset_name) -> Status {
    std::vector<float> scale = ranges.Largest();
    for (size_t i = 0; i < scale.size(); ++i) {
      scale[i] = std::max(scale[i] / smooth[i] / 127.0f, kLeastCacheScale);
    }
    RETURN_IF_ERROR(writer_->WriteValues(scale_name, scale));
    return writer_->WriteValues(offset_name, std::vector<float>(scale.size(), 0.0f));
  };
  RETURN_IF_ERROR(write(inputs.k, one, names[0], names[1]));
  return write(inputs.v, smooth_v, names[2], names[3]);
}

Status Quantizer::ReadRow(const LinearJob& job, int64_t row, float* out) const {
  RETURN_IF_ERROR(checkpoint_.ReadRows(job.name + ".weight", row, row + 1, out));
  if (job.columns != nullptr) {
    for (int64_t i = 0; i < job.k; ++i) out[i] *= (*job.columns)[i];
  }
  if (job.rows != nullptr) {
    for (int64_t i = 0; i < job.k; ++i) out[i] /= (*job.rows)[row];
  }
  return OkStatus();
}

void Quantizer::Advance(const std::string& tensor) {
  checkpoint_.DontNeed(tensor);
  done_ += Elements(*checkpoint_.Find(tensor)) * static_cast<int64_t>(sizeof(BF16));
  if (callbacks_.progress) callbacks_.progress(done_, total_);
}

Status Quantizer::WriteNorm(const std::string& name, const std::vector<float>* smooth) {
  if (smooth == nullptr) return WriteFloat(name);
  std::vector<float> values(smooth->size());
  RETURN_IF_ERROR(checkpoint_.ReadRows(name, 0, std::ssize(values), values.data()));
  std::vector<BF16> out;
  for (size_t i = 0; i < values.size(); ++i) out.push_back(ToBF16(values[i] / (*smooth)[i]));
  RETURN_IF_ERROR(writer_->WriteValues(name, out));
  Advance(name);
  return OkStatus();
}

Status Quantizer::WriteFloat(const std::string& name) {
  const model::TensorInfo info = *checkpoint_.Find(name);
  std::vector<BF16> values(static_cast<size_t>(Elements(info)));
  RETURN_IF_ERROR(checkpoint_.ReadRows(name, 0, info.shape[0], values.data()));
  RETURN_IF_ERROR(writer_->WriteValues(name, values));
  Advance(name);
  return OkStatus();
}

Status Quantizer::WriteBias(const LinearJob& job, const std::vector<float>& bias) {
  if (!job.has_bias) return OkStatus();
  if (!job.excluded) return writer_->WriteValues(job.name + ".bias", bias);
  std::vector<BF16> rounded;
  for (const float b : bias) rounded.push_back(ToBF16(b));
  return writer_->WriteValues(job.name + ".bias", rounded);
}

Status Quantizer::WriteLinear(const LinearJob& job, double* error) {
  const int workers = environment_->team->size();
  std::vector<std::vector<float>> row(workers, std::vector<float>(job.k));
  std::vector<float> bias(job.has_bias ? job.n : 0);
  if (job.has_bias) {
    RETURN_IF_ERROR(checkpoint_.ReadRows(job.name + ".bias", 0, job.n, bias.data()));
    for (int64_t r = 0; r < job.n && job.rows != nullptr; ++r) bias[r] /= (*job.rows)[r];
  }
  const std::string weight = job.name + ".weight";
  if (job.excluded) {
    std::vector<BF16> values(static_cast<size_t>(job.n * job.k));
    RETURN_IF_ERROR(ForRows(environment_->team.get(), job.n, [&](int64_t r, int worker) -> Status {
      RETURN_IF_ERROR(ReadRow(job, r, row[worker].data()));
      for (int64_t i = 0; i < job.k; ++i) values[r * job.k + i] = ToBF16(row[worker][i]);
      return OkStatus();
    }));
    RETURN_IF_ERROR(writer_->WriteValues(weight, values));
    RETURN_IF_ERROR(WriteBias(job, bias));
    Advance(weight);
    return OkStatus();
  }

  std::vector<int8_t> values(static_cast<size_t>(job.n * job.k));
  std::vector<float> scale(job.n);
  std::vector<int32_t> sums(job.n, 0);
  std::vector<double> lost(job.n), norm(job.n);
  RETURN_IF_ERROR(ForRows(environment_->team.get(), job.n, [&](int64_t r, int worker) -> Status {
    float* const w = row[worker].data();
    RETURN_IF_ERROR(ReadRow(job, r, w));
    int8_t* const q = values.data() + r * job.k;
    scale[r] = model::QuantizeRow(w, job.k, q);
    if (!std::isfinite(scale[r])) {
      return InvalidArgument("{}: row {} has values that are not finite", weight, r);
    }
    for (int64_t i = 0; i < job.k; ++i) {
      sums[r] += q[i];
      const double difference = w[i] - scale[r] * q[i];
      lost[r] += difference * difference;
      norm[r] += double{w[i]} * w[i];
    }
    return OkStatus();
  }));
  double all_lost = 0, all = 0;
  for (int64_t r = 0; r < job.n; ++r) {
    all_lost += lost[r];
    all += norm[r];
  }
  *error = all > 0 ? std::sqrt(all_lost / all) : 0;

  RETURN_IF_ERROR(writer_->WriteValues(weight, values));
  if (IsStatic(job.scheme)) {
    const StaticInput input = StaticInputOf(job.inputs->ranges, job.columns);
    std::vector<float> deq(job.n);
    std::vector<int32_t> quant_bias(job.n);
    for (int64_t r = 0; r < job.n; ++r) {
      deq[r] = input.scale * scale[r];
      const double b = job.has_bias ? bias[r] / deq[r] : 0;
      quant_bias[r] = static_cast<int32_t>(
          std::clamp(std::nearbyint(b - double{input.offset} * sums[r]), -2147483648.0, 2147483647.0));
    }
    RETURN_IF_ERROR(writer_->WriteValues(job.name + ".quant_bias", quant_bias));
    RETURN_IF_ERROR(writer_->WriteValues(job.name + ".input_scale", std::vector{input.scale}));
    RETURN_IF_ERROR(writer_->WriteValues(job.name + ".input_offset", std::vector{input.offset}));
    RETURN_IF_ERROR(writer_->WriteValues(job.name + ".deq_scale", deq));
  }
  if (HasWeightScale(job.scheme)) {
    RETURN_IF_ERROR(writer_->WriteValues(job.name + ".weight_scale", scale));
    RETURN_IF_ERROR(
        writer_->WriteValues(job.name + ".weight_offset", std::vector<float>(job.n, 0.0f)));
  }
  RETURN_IF_ERROR(WriteBias(job, bias));
  Advance(weight);
  return OkStatus();
}

}  // namespace

Status QuantizeModel(const model::Checkpoint& checkpoint, const QuantizeOptions& options,
                     kernels::Environment* environment, const std::string& folder,
                     const QuantizeCallbacks& callbacks) {
  if (checkpoint.quantization().method() != model::QuantMethod::kNone) {
    return InvalidArgument("{}: is quantized already; give the float model",
                           checkpoint.quantization().path());
  }
  if (options.calibration.empty() &&
      (options.scheme != QuantScheme::kDynamic || options.smooth > 0 || options.kv_int8)) {
    return InvalidArgument("{} needs --calibration FILE: a text like those that the model will get",
                           options.smooth > 0                         ? "smoothing"
                           : options.scheme != QuantScheme::kDynamic ? TypeName(options.scheme)
                                                                      : "the INT8 cache");
  }
  return Quantizer(checkpoint, options, environment, folder, callbacks).Run();
}

}  // namespace tiercel::tools
