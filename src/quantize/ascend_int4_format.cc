#include "quantize/ascend_int4_format.h"

#include <algorithm>
#include <cmath>

#include "quantize/ascend_format.h"

namespace tiercel::quantize {
namespace {

// An NPU multiplies unsigned codes, and takes away eight times the sum of the weights: of linears that ranks divide by
// inputs in as many parts.
int64_t BiasParts(const LinearJob& job) {
  return job.name.ends_with(".o_proj") || job.name.ends_with(".down_proj") ? 16 : 1;
}

// Rows 2·i and 2·i + 1 in the low and the high nibbles of row i.
std::vector<uint8_t> PackRows(const std::vector<int8_t>& codes, int64_t n, int64_t k) {
  std::vector<uint8_t> packed(codes.size() / 2);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t i = 0; i < k; ++i) packed[r / 2 * k + i] |= static_cast<uint8_t>((codes[r * k + i] & 15) << r % 2 * 4);
  }
  return packed;
}

float PowerOfTwoOf(const BF16* scales, int64_t groups) {
  float largest = 0;
  for (int64_t g = 0; g < groups; ++g) largest = std::max(largest, std::abs(ToFloat(scales[g])));
  return largest == 0 ? 1 : std::exp2(std::floor(std::log2(largest)));
}

}  // namespace

Status AscendInt4Format::Check(const LinearJob& job) const {
  RETURN_IF_ERROR(rounding_.Check(job));
  if (job.excluded || job.n % 2 == 0) return OkStatus();
  return Unimplemented("{}.weight: found {} outputs, expected an even number: two share a byte; leave it float with --exclude",
                       job.name, job.n);
}

std::vector<TypedTensor> AscendInt4Format::Plan(const LinearJob& job, LinearError*) const {
  std::vector<TypedTensor> tensors;
  const auto add = [&](const char* end, DType dtype, std::vector<int64_t> shape) {
    tensors.push_back({{job.name + end, dtype, std::move(shape)}, AscendTypeName(options_.scheme)});
  };
  const int64_t groups = job.k / options_.group;
  add(".weight", DType::kI8, {job.n / 2, job.k});
  add(".weight_scale", DType::kF32, {job.n, 1});
  add(".weight_offset", DType::kF32, {job.n, 1});
  add(".weight_scale_second", DType::kF32, {job.n, groups});
  add(".weight_offset_second", DType::kF32, {job.n, groups});
  add(".scale_bias", DType::kF32, {job.n, BiasParts(job)});
  if (job.has_bias) tensors.push_back({{job.name + ".bias", DType::kF32, {job.n}}});
  return tensors;
}

Status AscendInt4Format::Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
                               LinearError* error) {
  ASSIGN_OR_RETURN(const GroupedWeights w, rounding_.Round(job, source, error));
  const int64_t k = job.k, groups = k / options_.group, parts = BiasParts(job);
  std::vector<float> row_scales, scales, scale_bias(static_cast<size_t>(job.n * parts));
  for (int64_t r = 0; r < job.n; ++r) {
    row_scales.push_back(PowerOfTwoOf(w.scales.data() + r * groups, groups));
    for (int64_t g = 0; g < groups; ++g) scales.push_back(ToFloat(w.scales[r * groups + g]) / row_scales.back());
    for (int64_t i = 0; i < k; ++i) {
      const float weight = ToFloat(w.scales[r * groups + i / options_.group]) * static_cast<float>(w.codes[r * k + i]);
      scale_bias[r * parts + i * parts / k] += 8 * weight;
    }
  }
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight", PackRows(w.codes, job.n, k)));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_scale", row_scales));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_offset", std::vector<float>(row_scales.size(), 0.0f)));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_scale_second", scales));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".weight_offset_second", std::vector<float>(scales.size(), 0.0f)));
  RETURN_IF_ERROR(writer->WriteValues(job.name + ".scale_bias", scale_bias));
  ASSIGN_OR_RETURN(const std::vector<float> bias, source.ReadBias());
  return job.has_bias ? writer->WriteValues(job.name + ".bias", bias) : OkStatus();
}

Status AscendInt4Format::Finish(const std::vector<TypedTensor>& tensors, const std::string& folder) const {
  return WriteDescription(tensors, options_, folder);
}

}  // namespace tiercel::quantize
