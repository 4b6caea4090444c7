// What collectives among the ranks of one worker team are made of. The ranks share an address space.
//
// Each is one worker's part; barriers of all ranks lie between them, see model/program.h. Data crosses by being
// read where it lies: nothing is copied into buffers between. Sums are taken in the order of the ranks, in
// FP32, whoever takes them: the bits depend on the number of ranks alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bf16.h"
#include "kernels/ops.h"

namespace tiercel::comm {

inline constexpr int kMaxRanks = 64;

struct Rank {
  int index = 0;
  int count = 1;
};

// Which of `items` rows rank `rank` owns, one after the other.
constexpr Range OwnedBy(Rank rank, int64_t items) {
  return SplitRange(items, 1, {rank.index, rank.count});
}

// The rank that owns row `row` of these.
constexpr int OwnerOf(int64_t row, int ranks, int64_t items) {
  int owner = 0;
  while (row >= OwnedBy({owner, ranks}, items).end) ++owner;
  return owner;
}

// The same rows on every rank, of those that begin at `rows[r]` on rank r the `count` from `first` on.
template <typename T>
struct RankRowsOf {
  T* const* rows = nullptr;  // [ranks] of [first + count, ld]
  int64_t ld = 0;
  int64_t n = 0;  // columns
  int64_t first = 0;
  int64_t count = 0;
};
using RankRows = RankRowsOf<BF16>;

// What each rank has computed of them: the rows from `first` on at parts[r] are rank r's.
struct RankParts {
  const float* const* parts = nullptr;  // [ranks] of [first + count, ld]
  int64_t ld = 0;
  int64_t first = 0;
};

// Adds all ranks' parts to the rows `own` (of those that `rows` names) of rank `rank`'s copy.
void AddParts(const kernels::KernelTable& kernels, const RankParts& parts, const RankRows& rows,
              Range own, Rank rank, Share share);
// Copies the rows that others own from their copies into rank `rank`'s.
template <typename T>
void CopyFromOwners(const RankRowsOf<T>& rows, Rank rank, Share share) {
  for (int i = 1; i < rank.count; ++i) {
    const int owner = (rank.index + i) % rank.count;  // each begins with another
    const Range owned = OwnedBy({owner, rank.count}, rows.count);
    const Range mine = SplitRange(owned.size(), 1, share);
    const int64_t first = rows.first + owned.begin;
    for (int64_t r = first + mine.begin; r < first + mine.end; ++r) {
      std::copy_n(rows.rows[owner] + r * rows.ld, rows.n, rows.rows[rank.index] + r * rows.ld);
    }
  }
}
// Whether each rank rather adds all rows for itself, and meets the others once, than its own.
bool AddsAlone(const RankRows& rows);

}  // namespace tiercel::comm
