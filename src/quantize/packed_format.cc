#include "quantize/packed_format.h"

#include "options/json_value.h"

namespace tiercel::quantize {
namespace {

constexpr int64_t kCodesInWord = 8;

std::vector<uint32_t> PackWords(const std::vector<int8_t>& codes) {
  std::vector<uint32_t> words(codes.size() / kCodesInWord);
  for (size_t i = 0; i < codes.size(); ++i) {
    words[i / kCodesInWord] |= static_cast<uint32_t>(codes[i] + 8) << i % kCodesInWord * 4;
  }
  return words;
}

}  // namespace

std::vector<TypedTensor> PackedFormat::Plan(const LinearJob& job, LinearError*) const {
  std::vector<TypedTensor> tensors = {
      {{job.name + ".weight_packed", DType::kI32, {job.n, job.k / kCodesInWord}}},
      {{job.name + ".weight_scale", DType::kBF16, {job.n, job.k / options_.group}}},
      {{job.name + ".weight_shape", DType::kI64, {2}}},
  };
  if (job.has_bias) tensors.push_back({{job.name + ".bias", DType::kBF16, {job.n}}});
  return tensors;
}

Status PackedFormat::Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
                           LinearError* error) {
  ASSIGN_OR_RETURN(const GroupedWeights w, rounding_.Round(job, source, error));
  ASSIGN_OR_RETURN(const std::vector<float> bias, source.ReadBias());
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_packed", PackWords(w.codes)));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_scale", w.scales));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_shape", std::vector<int64_t>{job.n, job.k}));
  if (!job.has_bias) return OkStatus();
  std::vector<BF16> rounded;
  for (const float b : bias) rounded.push_back(ToBF16(b));
  return writer->WriteValues(job.name + ".bias", rounded);
}

std::string PackedFormat::Config(const std::vector<std::string>& excluded) const {
  std::string ignore = options::JsonQuote("lm_head");
  for (const std::string& name : excluded) ignore += ", " + options::JsonQuote(name);
  return fmt::format(
      R"({{"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed", )"
      R"("ignore": [{}], "kv_cache_scheme": null, "config_groups": {{"group_0": {{"targets": ["Linear"], )"
      R"("input_activations": null, "output_activations": null, "weights": {{"num_bits": 4, "type": "int", )"
      R"("strategy": "group", "group_size": {}, "symmetric": true, "dynamic": false, "actorder": null}}}}}}}})",
      ignore, options_.group);
}

}  // namespace tiercel::quantize
