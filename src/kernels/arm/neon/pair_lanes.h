// What simd/matmul_impl.h is written in for the matrix products: one instruction adds those of two rows
// of x and two columns, of eight bytes of k each, to four sums.
#pragma once

#include "kernels/arm/neon/kernels.h"
#include "kernels/arm/neon/vector.h"
#include "kernels/simd/epilogue_impl.h"
#include "kernels/simd/matmul_impl.h"

namespace tiercel::kernels::neon {

// Product::Add(sums, x, w) is that instruction. 64 bits of a register are the sums of a row and two columns, of an operand the eight bytes of a row or a column; `low` has
// the first two of four columns.
template <typename A, typename S, typename Product>
struct PairLanes {
  using Args = A;
  using Sum = S;
  using V = Two<uint64x2_t>;
  using W = Two<uint32x4_t>;
  using X = uint32x4_t;
  static constexpr bool kTakesPairs = true;
  static constexpr int kParts = 1;
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 6;     // 24 sums,
  static constexpr int kTileVectors = 4;  // 3 registers of x, 2 of weights and what these are made of: of the 32
  static constexpr int kUnpackRows = 7;   // more than one tile
  static V Zero() {
    const uint64x2_t zero = vdupq_n_u64(0);
    return {zero, zero};
  }
  static V Load(const Sum* p, int64_t next) {
    return Interleave(vld1q_u64(reinterpret_cast<const uint64_t*>(p)),
                      vld1q_u64(reinterpret_cast<const uint64_t*>(p + next)));
  }
  static void Store(Sum* p, int64_t next, V v) {
    const V rows = Interleave(v.low, v.high);
    vst1q_u64(reinterpret_cast<uint64_t*>(p), rows.low);
    vst1q_u64(reinterpret_cast<uint64_t*>(p + next), rows.high);
  }
  static W LoadWeights(const char* p, int64_t next) {
    const W fours = LoadOperands(p, next);
    return {vzip1q_u32(fours.low, fours.high), vzip2q_u32(fours.low, fours.high)};
  }
  static W LoadOperands(const char* p, int64_t next) { return {LoadX(p), LoadX(p + next)}; }
  static X LoadX(const char* p) { return vld1q_u32(reinterpret_cast<const uint32_t*>(p)); }
  static void Unpack(const char* fours, int64_t next, char* to, int64_t to_next) {
    const W weights = LoadWeights(fours, next);
    vst1q_u32(reinterpret_cast<uint32_t*>(to), weights.low);
    vst1q_u32(reinterpret_cast<uint32_t*>(to + to_next), weights.high);
  }
  static void UnpackX(const char* x, int64_t next, int64_t bytes, char* to) {
    for (int64_t i = 0; i < bytes; i += 16) {
      const V pairs = Interleave(vreinterpretq_u64_u32(LoadX(x + i)), vreinterpretq_u64_u32(LoadX(x + next + i)));
      vst1q_u64(reinterpret_cast<uint64_t*>(to + 2 * i), pairs.low);
      vst1q_u64(reinterpret_cast<uint64_t*>(to + 2 * i + 16), pairs.high);
    }
  }
  [[gnu::always_inline]] static V Dot(V sum, X x, W w) {
    return {Product::Add(sum.low, x, w.low), Product::Add(sum.high, x, w.high)};
  }
  static void FinishRow(const Args& args, int64_t row, int64_t column, int64_t width, const Sum* sums) {
    simd::FinishRow<Simd>(args, row, column, width, sums);
  }

 private:
  // Its own inverse.
  static V Interleave(uint64x2_t a, uint64x2_t b) { return {vzip1q_u64(a, b), vzip2q_u64(a, b)}; }
};

}  // namespace tiercel::kernels::neon
