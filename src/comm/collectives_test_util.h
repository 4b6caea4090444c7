// Collectives: the pieces with their barriers between, as Programs record them, for tests and benchmarks. Every
// worker of every rank calls the same one at once, from within WorkerTeam::Run.
#pragma once

#include "comm/collectives.h"
#include "platform/worker_team.h"

namespace tiercel::comm {

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
  void AllReduce(const RankParts& parts, const RankRows& rows, int worker) const {
    if (AddsAlone(rows)) {
      team_.BarrierOfRanks();
      AddParts(kernels_, parts, rows, {0, rows.count}, RankOf(worker), ShareOf(worker));
    } else {
      ReduceScatter(parts, rows, worker);
      AllGather(rows, worker);
    }
  }

  // The same for the rows that the caller's rank owns (OwnedBy): the others of its copy stay as they are.
  void ReduceScatter(const RankParts& parts, const RankRows& rows, int worker) const {
    const Rank rank = RankOf(worker);
    team_.BarrierOfRanks();
    AddParts(kernels_, parts, rows, OwnedBy(rank, rows.count), rank, ShareOf(worker));
  }
  // Copies the rows that others own from their owners, which have finished theirs before they call.
  void AllGather(const RankRows& rows, int worker) const {
    team_.BarrierOfRanks();
    CopyFromOwners(rows, RankOf(worker), ShareOf(worker));
  }

 private:
  int rank_size() const { return team_.size() / team_.ranks(); }
  Share ShareOf(int worker) const { return {worker % rank_size(), rank_size()}; }
  Rank RankOf(int worker) const { return {worker / rank_size(), ranks()}; }

  platform::WorkerTeam& team_;
  const kernels::KernelTable& kernels_;
};

}  // namespace tiercel::comm
