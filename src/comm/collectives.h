// What ranks of one worker team share out among each other, and how they add up. The ranks share an address
// space: data crosses by being read where it lies. Sums are taken in an order that the number of ranks determines, in
// FP32, whoever takes them (kernels/ops.h, RankParts): the bits depend on that number alone.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace tiercel::comm {

inline constexpr int kMaxRanks = 64;  // that can be asked for

struct Rank {
  int index = 0;
  int count = 1;
};

// Which of `items` rows rank `rank` owns, one after the other.
constexpr Range OwnedBy(Rank rank, int64_t items) {
  return SplitRange(items, 1, {rank.index, rank.count});
}

// Up to so many values each rank adds up all by itself, into a copy of its own: N ranks read N parts each,
// but meet once. A core reads some 10 FP32 values a nanosecond from another's cache at best, and a barrier
// takes a few tenths of a microsecond within a cache, more across sockets. Of more values each rank adds its
// own rows, on memory that all share, and they meet again before others read these.
inline constexpr int64_t kFewValues = 16 << 10;
constexpr bool AddsAlone(int64_t values) { return values <= kFewValues; }

// The same of the rows `range` alone.
inline kernels::AddPartsArgs RowsOf(kernels::AddPartsArgs args, Range range) {
  args.parts.offset += range.begin * args.parts.ld;
  args.residual += range.begin * args.ldr;
  args.out += range.begin * args.ldo;
  args.rows = range.size();
  return args;
}

}  // namespace tiercel::comm
