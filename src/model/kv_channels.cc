#include "model/kv_channels.h"

#include <algorithm>
#include <cmath>

namespace tiercel::model {
namespace {

// Row `row` of an INT8 weight is `bytes` less `offset`, times this.
float WeightScale(const checkpoint::LinearTensors& t, int64_t row) {
  return t.scale[row] / (t.input.kind == checkpoint::InputKind::kStatic ? t.input.scale : 1);  // t.scale is of the products
}

// Row `row` of the weight in FP32.
Status ReadWeight(const checkpoint::Checkpoint& checkpoint, const std::string& name, const checkpoint::LinearTensors& t, int64_t row, std::span<float> out) {
  if (t.scheme == checkpoint::LinearScheme::kFloat) return checkpoint.ReadRows(name, row, row + 1, out.data());
  const auto k = static_cast<int64_t>(out.size());
  const auto* const bytes = reinterpret_cast<const int8_t*>(checkpoint.MappedBytes(name)) + row * k;
  const float scale = WeightScale(t, row);
  const float offset = t.offset.empty() ? 0 : t.offset[row];
  for (int64_t i = 0; i < k; ++i) out[i] = scale * (static_cast<float>(bytes[i]) - offset);
  return OkStatus();
}

// The bias of output `row`, whose weights add up to `sum`. A static linear's may be among the sums of its products, with the share of
// its inputs' zero point.
float Bias(const checkpoint::LinearTensors& t, int64_t row, float sum) {
  if (!t.bias.empty()) return t.bias[row];
  if (t.acc_bias.empty()) return 0;
  return static_cast<float>(t.acc_bias[row]) * t.scale[row] + t.input.offset * t.input.scale * sum;
}

}  // namespace

Expected<std::vector<float>> OutputSizes(const checkpoint::Checkpoint& checkpoint, const std::string& name, const checkpoint::LinearTensors& tensors,
                                         std::span<const float> norm, Range rows) {
  std::vector<float> weight(norm.size()), sizes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    RETURN_IF_ERROR(ReadWeight(checkpoint, name + ".weight", tensors, row, weight));
    float square = 0, sum = 0;
    for (size_t i = 0; i < weight.size(); ++i) {
      const float normed = weight[i] * norm[i];
      square += normed * normed;
      sum += weight[i];
    }
    const float bias = Bias(tensors, row, sum);
    sizes.push_back(std::sqrt(square + bias * bias));
  }
  return sizes;
}

std::vector<float> KeyScales(std::span<const float> sizes, int64_t head_dim) {
  std::vector<float> scales(sizes.size());
  for (size_t head = 0; head < sizes.size(); head += head_dim) {
    const std::span<const float> of_head = sizes.subspan(head, head_dim);
    float largest = 0;
    for (const float x : of_head) {
      if (std::isfinite(x)) largest = std::max(largest, x);
    }
    for (int64_t d = 0; d < head_dim; ++d) {
      const float share = std::max(of_head[d], of_head[(d + head_dim / 2) % head_dim]) / largest;
      // 0 / 0 and what is not finite: nothing is known.
      const float exponent = share > 0 && share <= 1 ? std::max(-20.0f, std::round(std::log2(share))) : 0;
      scales[head + d] = std::exp2(exponent);
    }
  }
  return scales;
}

}  // namespace tiercel::model
