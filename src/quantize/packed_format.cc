#include "quantize/packed_format.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "options/json_value.h"
#include "quantize/smoothing.h"

namespace tiercel::quantize {
namespace {

constexpr int64_t kCodesInWord = 8;

// The row that `out` stands for; the error: it is not finite.
Status Unpack(const std::string& name, int64_t r, int64_t group, const GroupRow& out, std::vector<float>* row) {
  for (size_t i = 0; i < row->size(); ++i) {
    const float scale = ToFloat(out.scales[static_cast<int64_t>(i) / group]);
    if (!std::isfinite(scale)) return InvalidArgument("{}.weight: row {} has values that are not finite", name, r);
    (*row)[i] = scale * static_cast<float>(out.codes[i]);
  }
  return OkStatus();
}

std::vector<uint32_t> PackWords(const std::vector<int8_t>& codes) {
  std::vector<uint32_t> words(codes.size() / kCodesInWord);
  for (size_t i = 0; i < codes.size(); ++i) {
    words[i / kCodesInWord] |= static_cast<uint32_t>(codes[i] + 8) << i % kCodesInWord * 4;
  }
  return words;
}

}  // namespace

Status PackedFormat::Check(const LinearJob& job) const {
  if (job.excluded || job.k % options_.group == 0) return OkStatus();
  return Unimplemented("{}.weight: found {} inputs, expected whole groups of {}; choose another --group, or leave it "
                       "float with --exclude",
                       job.name, job.k, options_.group);
}

Status PackedFormat::BeginInputs(const LinearJob& job, std::vector<float> products) {
  gptq_.reset();
  outputs_.reset();
  if (job.inputs != nullptr) outputs_.emplace(*job.inputs, job.k, job.columns);
  if (options_.method != Rounding::kGptq) return OkStatus();
  ASSIGN_OR_RETURN(gptq_, Gptq::Create(std::move(products), job.k, team_));
  return OkStatus();
}

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
  const int64_t k = job.k, group = options_.group;
  std::vector<int8_t> codes(static_cast<size_t>(job.n * k));
  std::vector<BF16> scales(static_cast<size_t>(job.n * k / group));
  std::vector<RoundingLoss> losses(static_cast<size_t>(team_->size()));
  const int64_t tiles = (job.n + Gptq::kTileRows - 1) / Gptq::kTileRows;
  RETURN_IF_ERROR(ForRows(team_, tiles, [&](int64_t tile, int worker) -> Status {
    const int64_t first = tile * Gptq::kTileRows, rows = std::min(Gptq::kTileRows, job.n - first);
    std::vector<float> w(static_cast<size_t>(rows * k));
    std::vector<float> rounded(static_cast<size_t>(k));
    std::vector<GroupRow> out;
    for (int64_t r = 0; r < rows; ++r) {
      RETURN_IF_ERROR(source.ReadRow(first + r, w.data() + r * k));
      out.push_back({codes.data() + (first + r) * k, scales.data() + (first + r) * k / group});
      if (!gptq_) RoundRow(w.data() + r * k, k, group, out.back());
    }
    if (gptq_) gptq_->Quantize(w.data(), rows, group, out.data());
    for (int64_t r = 0; r < rows; ++r) {
      RETURN_IF_ERROR(Unpack(job.name, first + r, group, out[static_cast<size_t>(r)], &rounded));
      losses[static_cast<size_t>(worker)].Add(w.data() + r * k, rounded, outputs_ ? &*outputs_ : nullptr);
    }
    return OkStatus();
  }));
  RoundingLoss::Report(losses, outputs_.has_value(), error);
  ASSIGN_OR_RETURN(const std::vector<float> bias, source.ReadBias());
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_packed", PackWords(codes)));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_scale", scales));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_shape", std::vector<int64_t>{job.n, k}));
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
