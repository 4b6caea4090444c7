// RMS norm, and q/k norm + rotary embedding + KV write, once for all vector widths. `S` is an
// ISA's Simd: the instantiations are different types, so the linker cannot mix them up.
// Sums run over kLanes strided partial sums and one final reduction, whatever the rows.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/e4m3.h"
#include "kernels/ops.h"
#include "kernels/simd/quantize_impl.h"

namespace tiercel::kernels::simd {

// Σ x² of n values.
template <typename S>
[[gnu::always_inline]] inline float SumOfSquares(const BF16* x, int64_t n) {
  typename S::V sum = S::Zero();
  int64_t i = 0;
  for (; i + S::kLanes <= n; i += S::kLanes) {
    const typename S::V v = S::Widen(x + i);
    sum = S::Fma(v, v, sum);
  }
  float total = S::Sum(sum);
  for (; i < n; ++i) total += ToFloat(x[i]) * ToFloat(x[i]);
  return total;
}

template <typename S>
void RmsNorm(const RmsNormArgs& args, Share share) {
  const int64_t n = args.hidden;
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const BF16* x = args.x + (args.row_index ? args.row_index[r] : r) * n;
    const float factor =
        1.0f / std::sqrt(SumOfSquares<S>(x, n) / static_cast<float>(n) + args.eps);
    const typename S::V f = S::Set(factor);
    const auto vector = [&](int64_t i) __attribute__((always_inline)) {
      typename S::V v = S::Mul(S::Mul(S::Widen(x + i), f), S::Load(args.weight + i));
      if (args.bias) v = S::Add(v, S::Load(args.bias + i));
      return v;
    };
    const auto exact = [&](int64_t i) {
      const float bias = args.bias ? args.bias[i] : 0;
      return ToFloat(x[i]) * factor * args.weight[i] + bias;
    };
    const auto one = [&](int64_t i) { return ToBF16(exact(i)); };
    if (args.out_f32 != nullptr) {
      float* out = args.out_f32 + r * args.ldo;
      int64_t i = 0;
      for (; i + S::kLanes <= n; i += S::kLanes) S::Store(out + i, vector(i));
      for (; i < n; ++i) out[i] = exact(i);
    }
    if (args.out != nullptr) {
      BF16* out = args.out + r * args.ldo;
      int64_t i = 0;
      for (; i + S::kLanes <= n; i += S::kLanes) S::Narrow(out + i, vector(i));
      for (; i < n; ++i) out[i] = one(i);
    }
    if (args.quantized.data != nullptr) {  // x is in L1: computed again rather than stored
      QuantizeRow<S>([&](int64_t i) __attribute__((always_inline)) { return S::Round(vector(i)); },
                     one, n, r, args.quantized);
    }
  }
}

// One head x [head_dim] normed and rotated into out [head_dim] (may be x). head_dim is a multiple
// of 32, so a half is whole vectors.
template <typename S>
[[gnu::always_inline]] inline void NormAndRotate(const BF16* x, BF16* out, int head_dim,
                                                 const float* weight, const float* bias, float eps,
                                                 const float* cos, const float* sin) {
  using V = typename S::V;
  const int half = head_dim / 2;
  V factor = S::Set(1.0f);
  if (weight) {
    factor = S::Set(1.0f / std::sqrt(SumOfSquares<S>(x, head_dim) /
                                         static_cast<float>(head_dim) + eps));
  }
  for (int d = 0; d < half; d += S::kLanes) {
    V a = S::Widen(x + d), b = S::Widen(x + half + d);
    if (weight) {
      a = S::Mul(S::Mul(a, factor), S::Load(weight + d));
      b = S::Mul(S::Mul(b, factor), S::Load(weight + half + d));
    }
    if (bias) {
      a = S::Add(a, S::Load(bias + d));
      b = S::Add(b, S::Load(bias + half + d));
    }
    const V c = S::Load(cos + d), s = S::Load(sin + d);
    S::Narrow(out + d, S::Sub(S::Mul(a, c), S::Mul(b, s)));
    S::Narrow(out + half + d, S::Add(S::Mul(b, c), S::Mul(a, s)));
  }
}

