#include "comm/collectives.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace tiercel::comm {

namespace {

// Up to so many values each rank adds up all by itself: N ranks read N parts each, but meet once. A
// core reads some 10 FP32 values a nanosecond from another's cache line stream at best, and a barrier
// takes a few tenths of a microsecond within a cache, more across sockets.
constexpr int64_t kFewValues = 16 << 10;

}  // namespace

// The rows [own.begin, own.end) of the worker's rank, shared out among the rank's workers.
void Collectives::AddOwn(const RankParts& parts, const RankRows& rows, Range own, int worker) const {
  if (own.size() == 0) return;
  constexpr int kMaxRanks = 64;
  const float* begins[kMaxRanks];
  CHECK_LE(ranks(), kMaxRanks);
  for (int r = 0; r < ranks(); ++r) begins[r] = parts.parts[r] + own.begin * parts.ld;
  kernels::AddPartsArgs args;
  args.parts = begins;
  args.num_parts = ranks();
  args.ldp = parts.ld;
  args.out = rows.rows[RankOf(worker)] + (rows.first + own.begin) * rows.ld;
  args.ldo = rows.ld;
  args.residual = args.out;
  args.ldr = rows.ld;
  args.n = rows.n;
  args.rows = own.size();
  kernels_.add_parts(args, ShareOf(worker));
}

void Collectives::TakeOthers(const RankRows& rows, int worker) const {
  const int rank = RankOf(worker);
  for (int i = 1; i < ranks(); ++i) {
    const int owner = (rank + i) % ranks();  // each begins with another
    const Range owned = OwnedBy(owner, ranks(), rows.count);
    const Range mine = SplitRange(owned.size(), 1, ShareOf(worker));
    const int64_t first = rows.first + owned.begin;
    for (int64_t r = first + mine.begin; r < first + mine.end; ++r) {
      std::memcpy(rows.rows[rank] + r * rows.ld, rows.rows[owner] + r * rows.ld,
                  static_cast<size_t>(rows.n) * sizeof(BF16));
    }
  }
}

void Collectives::AllReduce(const RankParts& parts, const RankRows& rows, int worker) const {
  if (rows.count * rows.n > kFewValues) {
    ReduceScatter(parts, rows, worker);
    AllGather(rows, worker);
    return;
  }
  team_.BarrierOfRanks();
  AddOwn(parts, rows, {0, rows.count}, worker);
}

void Collectives::ReduceScatter(const RankParts& parts, const RankRows& rows, int worker) const {
  team_.BarrierOfRanks();
  AddOwn(parts, rows, OwnedBy(RankOf(worker), ranks(), rows.count), worker);
}

void Collectives::AllGather(const RankRows& rows, int worker) const {
  team_.BarrierOfRanks();
  TakeOthers(rows, worker);
}

}  // namespace tiercel::comm
