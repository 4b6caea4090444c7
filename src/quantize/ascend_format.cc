#include "quantize/ascend_format.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "checkpoint/linear_tensors.h"
#include "options/json_value.h"
#include "quantize/smoothing.h"
#include "quantize/static_input.h"

namespace tiercel::quantize {
namespace {

bool IsStatic(QuantScheme scheme) { return scheme == QuantScheme::kStatic || scheme == QuantScheme::kMix; }
bool HasWeightScale(QuantScheme scheme) { return scheme != QuantScheme::kStatic; }

// A linear's weights, row by row.
struct Int8Weights {
  explicit Int8Weights(const LinearJob& job)
      : values(static_cast<size_t>(job.n * job.k)), scale(job.n), sums(job.n, 0) {}
  std::vector<int8_t> values;
  std::vector<float> scale;
  std::vector<int32_t> sums;
};

Status QuantizeRows(const LinearJob& job, const LinearSource& source, platform::WorkerTeam* team, Int8Weights* out,
                    double* error) {
  std::vector<std::vector<float>> row(team->size(), std::vector<float>(job.k));
  std::vector<double> lost(job.n), norm(job.n);
  RETURN_IF_ERROR(ForRows(team, job.n, [&](int64_t r, int worker) -> Status {
    float* const w = row[worker].data();
    RETURN_IF_ERROR(source.ReadRow(r, w));
    int8_t* const q = out->values.data() + r * job.k;
    out->scale[r] = checkpoint::QuantizeRow(w, job.k, q);
    if (!std::isfinite(out->scale[r])) {
      return InvalidArgument("{}.weight: row {} has values that are not finite", job.name, r);
    }
    for (int64_t i = 0; i < job.k; ++i) {
      out->sums[r] += q[i];
      const double difference = w[i] - out->scale[r] * q[i];
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
  return OkStatus();
}

}  // namespace

const char* AscendTypeName(QuantScheme scheme) {
  switch (scheme) {
    case QuantScheme::kStatic: return "W8A8";
    case QuantScheme::kDynamic: return "W8A8_DYNAMIC";
    case QuantScheme::kMix: return "W8A8_MIX";
    case QuantScheme::kW4A8: return "W4A8_DYNAMIC";
    case QuantScheme::kInt4: break;
  }
  return "";
}

QuantScheme AscendFormat::SchemeOf(const LinearError& error) const {
  return error.per_token ? QuantScheme::kDynamic : options_.scheme;
}

std::vector<TypedTensor> AscendFormat::Plan(const LinearJob& job, LinearError* error) const {
  error->per_token = options_.scheme == QuantScheme::kDynamic ||
                     (options_.scheme == QuantScheme::kStatic && error->inputs.one_scale > options_.static_loss);
  const QuantScheme scheme = SchemeOf(*error);
  const char* const type = AscendTypeName(scheme);
  std::vector<TypedTensor> tensors;
  const auto add = [&](const char* end, DType dtype, std::vector<int64_t> shape) {
    tensors.push_back({{job.name + end, dtype, std::move(shape)}, type});
  };
  add(".weight", DType::kI8, {job.n, job.k});
  if (IsStatic(scheme)) {
    add(".quant_bias", DType::kI32, {job.n});
    add(".input_scale", DType::kF32, {1});
    add(".input_offset", DType::kF32, {1});
    add(".deq_scale", DType::kF32, {job.n});
  }
  if (HasWeightScale(scheme)) {
    add(".weight_scale", DType::kF32, {job.n, 1});
    add(".weight_offset", DType::kF32, {job.n, 1});
  }
  if (job.has_bias) tensors.push_back({{job.name + ".bias", DType::kF32, {job.n}}});
  return tensors;
}

Status AscendFormat::Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
                           LinearError* error) {
  const QuantScheme scheme = SchemeOf(*error);
  Int8Weights w(job);
  RETURN_IF_ERROR(QuantizeRows(job, source, team_, &w, &error->error));
  ASSIGN_OR_RETURN(const std::vector<float> bias, source.ReadBias());
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight", w.values));
  if (IsStatic(scheme)) {
    const StaticInput input = StaticInputOf(job.inputs->ranges, job.columns);
    std::vector<float> deq(job.n);
    std::vector<int32_t> quant_bias(job.n);
    for (int64_t r = 0; r < job.n; ++r) {
      deq[r] = input.scale * w.scale[r];
      const double b = job.has_bias ? bias[r] / deq[r] : 0;
      quant_bias[r] = static_cast<int32_t>(
          std::clamp(std::nearbyint(b - double{input.offset} * w.sums[r]), -2147483648.0, 2147483647.0));
    }
    RETURN_IF_ERROR(writer->WriteValues(job.name + ".quant_bias", quant_bias));
    RETURN_IF_ERROR(writer->WriteValues(job.name + ".input_scale", std::vector{input.scale}));
    RETURN_IF_ERROR(writer->WriteValues(job.name + ".input_offset", std::vector{input.offset}));
    RETURN_IF_ERROR(writer->WriteValues(job.name + ".deq_scale", deq));
  }
  if (HasWeightScale(scheme)) {
    RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_scale", w.scale));
    RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_offset", std::vector<float>(job.n, 0.0f)));
  }
  return job.has_bias ? writer->WriteValues(job.name + ".bias", bias) : OkStatus();
}

Status AscendFormat::Finish(const std::vector<TypedTensor>& tensors, const std::string& folder) const {
  return WriteDescription(tensors, options_, folder);
}

Status WriteDescription(const std::vector<TypedTensor>& tensors, const QuantizeOptions& options, const std::string& folder) {
  const std::string path = folder + "/quant_model_description.json";
  std::ofstream file(path);
  file << "{\n";
  for (const TypedTensor& t : tensors) {
    file << "    " << options::JsonQuote(t.tensor.name) << ": " << options::JsonQuote(t.type) << ",\n";
  }
  if (options.kv_int8) file << "    \"kv_cache_type\": \"C8\",\n";
  file << "    \"version\": \"1.0.0\",\n    \"model_quant_type\": \"" << AscendTypeName(options.scheme)
       << "\",\n    \"metadata\": {},\n    \"group_size\": " << (options.scheme == QuantScheme::kW4A8 ? options.group : 0)
       << ",\n    \"optional\": {}\n}\n";
  file.close();
  return file ? OkStatus() : ResourceExhausted("{}: cannot be written", path);
}

}  // namespace tiercel::quantize
