// What crosses between processes at a Program's barriers.
#include <algorithm>
#include <cstddef>

#include "model/logit_transfers.h"
#include "model/program.h"

namespace tiercel::model {
namespace {

// The rows `range` of a region, as one piece: with what lies between them.
comm::Transfer PieceOf(int peer, const Region& region, const std::byte* base, Range range) {
  const int64_t bytes = range.size() > 0 ? (range.size() - 1) * region.stride + region.width : 0;
  return {peer, const_cast<std::byte*>(base) + range.begin * region.stride, 1, bytes, bytes};
}

// Of the rows of a copy those that a process reads.
Range ReadBy(const comm::RankPlaces& places, int process, int64_t rows, bool own_rows) {
  return own_rows ? places.OwnedByProcess(process, rows) : Range{0, rows};
}

}  // namespace

bool Program::Cross(std::initializer_list<RankAccess> accesses) {
  if (!HasPeers()) return false;
  const auto crosses = [&](const RankAccess& written) {
    bool reads = false, all_rows = false;
    for (const RankAccess& access : accesses) {
      if (!Conflict(written, access)) continue;
      reads = true;
      all_rows |= !access.own_rows;
    }
    if (!reads) return false;
    written.copies ? CrossCopies(written.region, !all_rows) : CrossRows(written.region);
    return true;
  };
  return std::erase_if(uncrossed_, crosses) > 0;
}

bool Program::IsUncrossed(const Region& region) const {
  return std::any_of(uncrossed_.begin(), uncrossed_.end(), [&](const RankAccess& a) { return a.region == region; });
}

// Each process has what its ranks own.
void Program::CrossRows(const Region& region) {
  const comm::RankPlaces& places = ranks_->places;
  for (int peer = 0; peer < places.process.count; ++peer) {
    if (peer == places.process.index) continue;
    const int to = places.InJob(peer);
    sends_.push_back(PieceOf(to, region, region.base, places.OwnedByProcess(places.process.index, region.rows)));
    receives_.push_back(PieceOf(to, region, region.base, places.OwnedByProcess(peer, region.rows)));
  }
}

// Each rank has a copy of its own, of which others read all, or the rows that they own.
void Program::CrossCopies(const Region& region, bool own_rows) {
  const comm::RankPlaces& places = ranks_->places;
  if (places.sums_first()) return CrossSums(region, own_rows);
  const auto read_by = [&](int process) { return ReadBy(places, process, region.rows, own_rows); };
  const auto bytes_of = [](const float* part) { return reinterpret_cast<const std::byte*>(part); };
  const int64_t offset = region.base - bytes_of(ranks_->parts[0]);
  for (int rank = 0; rank < places.ranks(); ++rank) {
    const std::byte* const base = bytes_of(ranks_->parts[static_cast<size_t>(rank)]) + offset;
    if (!places.IsHere(rank)) {
      const int from = places.InJob(rank / places.local);
      receives_.push_back(PieceOf(from, region, base, read_by(places.process.index)));
      continue;
    }
    for (int peer = 0; peer < places.process.count; ++peer) {
      if (peer != places.process.index) sends_.push_back(PieceOf(places.InJob(peer), region, base, read_by(peer)));
    }
  }
}

// The same, but the sum of the copies crosses.
void Program::CrossSums(const Region& region, bool own_rows) {
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  const comm::RankPlaces& places = ranks_->places;
  const auto bytes_of = [](const float* part) { return reinterpret_cast<const std::byte*>(part); };
  const int64_t offset = region.base - bytes_of(ranks_->parts[0]);
  const int64_t ld = region.stride / kFloat;
  const Range own = places.OwnedByProcess(places.process.index, region.rows);
  // Whatever others read: all rows, or all but this process's own.
  for (const Range rows : {Range{0, own_rows ? own.begin : region.rows}, Range{own_rows ? own.end : region.rows, region.rows}}) {
    if (rows.size() <= 0) continue;
    kernels::AddPartsArgs sum;
    sum.parts = {ranks_->parts.data() + places.first_here(), places.local, -1, ld, offset / kFloat + rows.begin * ld};
    sum.out_f32 = ranks_->sum + sum.parts.offset;
    sum.ldo = ld;
    sum.n = region.width / kFloat;
    sum.rows = rows.size();
    new_sums_.push_back(sum);
  }
  for (int peer = 0; peer < places.process.count; ++peer) {
    if (peer == places.process.index) continue;
    const float* const theirs = ranks_->parts[static_cast<size_t>(peer * places.local)];
    const auto read_by = [&](int process) { return ReadBy(places, process, region.rows, own_rows); };
    sends_.push_back(PieceOf(places.InJob(peer), region, bytes_of(ranks_->sum) + offset, read_by(peer)));
    receives_.push_back(PieceOf(places.InJob(peer), region, bytes_of(theirs) + offset, read_by(places.process.index)));
  }
}

// In the last stage. `region`: the rows, from this rank's first column on. A first process of several stages has no part in
// it: it takes the logits when it wants them.
void Program::CrossLogits(const Region& region, bool columns) {
  const comm::RankPlaces& places = ranks_->places;
  const LogitRows rows{const_cast<std::byte*>(region.base), region.rows, region.stride, region.width, columns};
  if (places.is_first_stage() && places.process.is_first()) {
    LogitsFromOthers(*ranks_, rows, &receives_);
  } else {
    sends_.push_back(LogitsToFirst(*ranks_, rows));
  }
}

// This process's of the region, to or from the same one of another stage.
comm::Transfer Program::RowsOfStage(int peer, const Region& region, Who who) const {
  const comm::RankPlaces& places = ranks_->places;
  const bool own = who == Who::kOwners;
  return PieceOf(peer, region, region.base,
                 own ? places.OwnedByProcess(places.process.index, region.rows) : Range{0, region.rows});
}

void Program::SendRows(const Region& region, Who who) {
  sends_.push_back(RowsOfStage(ranks_->places.Behind(), region, who));
}

void Program::ReceiveRows(const Region& region, Who who) {
  receives_.push_back(RowsOfStage(ranks_->places.Before(), region, who));
}

void Program::Received(const Region& region) {
  if (rank_.count > 1) uncrossed_.push_back({.region = region, .apart = true, .writes = true});
}

// All workers of this process's ranks share it out.
void Program::AddUp(const Barrier& op, const kernels::KernelTable& kernels, int worker) const {
  const comm::RankPlaces& places = ranks_->places;
  const Share share{(rank_.index - places.first_here()) * workers_ + worker, places.local * workers_};
  for (const kernels::AddPartsArgs& sum : std::span(sums_).subspan(static_cast<size_t>(op.first_sum), static_cast<size_t>(op.sums))) {
    kernels.add_parts(sum, share);
  }
}

// What fails is final: whoever runs the step asks the transport at its end.
void Program::Exchange(const Barrier& op) const {
  const auto all = std::span(transfers_).subspan(static_cast<size_t>(op.first_transfer));
  const auto sends = static_cast<size_t>(op.sends), receives = static_cast<size_t>(op.receives);
  (void)ranks_->transport->Exchange(all.first(sends), all.subspan(sends, receives));
}

}  // namespace tiercel::model