// out = the head x with 0 for NaNs and the largest BF16 for infinities; out may be x.
template <typename S>
[[gnu::always_inline]] inline void MakeFinite(const BF16* x, BF16* out, int head_dim) {
  const typename S::V largest = S::Set(0x1.fep127f), least = S::Set(-0x1.fep127f);
  for (int d = 0; d < head_dim; d += S::kLanes) {
    S::Narrow(out + d, S::Max(S::Min(S::NaNToZero(S::Widen(x + d)), largest), least));
  }
}

// The head x as the bytes of an INT8 cache; returns its token's scale (ops.h, KvScales). scale, zero:
// the head's channels, each or null.
template <typename S>
[[gnu::always_inline]] inline float QuantizeHead(const BF16* x, int head_dim, const float* scale,
                                                 const float* zero, int8_t* out) {
  uint8_t bytes[kMaxHeadDim];
  BF16 divided[kMaxHeadDim];
  float token = 1;
  if (zero != nullptr) {
    for (int d = 0; d < head_dim; d += S::kLanes) {
      typename S::V q = S::Add(S::Div(S::Widen(x + d), S::Load(scale + d)), S::Load(zero + d));
      q = S::Max(S::Min(q, S::Set(127.0f)), S::Set(-128.0f));
      S::StoreBytes(bytes + d, q);
    }
  } else {
    if (scale != nullptr) {
      for (int d = 0; d < head_dim; d += S::kLanes) S::Narrow(divided + d, S::Div(S::Widen(x + d), S::Load(scale + d)));
      x = divided;
    }
    const QuantizedRows row = {.data = bytes, .row_scale = &token};
    QuantizeRow<S>([x](int64_t d) __attribute__((always_inline)) { return S::Widen(x + d); },
                   [x](int64_t d) { return x[d]; }, head_dim, 0, row);
  }
  for (int d = 0; d < head_dim; ++d) out[d] = static_cast<int8_t>(bytes[d] ^ 0x80);
  return token;
}

// The head x as the numbers of an FP8 cache.
template <typename S>
[[gnu::always_inline]] inline void EncodeHead(const BF16* x, int head_dim, float scale, E4M3* out) {
  for (int d = 0; d < head_dim; d += S::kLanes) {
    S::StoreE4M3(out + d, S::Div(S::Widen(x + d), S::Set(scale)));
  }
}

// Where a token's key and value go in the cache of BF16 or of bytes.
template <typename S, typename Element>
struct CacheSlot {
  static constexpr int kTogether = kernels::kTogether<Element>;

  CacheSlot(const QkNormRopeArgs& args, int64_t row, int64_t head)
      : layout(args.layout), scales(args.kv_scales), head(head) {
    slot = static_cast<int>(args.kv_slot[row] % layout.block_size);
    part = static_cast<Element*>(args.kv) +
           layout.HeadOffset(args.kv_slot[row] / layout.block_size, static_cast<int>(head));
  }

  // A decode's sequences have their slots far apart, and a key touches a line for each four bytes:
  // asked for together they come in a fraction of the time that one after the other takes.
  [[gnu::always_inline]] void Ask() const {
    constexpr int kLine = 64 / sizeof(Element);
    const Element* keys = part + layout.KeyOffset(slot, 0);
    for (int i = 0; i < layout.head_dim * 16; i += kLine) __builtin_prefetch(keys + i, 1);
    const Element* values = part + layout.ValueOffset(slot, 0);
    for (int i = 0; i < layout.head_dim * kTogether; i += kLine) __builtin_prefetch(values + i, 1);
  }

