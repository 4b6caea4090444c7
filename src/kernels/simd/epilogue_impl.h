// What happens to a matmul's sums before they are stored (ops.h: Epilogue, QuantMatmulArgs), once for
// all vector widths. `S` is an ISA's Simd.
#pragma once

#include "kernels/ops.h"
#include "kernels/simd/add_parts_impl.h"
#include "kernels/simd/quantize_impl.h"
#include "kernels/simd/stream_ahead.h"

namespace tiercel::kernels::simd {

// Stores the columns [column, column + width) of output row `row`, which are sum(c), kLanes from c on.
// width is a multiple of 16, of 32 for kSwiGlu. store(c, v): kLanes BF16 outputs from the row's c on.
template <typename S, typename Args, typename Sum, typename Store>
[[gnu::always_inline]] inline void StoreRow(const Args& args, int64_t row, int64_t column,
                                            int64_t width, Sum&& sum, Store&& store) {
  constexpr int kLanes = S::kLanes;
  const int64_t at = row * args.ldo + column;
  switch (args.epilogue) {
    case Epilogue::kStore:
      for (int64_t c = 0; c < width; c += kLanes) store(column + c, sum(c));
      return;
    case Epilogue::kAdd:
      for (int64_t c = 0; c < width; c += kLanes) {
        store(column + c, S::Add(sum(c), S::Widen(args.residual + at + c)));
      }
      return;
    case Epilogue::kAddParts: {
      const int64_t part = args.parts.offset + row * args.parts.ld + column;
      for (int64_t c = 0; c < width; c += kLanes) {
        store(column + c, S::Add(SumOfParts<S>(args.parts, part + c, sum(c)),
                                 S::Widen(args.residual + at + c)));
      }
      return;
    }
    case Epilogue::kSwiGlu:
      for (int64_t c = 0; c < width; c += 2 * kColumnGroup) {
        for (int64_t lane = 0; lane < kColumnGroup; lane += kLanes) {
          const typename S::V silu = Silu<S>(sum(c + lane));
          store((column + c) / 2 + lane, S::Mul(silu, sum(c + kColumnGroup + lane)));
        }
      }
      return;
    case Epilogue::kStoreF32:
      for (int64_t c = 0; c < width; c += kLanes) S::Store(args.out_f32 + at + c, sum(c));
      return;
  }
}

// Rows of the output, far apart in memory, are asked for so many ahead.
inline constexpr int64_t kRowsAhead = 8;

// Asks for the lines of the output, for writing, to which FinishRow will store these columns, at most two, and for
// those that it will add from other ranks, at most two of each.
// Only ever inlined: GCC takes a function that does nothing else for one without effect, and leaves out its calls.
template <typename Args>
[[gnu::always_inline]] inline void AskForRow(const Args& args, int64_t row, int64_t column, int64_t width) {
  const int64_t per = args.epilogue == Epilogue::kSwiGlu ? 2 : 1;  // columns of an output
  const char* begin;
  int64_t bytes;
  const auto set = [&](const auto* data, int64_t ld, int64_t first, int64_t count) __attribute__((always_inline)) {
    begin = reinterpret_cast<const char*>(data + row * ld + first);
    bytes = count * static_cast<int64_t>(sizeof(*data));
  };
  if (args.epilogue == Epilogue::kStoreF32) {
    set(args.out_f32, args.ldo, column, width);
  } else {
    set(args.out, args.ldo, column / per, width / per);
  }
  if constexpr (requires { args.quantized; }) {
    if (args.quantized.data != nullptr) set(args.quantized.data, args.quantized.ld, column / per, width / per);
  }
  __builtin_prefetch(begin, 1);
  if (bytes > kLine) __builtin_prefetch(begin + kLine, 1);
  if (args.epilogue != Epilogue::kAddParts) return;
  const RankParts& parts = args.parts;
  const int64_t at = parts.offset + row * parts.ld + column;
  for (int r = 0; r < parts.count; ++r) {
    if (r == parts.own) continue;
    __builtin_prefetch(parts.parts[r] + at);
    __builtin_prefetch(parts.parts[r] + at + width - 1);
  }
}

// Finishes the columns [column, column + width) of output row `row`, whose sums lie in groups of
// kColumnGroup, `stride` from group to group. Narrow rounds to BF16: S::Narrow, or a faster one of an
// ISA's own.
template <typename S, void (*Narrow)(BF16*, typename S::V) = S::Narrow, typename Args>
static inline void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width,
                             const float* sums, int64_t stride = kColumnGroup) {
  const float* bias = args.bias != nullptr ? args.bias + column : nullptr;
  const auto sum = [&](int64_t c) __attribute__((always_inline)) {
    const typename S::V v = S::Load(sums + c + c / kColumnGroup * (stride - kColumnGroup));
    return bias != nullptr ? S::Add(v, S::Load(bias + c)) : v;
  };
  BF16* out = args.out + row * args.ldo;
  StoreRow<S>(args, row, column, width, sum, [out](int64_t c, typename S::V v) __attribute__((
                                                 always_inline)) { Narrow(out + c, v); });
}

// The same for W8A8. sums: [width].
template <typename S>
static inline void FinishRow(const QuantMatmulArgs& args, int64_t row, int64_t column,
                             int64_t width, const int32_t* sums) {
  using V = typename S::V;
  const int32_t* acc_bias = args.acc_bias + column;
  const float* scale = args.scale + column;
  const float* bias = args.bias != nullptr ? args.bias + column : nullptr;
  const V row_scale = S::Set(args.row_scale != nullptr ? args.row_scale[row] : 1.0f);  // · 1 is exact
  const auto value = [&](int64_t c) __attribute__((always_inline)) {
    const V sum = S::SumOfInts(sums + c, acc_bias + c);
    const V y = S::Mul(S::Mul(sum, row_scale), S::Load(scale + c));
    return bias != nullptr ? S::Add(y, S::Load(bias + c)) : y;
  };
  if (args.quantized.data != nullptr) {
    uint8_t* out = args.quantized.data + row * args.quantized.ld;
    const Quantizer<S> quantize(args.quantized.scale, args.quantized.offset);
    StoreRow<S>(args, row, column, width, value, [&](int64_t c, V v) __attribute__((
                                                     always_inline)) {
      S::StoreBytes(out + c, quantize(S::Round(v)));
    });
  } else {
    BF16* out = args.out + row * args.ldo;
    StoreRow<S>(args, row, column, width, value,
                [out](int64_t c, V v) __attribute__((always_inline)) { S::Narrow(out + c, v); });
  }
}

}  // namespace tiercel::kernels::simd
