#include "quantize/model_quantizer.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "base/check.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/tensor_reader.h"
#include "model/layer_calibration.h"
#include "quantize/ascend_format.h"
#include "quantize/ascend_int4_format.h"
#include "quantize/awq.h"
#include "quantize/packed_format.h"
#include "quantize/smoothing.h"
#include "tensor/shape.h"

namespace tiercel::quantize {
namespace {

using model::ChannelRanges;
using model::LayerCalibration;
using model::LayerInputs;
using model::LinearInputs;
using checkpoint::PlannedTensor;

constexpr float kLeastCacheScale = 1e-10f;  // of a channel that is always 0

class Quantizer {
 public:
  Quantizer(const checkpoint::Checkpoint& checkpoint, const QuantizeOptions& options,
            kernels::Environment* environment, const std::string& folder,
            const QuantizeCallbacks& callbacks)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        options_(options),
        environment_(environment),
        folder_(folder),
        callbacks_(callbacks) {
    if (options.scheme == QuantScheme::kInt4) {
      format_ = std::make_unique<PackedFormat>(options, environment->team.get());
    } else if (options.scheme == QuantScheme::kW4A8) {
      format_ = std::make_unique<AscendInt4Format>(options, environment->team.get());
    } else {
      format_ = std::make_unique<AscendFormat>(options, environment->team.get());
    }
  }

  Expected<std::string> Run();

 private:
  std::vector<LinearJob> Linears(int64_t layer) const { return LinearsOf(config_, layer, smooth_, options_.exclude); }
  // Everything that is read is there, in the shapes of config.json; adds up total_.
  Status CheckAll(const std::vector<std::string>& ends);
  void PlanLinear(const LinearJob& job, LinearError* error);
  void PlanFloat(const std::string& name);
  void PlanCache(int64_t layer);
  Status BeginPart();

  Status QuantizeLayer(int64_t layer);
  Status WriteCache(int64_t layer, const LayerInputs& inputs);
  Status WriteNorm(const std::string& name, const std::vector<float>* smooth);
  Status WriteFloat(const std::string& name);
  Status WriteLinear(const LinearJob& job, LinearError* error);
  Status WriteExcluded(const LinearJob& job, const LinearSource& source);
  Status Advance(const std::string& tensor);

  const checkpoint::Checkpoint& checkpoint_;
  const checkpoint::ModelConfig& config_;
  const QuantizeOptions& options_;
  kernels::Environment* const environment_;
  const std::string folder_;
  const QuantizeCallbacks& callbacks_;

  std::unique_ptr<LinearFormat> format_;
  std::vector<TypedTensor> plan_;     // of the part that begins next
  std::vector<TypedTensor> planned_;  // of those before
  std::vector<std::string> excluded_;
  std::optional<checkpoint::SafetensorsWriter> writer_;  // a part for each layer and one for the ends
  std::unique_ptr<LayerCalibration> calibration_;
  int64_t done_ = 0, total_ = 0;

  LayerSmoothing smooth_;  // of the current layer
};

void Quantizer::PlanFloat(const std::string& name) {
  plan_.push_back({{name, DType::kBF16, checkpoint_.Find(name)->shape}});
}

void Quantizer::PlanLinear(const LinearJob& job, LinearError* error) {
  if (!job.excluded) {
    for (TypedTensor& tensor : format_->Plan(job, error)) plan_.push_back(std::move(tensor));
    return;
  }
  excluded_.push_back(job.name);
  plan_.push_back({{job.name + ".weight", DType::kBF16, {job.n, job.k}}});
  if (job.has_bias) plan_.push_back({{job.name + ".bias", DType::kBF16, {job.n}}});
}

// The names of a layer's scales and offsets of its INT8 cache.
std::array<std::string, 4> CacheNames(int64_t layer) {
  const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
  return {attention + "k_proj.kv_cache_scale", attention + "k_proj.kv_cache_offset",
          attention + "v_proj.kv_cache_scale", attention + "v_proj.kv_cache_offset"};
}

void Quantizer::PlanCache(int64_t layer) {
  for (const std::string& name : CacheNames(layer)) {
    plan_.push_back({{name, DType::kF32, {config_.num_kv_heads * config_.head_dim}}, "C8"});
  }
}

Status Quantizer::BeginPart() {
  std::vector<PlannedTensor> tensors;
  for (TypedTensor& typed : plan_) {
    tensors.push_back(typed.tensor);
    planned_.push_back(std::move(typed));
  }
  plan_.clear();
  return writer_->BeginPart(std::move(tensors));
}

Status Quantizer::CheckAll(const std::vector<std::string>& ends) {
  const auto check_float = [&](const std::string& name) -> Status {
    const std::optional<checkpoint::TensorInfo> info = checkpoint_.Find(name);
    if (!info) return checkpoint::CheckTensor(checkpoint_, name, {});
    total_ += ElementsOf(info->shape);
    return OkStatus();
  };
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    for (const LinearJob& job : Linears(i)) {
      RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint_, job.name + ".weight", {job.n, job.k}));
      RETURN_IF_ERROR(format_->Check(job));
      total_ += job.n * job.k;
    }
    for (const std::string& name : NormsOf(config_, i)) RETURN_IF_ERROR(check_float(name));
  }
  for (const std::string& name : ends) RETURN_IF_ERROR(check_float(name));
  total_ *= static_cast<int64_t>(sizeof(BF16));
  return OkStatus();
}

