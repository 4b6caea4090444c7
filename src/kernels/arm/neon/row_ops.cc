#include "kernels/simd/row_ops_impl.h"

#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"

namespace tiercel::kernels::neon {

int64_t ArgMax(const float* x, int64_t n, float* max) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  static constexpr int32_t kLane[4] = {0, 1, 2, 3};
  float32x4_t best = vdupq_n_f32(kNone);
  int32x4_t best_index = vdupq_n_s32(0), index = vld1q_s32(kLane);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const float32x4_t v = vld1q_f32(x + i);
    const uint32x4_t greater = vcgtq_f32(v, best);  // false for a NaN
    best = vbslq_f32(greater, v, best);
    best_index = vbslq_s32(greater, index, best_index);
    index = vaddq_s32(index, vdupq_n_s32(4));
  }
  float values[4];
  int32_t indices[4];
  vst1q_f32(values, best);
  vst1q_s32(indices, best_index);
  float value = kNone;
  int64_t at = 0;
  for (int lane = 0; lane < 4; ++lane) {
    if (values[lane] > value || (values[lane] == value && value != kNone && indices[lane] < at)) {
      value = values[lane];
      at = indices[lane];
    }
  }
  for (; i < n; ++i) {
    if (x[i] > value) {
      value = x[i];
      at = i;
    }
  }
  *max = value;
  return at;
}

float SumExp(const float* x, int64_t n, float max, float scale) { return simd::SumExp<Simd>(x, n, max, scale); }

int64_t CollectAtLeast(const float* x, int64_t n, float threshold, int32_t* indices, int64_t capacity) {
  int64_t count = 0, i = 0;
  const auto take = [&](int64_t at) {
    if (!(x[at] >= threshold)) return;
    if (count < capacity) indices[count] = static_cast<int32_t>(at);
    ++count;
  };
  const float32x4_t t = vdupq_n_f32(threshold);
  for (; i + 8 <= n; i += 8) {
    const uint32x4_t hit = vorrq_u32(vcgeq_f32(vld1q_f32(x + i), t), vcgeq_f32(vld1q_f32(x + i + 4), t));
    if (vmaxvq_u32(hit) == 0) continue;
    for (int64_t at = i; at < i + 8; ++at) take(at);
  }
  for (; i < n; ++i) take(i);
  return count;
}

int64_t CountAtLeast(const float* x, int64_t n, float threshold) {
  const float32x4_t t = vdupq_n_f32(threshold);
  uint32x4_t hits = vdupq_n_u32(0);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) hits = vsubq_u32(hits, vcgeq_f32(vld1q_f32(x + i), t));  // a hit is −1
  int64_t count = vaddvq_u32(hits);
  for (; i < n; ++i) count += x[i] >= threshold;
  return count;
}

void KeepAllowed(float* x, int64_t n, const uint32_t* allowed) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  static constexpr uint32_t kBits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint32x4_t low = vld1q_u32(kBits), high = vld1q_u32(kBits + 4);
  const float32x4_t none = vdupq_n_f32(kNone);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const uint32_t byte = allowed[i / 32] >> (i % 32) & 0xff;
    if (byte == 0xff) continue;
    const uint32x4_t bits = vdupq_n_u32(byte);
    vst1q_f32(x + i, vbslq_f32(vtstq_u32(bits, low), vld1q_f32(x + i), none));
    vst1q_f32(x + i + 4, vbslq_f32(vtstq_u32(bits, high), vld1q_f32(x + i + 4), none));
  }
  for (; i < n; ++i) {
    if ((allowed[i / 32] >> (i % 32) & 1) == 0) x[i] = kNone;
  }
}

void Scale(float* x, int64_t n, float factor) { simd::Scale<Simd>(x, n, factor); }

}  // namespace tiercel::kernels::neon
