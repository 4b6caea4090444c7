#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/e4m3.h"
#include "kernels/reference/kernels.h"
#include "kernels/reference/quantize.h"

namespace tiercel::kernels::reference {
namespace {

// The factor of one head's RMS norm; 1 where the model has none.
float NormFactor(const BF16* x, int head_dim, const float* weight, float eps) {
  if (!weight) return 1;
  float sum = 0;
  for (int d = 0; d < head_dim; ++d) sum += ToFloat(x[d]) * ToFloat(x[d]);
  return 1 / std::sqrt(sum / static_cast<float>(head_dim) + eps);
}

float Normed(const BF16* x, int d, float factor, const float* weight, const float* bias) {
  float v = ToFloat(x[d]);
  if (weight) v = v * factor * weight[d];
  return bias ? v + bias[d] : v;
}

// The BF16 nearest to v; 0 for a NaN. So the largest numbers stand for the infinities.
BF16 FiniteBF16(float v) {
  constexpr float kLargest = 0x1.fep127f;
  if (std::isnan(v)) return BF16{0};
  return ToBF16(std::clamp(v, -kLargest, kLargest));
}

// store(d, value) gets each element of the head once, normed and rotated, still in FP32; the
// pair (d, d + half) has been read before either is stored, so x may be overwritten.
template <typename Store>
void NormAndRotate(const BF16* x, int head_dim, const float* weight, const float* bias, float eps,
                   const float* cos, const float* sin, Store store) {
  const int half = head_dim / 2;
  const float factor = NormFactor(x, head_dim, weight, eps);
  for (int d = 0; d < half; ++d) {
    const float a = Normed(x, d, factor, weight, bias);
    const float b = Normed(x, d + half, factor, weight, bias);
    store(d, a * cos[d] - b * sin[d]);
    store(d + half, b * cos[d] + a * sin[d]);
  }
}

// Writes the head x to the place of `slot` in an INT8 cache. offset(d) is the place of element d.
template <typename Offset>
void WriteBytes(const BF16* x, int head_dim, const float* scale, const float* zero, Offset offset,
                int8_t* head, int64_t scale_offset) {
  uint8_t bytes[kMaxHeadDim];
  float token = 1;
  if (zero != nullptr) {
    for (int d = 0; d < head_dim; ++d) bytes[d] = QuantizeStatic(x[d], scale[d], zero[d]);
  } else {
    const QuantizedRows row = {.data = bytes, .row_scale = &token};
    QuantizeRow([=](int64_t d) { return scale != nullptr ? ToBF16(ToFloat(x[d]) / scale[d]) : x[d]; }, head_dim, 0, row);
  }
  for (int d = 0; d < head_dim; ++d) head[offset(d)] = static_cast<int8_t>(bytes[d] - 128);
  std::memcpy(head + scale_offset, &token, sizeof(token));
}

}  // namespace

void QkNormRope(const QkNormRopeArgs& args, Share share) {
  const KvLayout& layout = args.layout;
  const int head_dim = layout.head_dim;
  const int group = args.num_q_heads / layout.num_kv_heads;
  const Range heads = SplitRange(layout.num_kv_heads, 1, share);
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* cos = args.cos + r * (head_dim / 2);
    const float* sin = args.sin + r * (head_dim / 2);
    for (int64_t g = heads.begin; g < heads.end; ++g) {
      BF16* q = args.qkv + r * args.ldqkv + g * (group + 2) * head_dim;
      for (int h = 0; h < group; ++h, q += head_dim) {
        NormAndRotate(q, head_dim, args.q_norm, args.q_norm_bias, args.eps, cos, sin,
                      [&](int d, float v) { q[d] = ToBF16(v); });
      }
      BF16 k[kMaxHeadDim], v[kMaxHeadDim];
      NormAndRotate(q, head_dim, args.k_norm, args.k_norm_bias, args.eps, cos, sin,
                    [&](int d, float x) { k[d] = FiniteBF16(x); });
      for (int d = 0; d < head_dim; ++d) v[d] = FiniteBF16(ToFloat(q[head_dim + d]));
      const int slot = static_cast<int>(args.kv_slot[r] % layout.block_size);
      const int64_t head = layout.HeadOffset(args.kv_slot[r] / layout.block_size, g);
      const auto key_offset = [&](int d) { return layout.KeyOffset(slot, d); };
      const auto value_offset = [&](int d) { return layout.ValueOffset(slot, d); };
      if (layout.dtype == DType::kI8) {
        const KvScales& s = args.kv_scales;
        const auto of_head = [&](const float* channels) { return channels != nullptr ? channels + g * head_dim : nullptr; };
        int8_t* cache = static_cast<int8_t*>(args.kv) + head;
        WriteBytes(k, head_dim, of_head(s.k_scale), of_head(s.k_offset), key_offset, cache,
                   layout.KeyScaleOffset(slot));
        WriteBytes(v, head_dim, of_head(s.v_scale), of_head(s.v_offset), value_offset, cache,
                   layout.ValueScaleOffset(slot));
        continue;
      }
      if (layout.dtype == DType::kF8E4M3) {
        E4M3* cache = static_cast<E4M3*>(args.kv) + head;
        for (int d = 0; d < head_dim; ++d) {
          cache[key_offset(d)] = ToE4M3(ToFloat(k[d]) / args.kv_scales.key);
          cache[value_offset(d)] = ToE4M3(ToFloat(v[d]) / args.kv_scales.value);
        }
        continue;
      }
      BF16* cache = static_cast<BF16*>(args.kv) + head;
      for (int d = 0; d < head_dim; ++d) {
        cache[key_offset(d)] = k[d];
        cache[value_offset(d)] = v[d];
      }
    }
  }
}

}  // namespace tiercel::kernels::reference