Expected<std::string> Quantizer::Run() {
  std::vector<std::string> ends = {"model.embed_tokens.weight", "model.norm.weight"};
  if (!config_.tie_word_embeddings) ends.push_back("lm_head.weight");
  RETURN_IF_ERROR(CheckAll(ends));
  const char* const prefix = options_.scheme == QuantScheme::kInt4 ? "model" : "quant_model_weights";
  writer_.emplace(folder_, prefix, static_cast<int>(config_.num_layers) + 1);
  if (!options_.calibration.empty()) {
    ASSIGN_OR_RETURN(calibration_, LayerCalibration::Create(checkpoint_, environment_,
                                                            options_.calibration));
  }
  for (int64_t i = 0; i < config_.num_layers; ++i) RETURN_IF_ERROR(QuantizeLayer(i));
  for (const std::string& name : ends) PlanFloat(name);
  RETURN_IF_ERROR(BeginPart());
  for (const std::string& name : ends) RETURN_IF_ERROR(WriteFloat(name));
  RETURN_IF_ERROR(writer_->Finish());
  RETURN_IF_ERROR(format_->Finish(planned_, folder_));
  return format_->Config(excluded_);
}

Status Quantizer::QuantizeLayer(int64_t layer) {
  LayerInputs inputs;
  if (calibration_ != nullptr) {
    const bool products = options_.method == Rounding::kGptq;
    ASSIGN_OR_RETURN(inputs, calibration_->NextLayer(products));
    if (options_.smooth > 0) {
      ASSIGN_OR_RETURN(smooth_, FindSmoothing(checkpoint_, environment_->team.get(), layer, inputs,
                                              options_.smooth));
    } else if (options_.method == Rounding::kAwq) {
      ASSIGN_OR_RETURN(smooth_, FindAwqScales(checkpoint_, environment_->team.get(), layer, inputs, options_.group,
                                              [&](const std::string& linear) { return !IsExcluded(options_.exclude, linear); }));
    }
  }
  std::vector<LinearError> errors;
  std::vector<LinearJob> jobs = Linears(layer);
  const std::array<LinearInputs*, 7> inputs_of = InputsOf(&inputs);
  const auto shares_inputs = [&](size_t i) { return i > 0 && inputs_of[i] == inputs_of[i - 1]; };
  for (size_t i = 0; i < jobs.size(); ++i) {
    LinearJob& job = jobs[i];
    LinearError error;
    error.name = NameInLayer(job.name);
    if (calibration_ != nullptr) {
      job.inputs = inputs_of[i];
      // Linears with one input are one matmul: what they lose is the same for all of them.
      error.inputs = shares_inputs(i) ? errors.back().inputs : LossOf(*job.inputs, job.columns);
    }
    PlanLinear(job, &error);
    errors.push_back(std::move(error));
  }
  for (const std::string& name : NormsOf(config_, layer)) PlanFloat(name);
  if (options_.kv_int8) PlanCache(layer);
  RETURN_IF_ERROR(BeginPart());

  for (size_t i = 0; i < jobs.size(); ++i) {
    if (!shares_inputs(i)) RETURN_IF_ERROR(format_->BeginInputs(jobs[i], std::move(inputs_of[i]->products)));
    RETURN_IF_ERROR(WriteLinear(jobs[i], &errors[i]));
  }
  for (const std::string& name : NormsOf(config_, layer)) {
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

Status Quantizer::Advance(const std::string& tensor) {
  checkpoint_.DontNeed(tensor);
  done_ += ElementsOf(checkpoint_.Find(tensor)->shape) * static_cast<int64_t>(sizeof(BF16));
  return callbacks_.progress ? callbacks_.progress(done_, total_) : OkStatus();
}

Status Quantizer::WriteNorm(const std::string& name, const std::vector<float>* smooth) {
  if (smooth == nullptr) return WriteFloat(name);
  std::vector<float> values(smooth->size());
  RETURN_IF_ERROR(checkpoint_.ReadRows(name, 0, std::ssize(values), values.data()));
  std::vector<BF16> out;
  for (size_t i = 0; i < values.size(); ++i) out.push_back(ToBF16(values[i] / (*smooth)[i]));
  RETURN_IF_ERROR(writer_->WriteValues(name, out));
  return Advance(name);
}

Status Quantizer::WriteFloat(const std::string& name) {
  const checkpoint::TensorInfo info = *checkpoint_.Find(name);
  std::vector<BF16> values(static_cast<size_t>(ElementsOf(info.shape)));
  RETURN_IF_ERROR(checkpoint_.ReadRows(name, 0, info.shape[0], values.data()));
  RETURN_IF_ERROR(writer_->WriteValues(name, values));
  return Advance(name);
}

Status Quantizer::WriteExcluded(const LinearJob& job, const LinearSource& source) {
  std::vector<std::vector<float>> row(environment_->team->size(), std::vector<float>(job.k));
  std::vector<BF16> values(static_cast<size_t>(job.n * job.k));
  RETURN_IF_ERROR(ForRows(environment_->team.get(), job.n, [&](int64_t r, int worker) -> Status {
    RETURN_IF_ERROR(source.ReadRow(r, row[worker].data()));
    for (int64_t i = 0; i < job.k; ++i) values[r * job.k + i] = ToBF16(row[worker][i]);
    return OkStatus();
  }));
  RETURN_IF_ERROR(writer_->WriteValues(job.name + ".weight", values));
  if (!job.has_bias) return OkStatus();
  ASSIGN_OR_RETURN(const std::vector<float> bias, source.ReadBias());
  std::vector<BF16> rounded;
  for (const float b : bias) rounded.push_back(ToBF16(b));
  return writer_->WriteValues(job.name + ".bias", rounded);
}

Status Quantizer::WriteLinear(const LinearJob& job, LinearError* error) {
  const LinearSource source(checkpoint_, job);
  RETURN_IF_ERROR(job.excluded ? WriteExcluded(job, source) : format_->Write(job, source, &*writer_, error));
  return Advance(job.name + ".weight");
}

}  // namespace

Expected<std::string> QuantizeModel(const checkpoint::Checkpoint& checkpoint, const QuantizeOptions& options,
                                    kernels::Environment* environment, const std::string& folder,
                                    const QuantizeCallbacks& callbacks) {
  if (checkpoint.quantization().method() != checkpoint::QuantMethod::kNone) {
    return Unexpected(InvalidArgument("{}: is quantized already; give the float model",
                                      checkpoint.quantization().path()));
  }
  const bool int4 = IsFourBits(options.scheme);
  if (int4 && (options.smooth > 0 || options.kv_int8)) {
    return Unexpected(InvalidArgument("--scheme {} writes weights alone; leave {} out",
                                      options.scheme == QuantScheme::kW4A8 ? "w4a8" : "int4", options.kv_int8 ? "--kv" : "--smooth"));
  }
  const char* const wants = options.method == Rounding::kGptq               ? "GPTQ"
                            : options.method == Rounding::kAwq              ? "AWQ"
                            : options.smooth > 0                            ? "smoothing"
                            : options.kv_int8                               ? "the INT8 cache"
                            : int4 || options.scheme == QuantScheme::kDynamic ? nullptr
                                                                            : AscendTypeName(options.scheme);
  if (options.calibration.empty() && wants != nullptr) {
    return Unexpected(InvalidArgument("{} needs --calibration FILE: a text like those that the model will get", wants));
  }
  return Quantizer(checkpoint, options, environment, folder, callbacks).Run();
}

}  // namespace tiercel::quantize
