#include "model/block_packing.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace tiercel::model {
namespace {

bool HasSubScales(const BlockFormatInfo& info) {
  return info.scales == BlockScales::kSubMin || info.scales == BlockScales::kSub;
}

void PutHalf(uint8_t* halfs, int64_t index, uint16_t bits) { std::memcpy(halfs + 2 * index, &bits, sizeof(bits)); }

// The scales of column c in a unit whose first group is the row's g0-th and first unit its u0-th; `groups` are there.
void PutScales(const BlockFormatInfo& info, const checkpoint::BlockRow& row, int64_t u0, int64_t g0, int64_t groups, int64_t c,
               uint8_t* unit) {
  constexpr int64_t kColumns = kStripColumns;
  const auto at = [g0](int64_t g) { return static_cast<size_t>(g0 + g); };
  if (HasSubScales(info)) PutHalf(unit, c, row.scale[static_cast<size_t>(u0)]);
  if (info.scales == BlockScales::kSubMin) PutHalf(unit, kColumns + c, row.min[static_cast<size_t>(u0)]);
  for (int64_t g = 0; g < groups; ++g) {
    switch (info.scales) {
      case BlockScales::kHalf: PutHalf(unit, g * kColumns + c, row.scale[at(g)]); break;
      case BlockScales::kHalfMin:
        PutHalf(unit, g * kColumns + c, row.scale[at(g)]);
        PutHalf(unit, (info.groups() + g) * kColumns + c, row.min[at(g)]);
        break;
      case BlockScales::kHalfZero:
        PutHalf(unit, g * kColumns + c, row.scale[at(g)]);
        unit[(2 * info.groups() + g) * kColumns + c] = row.sub_min[at(g)];
        break;
      case BlockScales::kSubMin: {
        const int a = row.sub_scale[at(g)], b = row.sub_min[at(g)];
        unit[(4 + g) * kColumns + c] = static_cast<uint8_t>((a & 15) | (b & 15) << 4);
        unit[(4 + info.groups() + g / 2) * kColumns + c] |= static_cast<uint8_t>((a >> 4 | b >> 4 << 2) << g % 2 * 4);
        break;
      }
      case BlockScales::kFloat:
        std::memcpy(unit + 4 * (g * kColumns + c), &row.float_scale[at(g)], sizeof(float));
        break;
      case BlockScales::kSub: unit[(2 + g) * kColumns + c] = row.sub_scale[at(g)]; break;
    }
  }
}

// The codes of column c for up to 32 inputs.
void PutCodes(const BlockFormatInfo& info, const uint8_t* from, int64_t count, int64_t c, uint8_t* codes) {
  const int bits = info.bits;
  if (info.scales == BlockScales::kFloat) {
    for (int64_t k = 0; k < count; ++k) codes[k * kStripColumns + c] = from[k];
    return;
  }
  uint8_t* const high = codes + 4 * kCodeLine;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t quad = k / kQuad, byte = c * kQuad + k % kQuad;
    const int code = from[k];
    if (bits == 8) {
      codes[quad * kCodeLine + byte] = static_cast<uint8_t>(code);
      continue;
    }
    codes[quad / 2 * kCodeLine + byte] |= static_cast<uint8_t>((code & 15) << quad % 2 * 4);
    if (bits == 5) high[byte] |= static_cast<uint8_t>(code >> 4 << quad);
    if (bits == 6) high[quad / 4 * kCodeLine + byte] |= static_cast<uint8_t>(code >> 4 << quad % 4 * 2);
  }
}

}  // namespace

Status CheckSlice(const std::string& name, BlockFormat format, int64_t k, Range slice) {
  const BlockFormatInfo info = InfoOf(format);
  const int64_t whole = HasSubScales(info) ? info.unit : info.group;
  if (slice.begin % whole == 0 && (slice.end == k || slice.end % whole == 0)) return OkStatus();
  return Unimplemented("{}: found {} inputs in {} blocks of {}, expected that each rank has whole blocks; use another "
                       "--tensor-parallel-size, or --quantization none for BF16 weights",
                       name, k, info.name, whole);
}

void PackStrip(BlockFormat format, const StripRows& rows, Range slice, uint8_t* out) {
  const BlockFormatInfo info = InfoOf(format);
  std::memset(out, 0, static_cast<size_t>(StripBytes(format, slice.size())));
  for (int64_t begin = slice.begin; begin < slice.end; begin += info.unit, out += info.UnitBytes()) {
    const int64_t count = std::min(info.unit, slice.end - begin);
    const int64_t groups = (count + info.group - 1) / info.group;
    for (int64_t c = 0; c < kStripColumns; ++c) {
      const checkpoint::BlockRow* row = rows[static_cast<size_t>(c)];
      if (row == nullptr) continue;
      PutScales(info, *row, begin / info.unit, begin / info.group, groups, c, out);
      uint8_t* codes = out + info.ScaleBytes();
      for (int64_t k = 0; k < count; k += kCodeGroup, codes += info.CodeBytes()) {
        PutCodes(info, row->codes.data() + begin + k, std::min(kCodeGroup, count - k), c, codes);
      }
    }
  }
}

}  // namespace tiercel::model
