// Matmul by FP32 FMA on BF16 pairs, which are unpacked by shift and mask, once for all vector widths (S is an ISA's Simd).
// Every output element is one chain of FMAs over k ascending: the same on every ISA.
#pragma once

#include "kernels/ops.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/unpack_impl.h"

namespace tiercel::kernels::simd {

// In tiles of kRows rows × kVectors vectors of the ISA's registers. kStreamRows: up to so many rows memory is the nearer
// limit, or not far.
template <typename S, int kRows, int kVectors, int kStreamRows>
struct FmaProduct {
  using Args = MatmulArgs;
  using Sum = float;
  using V = typename S::V;
  using W = typename S::Raw;
  using X = V;
  static constexpr int kLanes = S::kLanes;
  static constexpr int kTileRows = kRows;
  static constexpr int kTileVectors = kVectors;
  static constexpr int kParts = 2;  // the numbers of a pair
  static constexpr int kUnpackRows = kStreamRows + 1;
  static V Zero() { return S::Zero(); }
  static V Load(const Sum* p) { return S::Load(p); }
  static void Store(Sum* p, V v) { S::Store(p, v); }
  static W LoadWeights(const char* p) { return S::LoadRaw(p); }
  static X LoadOperands(const char* p) { return S::Load(reinterpret_cast<const float*>(p)); }
  template <int part>
  static X Part(W pairs) { return S::template Part<BF16, part>(pairs); }
  static X Broadcast(const char* p) {
    float number;
    __builtin_memcpy(&number, p, sizeof(number));
    return S::Set(number);
  }
  static V Dot(V sum, X x, X w) {
    S::AddProduct(sum, x, w);
    return sum;
  }
  // The two numbers of each lane's pair, `stride` bytes apart.
  static void Unpack(const char* pairs, char* to, int64_t stride) {
    UnpackParts<S, BF16>(pairs, reinterpret_cast<float*>(to), stride / static_cast<int64_t>(sizeof(float)));
  }
  static void UnpackX(const char* x, int64_t bytes, char* to) {
    const BF16* from = reinterpret_cast<const BF16*>(x);
    const int64_t count = bytes / static_cast<int64_t>(sizeof(BF16));
    for (int64_t i = 0; i < count; i += kLanes) S::Store(reinterpret_cast<float*>(to) + i, S::Widen(from + i));
  }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<S>(args, row, column, width, sums);
  }
};

}  // namespace tiercel::kernels::simd
