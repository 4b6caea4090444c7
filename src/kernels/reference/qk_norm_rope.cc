#include <cmath>

#include "kernels/reference/kernels.h"

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
      if (args.kv_slot[r] < 0) continue;
      const BF16* k = q;
      const BF16* v = q + head_dim;
      const int slot = static_cast<int>(args.kv_slot[r] % layout.block_size);
      BF16* cache = args.kv + layout.HeadOffset(args.kv_slot[r] / layout.block_size, g);
      NormAndRotate(k, head_dim, args.k_norm, args.k_norm_bias, args.eps, cos, sin,
                    [&](int d, float x) { cache[layout.KeyOffset(slot, d)] = ToBF16(x); });
      for (int d = 0; d < head_dim; ++d) cache[layout.ValueOffset(slot, d)] = v[d];
    }
  }
}

}  // namespace tiercel::kernels::reference
