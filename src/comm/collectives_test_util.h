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

  // args.out = args.residual + the sum of the parts, one of which each rank has written before it calls this.
  // Few values (AddsAlone): `out` is the rank's own copy, and a worker may read what it has added itself. Many:
  // all ranks have the same `out`, and any may read it afterwards. The parts may be written again once every
  // rank has passed a further barrier of all.
  void AllReduce(const kernels::AddPartsArgs& args, int worker) const {
    if (AddsAlone(args.rows * args.n)) {
      team_.BarrierOfRanks();
      kernels_.add_parts(args, ShareOf(worker));
    } else {
      ReduceScatter(args, worker);
      team_.BarrierOfRanks();
    }
  }

  // The same for the rows alone that the caller's rank owns.
  void ReduceScatter(const kernels::AddPartsArgs& args, int worker) const {
    team_.BarrierOfRanks();
    const Rank rank = {worker / rank_size(), ranks()};
    kernels_.add_parts(RowsOf(args, OwnedBy(rank, args.rows)), ShareOf(worker));
  }

 private:
  int rank_size() const { return team_.size() / team_.ranks(); }
  Share ShareOf(int worker) const { return {worker % rank_size(), rank_size()}; }

  platform::WorkerTeam& team_;
  const kernels::KernelTable& kernels_;
};

}  // namespace tiercel::comm
