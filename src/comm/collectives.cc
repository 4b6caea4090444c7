#include "comm/collectives.h"

#include "base/check.h"

namespace tiercel::comm {

namespace {

// Up to so many values each rank adds up all by itself: N ranks read N parts each, but meet once. A
// core reads some 10 FP32 values a nanosecond from another's cache line stream at best, and a barrier
// takes a few tenths of a microsecond within a cache, more across sockets.
constexpr int64_t kFewValues = 16 << 10;

}  // namespace

bool AddsAlone(const RankRows& rows) { return rows.count * rows.n <= kFewValues; }

void AddParts(const kernels::KernelTable& kernels, const RankParts& parts, const RankRows& rows,
              Range own, Rank rank, Share share) {
  if (own.size() == 0) return;
  CHECK_LE(rank.count, kMaxRanks);
  const float* begins[kMaxRanks];
  for (int r = 0; r < rank.count; ++r) begins[r] = parts.parts[r] + (parts.first + own.begin) * parts.ld;
  kernels::AddPartsArgs args;
  args.parts = begins;
  args.num_parts = rank.count;
  args.ldp = parts.ld;
  args.out = rows.rows[rank.index] + (rows.first + own.begin) * rows.ld;
  args.ldo = rows.ld;
  args.residual = args.out;
  args.ldr = rows.ld;
  args.n = rows.n;
  args.rows = own.size();
  kernels.add_parts(args, share);
}

}  // namespace tiercel::comm
