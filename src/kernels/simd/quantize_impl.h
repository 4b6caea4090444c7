// Quantization of activations (ops.h, QuantizedRows), and the separate SwiGLU, once for all vector
// widths. `S` is an ISA's Simd.
#pragma once

#include <algorithm>

#include "kernels/ops.h"

namespace tiercel::kernels::simd {

// Rows whose largest value is below it are quantized to zeros: above it, 1 / scale and the
// remainders in Quantizer are ordinary numbers.
inline constexpr float kSmallestRow = 0x1p-100f;

// q = clamp(x / scale + offset, −128, 127) for values of one scale, still to be rounded.
template <typename S>
struct Quantizer {
  using V = typename S::V;
  Quantizer(float scale, float offset)
      : scale(S::Set(-scale)), reciprocal(S::Set(1.0f / scale)), offset(S::Set(offset)) {}

  // The quotient is that of a division: with r = 1 / scale correctly rounded, q₀ = x·r and the exact
  // remainder x − q₀·scale, the sum q₀ + remainder·r is the correctly rounded x / scale (Markstein
  // 1990), in three operations of half a cycle each where a division takes ten. Far outside of the
  // byte's range it need not be right, but must not become a NaN by ∞ − ∞: hence the bounds on q₀.
  [[gnu::always_inline]] inline V operator()(V x) const {
    V q = S::Max(S::Min(S::Mul(x, reciprocal), S::Set(0x1p20f)), S::Set(-0x1p20f));
    q = S::Fma(S::Fma(q, scale, x), reciprocal, q);
    return S::Max(S::Min(S::Add(q, offset), S::Set(127.0f)), S::Set(-128.0f));
  }

  V scale, reciprocal, offset;  // scale negated
};

// Quantizes n values by their largest magnitude to bytes q + 128, or where `scale` is given by that and an offset;
// returns the scale. vector(i) gives those from i on, rounded to BF16, one(i) the i-th.
template <typename S, typename F, typename G>
[[gnu::always_inline]] inline float QuantizeValues(F&& vector, G&& one, int64_t n, const QuantizedRows* fixed,
                                                   uint8_t* to) {
  constexpr int kLanes = S::kLanes;
  const int64_t whole = n / kLanes * kLanes;
  BF16 tail[kLanes] = {};  // the last values, zeros behind them
  for (int64_t i = whole; i < n; ++i) tail[i - whole] = one(i);
  float scale = fixed != nullptr ? fixed->scale : 0;
  if (fixed == nullptr) {
    typename S::V largest = S::MaxMagnitude(S::Zero(), S::Widen(tail));
    for (int64_t i = 0; i < whole; i += kLanes) largest = S::MaxMagnitude(largest, vector(i));
    const float magnitude = S::ReduceMaxMagnitude(largest);
    scale = magnitude / 127.0f;
    if (!(magnitude >= kSmallestRow && magnitude <= __FLT_MAX__)) {
      __builtin_memset(to, 128, n);
      return scale;
    }
  }
  const Quantizer<S> quantize(scale, fixed != nullptr ? fixed->offset : 0.0f);
  for (int64_t i = 0; i < whole; i += kLanes) S::StoreBytes(to + i, quantize(vector(i)));
  uint8_t last[kLanes];
  S::StoreBytes(last, quantize(S::Widen(tail)));
  for (int64_t i = whole; i < n; ++i) to[i] = last[i - whole];
  return scale;
}

// The negative sums of a block's values, from their bytes + 128, which are aligned.
template <typename S>
[[gnu::always_inline]] inline void FinishBlock(const uint8_t* bytes, QuantizedBlock* out) {
  out->minus_sum = 0;
  for (int part = 0; part < 8; ++part) {
    out->minus_sum16[part] = 16 * 128 - S::TakeBytes(bytes + 16 * part, out->q + 16 * part);
    out->minus_sum += out->minus_sum16[part];
  }
  for (int part = 0; part < 4; ++part) {
    out->minus_sum32[part] = out->minus_sum16[2 * part] + out->minus_sum16[2 * part + 1];
  }
  for (int part = 0; part < 2; ++part) {
    out->minus_sum64[part] = out->minus_sum32[2 * part] + out->minus_sum32[2 * part + 1];
  }
}

// Quantizes row `row` of n values.
template <typename S, typename F, typename G>
[[gnu::always_inline]] inline void QuantizeRow(F&& vector, G&& one, int64_t n, int64_t row,
                                               const QuantizedRows& out) {
  uint8_t* to = out.data + row * out.ld;
  if (out.blocks) {
    auto* block = reinterpret_cast<QuantizedBlock*>(to);
    for (int64_t begin = 0; begin < n; begin += kBlockInputs, ++block) {
      alignas(64) uint8_t bytes[kBlockInputs];
      const int64_t count = std::min(kBlockInputs, n - begin);
      if (count < kBlockInputs) __builtin_memset(bytes, 128, sizeof(bytes));
      block->scale = QuantizeValues<S>(
          [&](int64_t i) __attribute__((always_inline)) { return vector(begin + i); },
          [&](int64_t i) __attribute__((always_inline)) { return one(begin + i); }, count, nullptr, bytes);
      FinishBlock<S>(bytes, block);
    }
  } else if (out.row_scale != nullptr) {
    out.row_scale[row] = QuantizeValues<S>(vector, one, n, nullptr, to);
  } else {
    QuantizeValues<S>(vector, one, n, &out, to);
  }
}

// Quantizes row `row`, x, in another order: what a block takes is gathered first, which costs about a cycle a value.
template <typename S>
void QuantizeInOrder(const QuantizeArgs& args, const BF16* x, int64_t row) {
  auto* block = reinterpret_cast<QuantizedBlock*>(args.out.data + row * args.out.ld);
  for (int64_t begin = 0; begin < args.n; begin += kBlockInputs, ++block) {
    BF16 values[kBlockInputs];
    const int64_t count = std::min(kBlockInputs, args.n - begin);
    for (int64_t i = 0; i < count; ++i) values[i] = x[args.order[begin + i]];
    QuantizeRow<S>([&](int64_t i) __attribute__((always_inline)) { return S::Widen(values + i); },
                   [&](int64_t i) { return values[i]; }, count, 0,
                   {.data = reinterpret_cast<uint8_t*>(block), .blocks = true});
  }
}

template <typename S>
void Quantize(const QuantizeArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const BF16* x = args.x + r * args.ldx;
    if (args.order != nullptr) {
      QuantizeInOrder<S>(args, x, r);
      continue;
    }
    QuantizeRow<S>([x](int64_t i) __attribute__((always_inline)) { return S::Widen(x + i); },
                   [x](int64_t i) { return x[i]; }, args.n, r, args.out);
  }
}

// x · sigmoid(x)
template <typename S>
[[gnu::always_inline]] inline typename S::V Silu(typename S::V x) {
  return S::Div(x, S::Add(S::Set(1.0f), S::Exp(S::Sub(S::Zero(), x))));
}

template <typename S>
void SwiGlu(const SwiGluArgs& args, Share share) {
  const Range rows = SplitRange(args.rows, 1, share);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = 0; c < args.n; c += S::kLanes) {
      const BF16* x = args.x + r * args.ldx + c / kColumnGroup * kColumnGroup + c;
      S::Narrow(args.out + r * args.ldo + c,
                S::Mul(Silu<S>(S::Widen(x)), S::Widen(x + kColumnGroup)));
    }
  }
}

}  // namespace tiercel::kernels::simd
