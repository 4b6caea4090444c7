// Collectives among the ranks of one worker team, which share an address space.
//
// Every worker of every rank calls the same collective at once, from within WorkerTeam::Run. Data crosses
// by being read where it lies: nothing is copied into buffers between. Sums are taken in the order of the
// ranks, in FP32, whoever takes them: the bits depend on the number of ranks alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bf16.h"
#include "kernels/ops.h"
#include "platform/worker_team.h"

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

// The pieces that collectives are made of, for one worker of a rank. Barriers lie between: see Collectives.
//
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

class Collectives {
 public:
  // Both outlive this.
  Collectives(platform::WorkerTeam* team, const kernels::KernelTable* kernels)
      : team_(*team), kernels_(*kernels) {}

  int ranks() const { return team_.ranks(); }

  // rows[r] += parts[0] + parts[1] + …, for every rank r. Every worker has written its share of its
  // rank's part before it calls this; afterwards it may read what it has written of the sums itself,
  // and all of its rank's after the rank's next barrier. Few rows: each rank adds all for itself, after
  // one barrier. Many: each adds its own rows and takes the others' from their owners, after two.
  // The parts may be written again once every rank has passed a further barrier of all.
  void AllReduce(const RankParts& parts, const RankRows& rows, int worker) const;

  // The same for the rows that the caller's rank owns (OwnedBy): the others of its copy stay as they are.
  void ReduceScatter(const RankParts& parts, const RankRows& rows, int worker) const;
  // Copies the rows that others own from their owners, which have finished theirs before they call.
  void AllGather(const RankRows& rows, int worker) const;

 private:
  int rank_size() const { return team_.size() / team_.ranks(); }
  Share ShareOf(int worker) const { return {worker % rank_size(), rank_size()}; }
  Rank RankOf(int worker) const { return {worker / rank_size(), ranks()}; }

  platform::WorkerTeam& team_;
  const kernels::KernelTable& kernels_;
};

}  // namespace tiercel::comm
