// BlockFormat: weights that stay in the few bits in which a file has them.
//
// The inputs of a column come in groups of `group` values that share a scale and, in some formats, a minimum:
//     W[c, k] = scale(c, g) · (code[c, k] − zero) − min(c, g),    g = k / group,  0 ≤ code < 2^bits.
// Sixteen columns (a strip) lie together, in units of `unit` inputs, k ascending. A unit is
//     [scales][codes of 32 inputs][codes of the next 32]…
//
// Scales, for each of 16 columns, with G = unit / group groups:
//   kHalf       u16 scale[G][16]                                      binary16
//   kHalfMin    u16 scale[G][16], minus_min[G][16]                    binary16; min = −minus_min
//   kHalfZero   u16 scale[G][16], u8 zero[G][16]                      min = scale · zero
//   kSubMin     u16 d[16], dmin[16]; u8 low[G][16], high[G / 2][16]   scale = d · a, min = dmin · b of six bits:
//               a's low four bits are those of low[g], b's the high ones; high[g / 2] has, above 4 · (g % 2), a's
//               high two bits and above them b's
//   kSub        u16 d[16]; i8 a[G][16]                                scale = d · a
//   kFloat      f32 scale[G][16]                                      FP32
//
// Codes of 32 inputs, in lines of 64 bytes: byte 4·c + i of a line belongs to column c and, of a quad of inputs,
// to the i-th. Four lines of low bits: line j has quad 2·j in its low nibbles, quad 2·j + 1 in the high ones. Then
// with bits = 5 a line whose bit j is quad j's fifth; with bits = 6 two lines for 16 inputs each, of which bits 2·j
// and 2·j + 1 are those of quad j (from 0 in each line). With bits = 8: eight lines, a quad each.
// The codes of kF8 are numbers themselves (base/e4m3.h), W = scale · number; 16 bytes for each input, one a column.
//
// A padded input has the code 0 and lies in a group whose scale and minimum are 0.
#pragma once

#include <cstdint>

namespace tiercel {

enum class BlockFormat : uint8_t {
  kNone, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K, kI4, kI4_64, kU4, kU4_64, kU4_32, kF8
};
enum class BlockScales : uint8_t { kHalf, kHalfMin, kHalfZero, kSubMin, kSub, kFloat };

inline constexpr int64_t kStripColumns = 16;
inline constexpr int64_t kCodeGroup = 32;  // inputs whose codes lie together
inline constexpr int64_t kCodeLine = 64;   // bytes
// Inputs are padded to whole blocks of activations, see kernels/ops.h.
inline constexpr int64_t kBlockInputs = 128;

struct BlockFormatInfo {
  const char* name;
  int bits;
  int64_t group, unit;
  BlockScales scales;
  int zero;

  constexpr int64_t groups() const { return unit / group; }
  constexpr int64_t ScaleBytes() const {
    constexpr int64_t kHalfs = 2 * kStripColumns;
    switch (scales) {
      case BlockScales::kHalf: return kHalfs * groups();
      case BlockScales::kHalfMin: return 2 * kHalfs * groups();
      case BlockScales::kHalfZero: return (kHalfs + kStripColumns) * groups();
      case BlockScales::kSubMin: return 2 * kHalfs + kStripColumns * (groups() + groups() / 2);
      case BlockScales::kSub: return kHalfs + kStripColumns * groups();
      case BlockScales::kFloat: return 2 * kHalfs * groups();
    }
    return 0;
  }
  constexpr int64_t CodeBytes() const { return kStripColumns * kCodeGroup * bits / 8; }  // of 32 inputs
  constexpr int64_t UnitBytes() const { return ScaleBytes() + CodeBytes() * (unit / kCodeGroup); }
};

// GGUF's types by their names. kI4 and kU4: a scale for each 128, in the second a zero point too; or for each 64 or 32
// (symmetric groups of 32 are kQ4_0). kF8: FP8 (E4M3) with a scale for each 128.
constexpr BlockFormatInfo InfoOf(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ4_0: return {"Q4_0", 4, 32, 128, BlockScales::kHalf, 8};
    case BlockFormat::kQ4_1: return {"Q4_1", 4, 32, 128, BlockScales::kHalfMin, 0};
    case BlockFormat::kQ5_0: return {"Q5_0", 5, 32, 128, BlockScales::kHalf, 16};
    case BlockFormat::kQ5_1: return {"Q5_1", 5, 32, 128, BlockScales::kHalfMin, 0};
    case BlockFormat::kQ8_0: return {"Q8_0", 8, 32, 128, BlockScales::kHalf, 128};
    case BlockFormat::kQ4_K: return {"Q4_K", 4, 32, 256, BlockScales::kSubMin, 0};
    case BlockFormat::kQ5_K: return {"Q5_K", 5, 32, 256, BlockScales::kSubMin, 0};
    case BlockFormat::kQ6_K: return {"Q6_K", 6, 16, 256, BlockScales::kSub, 32};
    case BlockFormat::kI4: return {"I4", 4, 128, 128, BlockScales::kHalf, 8};
    case BlockFormat::kI4_64: return {"I4_64", 4, 64, 128, BlockScales::kHalf, 8};
    case BlockFormat::kU4: return {"U4", 4, 128, 128, BlockScales::kHalfZero, 0};
    case BlockFormat::kU4_64: return {"U4_64", 4, 64, 128, BlockScales::kHalfZero, 0};
    case BlockFormat::kU4_32: return {"U4_32", 4, 32, 128, BlockScales::kHalfZero, 0};
    case BlockFormat::kF8: return {"FP8", 8, 128, 128, BlockScales::kFloat, 0};
    case BlockFormat::kNone: break;
  }
  return {"none", 0, 128, 128, BlockScales::kHalf, 0};
}

// The format of four-bit codes with a binary16 scale, and unless `symmetric` a zero point, for each `group` inputs: a
// multiple of 32, of which larger ones are several groups of the format.
constexpr BlockFormat GroupedInt4(int64_t group, bool symmetric) {
  if (group % 128 == 0) return symmetric ? BlockFormat::kI4 : BlockFormat::kU4;
  if (group % 64 == 0) return symmetric ? BlockFormat::kI4_64 : BlockFormat::kU4_64;
  return symmetric ? BlockFormat::kQ4_0 : BlockFormat::kU4_32;
}

// Bytes of a strip of k inputs, padded to whole units. kNone: 0.
constexpr int64_t StripBytes(BlockFormat format, int64_t k) {
  if (format == BlockFormat::kNone) return 0;
  const BlockFormatInfo info = InfoOf(format);
  return (k + info.unit - 1) / info.unit * info.UnitBytes();
}

// Sixteen columns of a matrix. kNone: all their weights are 0.
struct BlockStrip {
  BlockFormat format = BlockFormat::kNone;
  int64_t offset = 0;  // bytes from the matrix's data
};

}  // namespace tiercel
