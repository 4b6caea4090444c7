// FP8 by products of tiles for fp8_matmul_impl.h. A decoded unit of 128 inputs × 16 columns is four tiles B as it lies there.
// `Registers` are the tile registers: Zero<c>(), Load<t>(p, stride), Multiply<c, a, b>() of BF16, Store<c>(p, stride).
#pragma once

#include <algorithm>

#include "kernels/simd/fp8_matmul_impl.h"
#include "kernels/x86/avx512/fp8_lines.h"

namespace tiercel::kernels::amx {
namespace {

template <typename Registers>
struct Fp8Tiles : avx512::Fp8Lines {
  using Tile = simd::Fp8Tile<Fp8Tiles>;
  static constexpr bool kTileRegisters = true;
  static constexpr int kRows = 16;        // of a register
  static constexpr int kTileRows = 64;    // four registers of sums
  static constexpr int kPanelRows = 256;  // decoding takes as long as the products of some 64 rows

  // At most four units. With fewer rows than a register the configuration has them.
  template <bool kDecoded>
  [[gnu::noinline]] static void AddTile(int64_t rows, const Tile& tile) {
    if constexpr (!kDecoded) DecodeUnits(tile);
    if (rows <= kRows) {
      switch (tile.units) {
        case 1: return AddSideBySide<1>(rows, tile);
        case 2: return AddSideBySide<2>(rows, tile);
        case 3: return AddSideBySide<3>(rows, tile);
        default: return AddSideBySide<4>(rows, tile);
      }
    }
    switch ((rows + kRows - 1) / kRows) {
      case 2: return AddRows<2>(rows, tile);
      case 3: return AddRows<3>(rows, tile);
      default: return AddRows<4>(rows, tile);
    }
  }

 private:
  static constexpr int64_t kSteps = 4;  // tiles B of a unit
  static constexpr int64_t kStepInputs = 32;
  static constexpr int64_t kStepPairs = kStepInputs / kTake;
  static constexpr int64_t kXStride = kBlockInputs * sizeof(BF16);
  static constexpr int64_t kLineBytes = 64;  // sixteen pairs, or sums
  static constexpr int64_t kUnitBytes = simd::kFp8Info.UnitBytes();

  static void DecodeUnits(const Tile& tile) {
    for (int64_t u = 0; u < tile.units; ++u) {
      const uint8_t* const codes = tile.w + u * kUnitBytes + simd::kFp8Info.ScaleBytes();
      W(*to)[1] = tile.decoded + u * kBlockInputs / kTake;
      for (int64_t k = 0; k < kBlockInputs; k += simd::kFp8AskEvery) {
        tile.ahead->AskPair();
        for (int64_t i = k; i < k + simd::kFp8AskEvery; i += kTake * kParts, to += kParts) {
          W w[kParts][1];
          Decode(codes + i * kStripColumns, w);
          to[0][0] = w[0][0];
          to[1][0] = w[1][0];
        }
      }
      tile.ahead->AskPair();  // scales
    }
  }

  // f<0>() … f<kCount − 1>(): a register's number is a part of the instruction.
  template <int kCount, typename F>
  [[gnu::always_inline]] static void Each(const F& f) {
    if constexpr (kCount > 1) Each<kCount - 1>(f);
    f.template operator()<kCount - 1>();
  }
  static V ScaleOf(const Tile& tile, int64_t u) { return Load(reinterpret_cast<const float*>(tile.w + u * kUnitBytes)); }

  // Up to 16 rows: a register of sums for each unit, as the products of one wait for each other.
  template <int kUnits>
  static void AddSideBySide(int64_t rows, const Tile& tile) {
    alignas(64) float sums[kUnits][kRows * kStripColumns];
    Each<kUnits>([&]<int u>() __attribute__((always_inline)) { Registers::template Zero<u>(); });
    for (int64_t step = 0; step < kSteps; ++step) {
      Each<kUnits>([&]<int u>() __attribute__((always_inline)) {
        constexpr int a = 4 + u % 2 * 2, b = a + 1;
        Registers::template Load<a>(tile.x + u * tile.x_unit + step * kStepInputs, kXStride);
        Registers::template Load<b>(tile.decoded + (u * kSteps + step) * kStepPairs, kLineBytes);
        Registers::template Multiply<u, a, b>();
      });
    }
    Each<kUnits>([&]<int u>() __attribute__((always_inline)) { Registers::template Store<u>(sums[u], kLineBytes); });
    for (int64_t r = 0; r < rows; ++r) {
      V y = Load(tile.y + r * kStripColumns);
      for (int u = 0; u < kUnits; ++u) y = Fma(Load(sums[u] + r * kStripColumns), ScaleOf(tile, u), y);
      Simd::Store(tile.y + r * kStripColumns, y);
    }
  }

  // More rows: the units one after the other, a register of sums for each 16 rows. The last ones begin so that the
  // register is whole, if need be with rows of the one before it.
  template <int kTiles>
  static void AddRows(int64_t rows, const Tile& tile) {
    alignas(64) float sums[kTiles][kRows * kStripColumns];
    const auto first = [rows](int i) { return std::min<int64_t>(i * kRows, rows - kRows); };
    for (int64_t u = 0; u < tile.units; ++u) {
      Each<kTiles>([&]<int i>() __attribute__((always_inline)) { Registers::template Zero<i>(); });
      for (int64_t step = 0; step < kSteps; ++step) {
        Registers::template Load<4>(tile.decoded + (u * kSteps + step) * kStepPairs, kLineBytes);
        const BF16* const x = tile.x + u * tile.x_unit + step * kStepInputs;
        Each<kTiles>([&]<int i>() __attribute__((always_inline)) {
          constexpr int a = 5 + i % 3;
          Registers::template Load<a>(x + first(i) * kBlockInputs, kXStride);
          Registers::template Multiply<i, a, 4>();
        });
      }
      Each<kTiles>([&]<int i>() __attribute__((always_inline)) { Registers::template Store<i>(sums[i], kLineBytes); });
      const V scale = ScaleOf(tile, u);
      for (int64_t r = 0; r < rows; ++r) {
        const int i = static_cast<int>(r / kRows);
        float* const y = tile.y + r * kStripColumns;
        Simd::Store(y, Fma(Load(sums[i] + (r - first(i)) * kStripColumns), scale, Load(y)));
      }
    }
  }
};

}  // namespace
}  // namespace tiercel::kernels::amx