  void Write(const BF16* k, const BF16* v) const {
    if constexpr (std::is_same_v<Element, BF16>) {
      WriteKey(k);
      // Two tokens share each pair of values: half of it is replaced.
      BF16* values = part + layout.ValueOffset(slot, 0) - slot % 2;
      for (int d = 0; d < layout.head_dim; d += S::kLanes) {
        S::StoreHalves(values + 2 * d, v + d, slot % 2);
      }
    } else if constexpr (std::is_same_v<Element, E4M3>) {
      E4M3 numbers[kMaxHeadDim];
      EncodeHead<S>(k, layout.head_dim, scales.key, numbers);
      WriteKey(numbers);
      EncodeHead<S>(v, layout.head_dim, scales.value, numbers);
      WriteValue(numbers);
    } else {
      int8_t bytes[kMaxHeadDim];
      const float key_scale = QuantizeHead<S>(k, layout.head_dim, Channels(scales.k_scale),
                                              Channels(scales.k_offset), bytes);
      WriteKey(bytes);
      std::memcpy(part + layout.KeyScaleOffset(slot), &key_scale, sizeof(float));
      const float value_scale = QuantizeHead<S>(v, layout.head_dim, Channels(scales.v_scale),
                                                Channels(scales.v_offset), bytes);
      WriteValue(bytes);
      std::memcpy(part + layout.ValueScaleOffset(slot), &value_scale, sizeof(float));
    }
  }

  void WriteKey(const Element* k) const {
    Element* keys = part + layout.KeyOffset(slot, 0);
    for (int d = 0; d < layout.head_dim; d += kTogether) {  // the next lie 16 tokens further
      std::memcpy(keys + d * 16, k + d, kTogether * sizeof(Element));
    }
  }

  // Of bytes.
  void WriteValue(const Element* v) const {
    Element* values = part + layout.ValueOffset(slot, 0);
    for (int d = 0; d < layout.head_dim; ++d) values[kTogether * d] = v[d];
  }

  const float* Channels(const float* of_all_heads) const {
    return of_all_heads != nullptr ? of_all_heads + head * layout.head_dim : nullptr;
  }

  const KvLayout& layout;
  const KvScales& scales;
  int64_t head;
  int slot;
  Element* part;
};

template <typename S, typename Element>
void QkNormRopeInto(const QkNormRopeArgs& args, Share share) {
  const KvLayout& layout = args.layout;
  const int head_dim = layout.head_dim;
  const int group = args.num_q_heads / layout.num_kv_heads;
  const Range heads = SplitRange(layout.num_kv_heads, 1, share);
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* cos = args.cos + r * (head_dim / 2);
    const float* sin = args.sin + r * (head_dim / 2);
    for (int64_t g = heads.begin; g < heads.end; ++g) {
      // Of a prefill's tokens only the first of 16 comes to new lines.
      const int64_t next = g + 1 < heads.end ? r : r + 1;
      if (next < args.rows &&
          (next == 0 || args.kv_slot[next] / 16 != args.kv_slot[next - 1] / 16)) {
        CacheSlot<S, Element>(args, next, next == r ? g + 1 : heads.begin).Ask();
      }
      BF16* q = args.qkv + r * args.ldqkv + g * (group + 2) * head_dim;
      for (int h = 0; h < group; ++h, q += head_dim) {
        NormAndRotate<S>(q, q, head_dim, args.q_norm, args.q_norm_bias, args.eps, cos, sin);
      }
      BF16 k[kMaxHeadDim], v[kMaxHeadDim];
      NormAndRotate<S>(q, k, head_dim, args.k_norm, args.k_norm_bias, args.eps, cos, sin);
      MakeFinite<S>(k, k, head_dim);
      MakeFinite<S>(q + head_dim, v, head_dim);
      CacheSlot<S, Element>(args, r, g).Write(k, v);
    }
  }
}

template <typename S>
void QkNormRope(const QkNormRopeArgs& args, Share share) {
  if (args.layout.dtype == DType::kI8) {
    QkNormRopeInto<S, int8_t>(args, share);
  } else if (args.layout.dtype == DType::kF8E4M3) {
    QkNormRopeInto<S, E4M3>(args, share);
  } else {
    QkNormRopeInto<S, BF16>(args, share);
  }
}

}  // namespace tiercel::kernels::simd
