// WorkerTeam: the threads that run a step together (SPMD), and their barrier.
//
// Run(fn) calls fn(worker) once on every worker, worker 0 being the calling thread, and returns
// when all are done. One thread at a time may call Run. Within fn, Barrier() makes every worker's
// writes before it visible to all after it. Waiting spins briefly (a step's barriers are far
// apart by microseconds), then sleeps on a futex: nothing spins while the team is idle, and a
// worker that lost its core to another process gets that of one who waits for it, if both lie on one
// NUMA node (its memory does) and are of one kind (its share of the work is for that). Under a CPU quota or with more
// workers than CPUs the spin is kept near zero.
//
// A team may be several ranks, each of as many workers one after the other: Barrier() is then that of the
// caller's rank, and BarrierOfRanks() that of all.
//
// An exception that leaves fn has nobody to go to: the other workers stand at a barrier that the one who
// threw will never reach. It ends the process with its message.
#pragma once

#include <memory>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"

namespace tiercel::platform {

inline constexpr size_t kMaxWorkers = 4096;  // of a team

struct WorkerTeamOptions {
  // One worker for each, not empty; a CPU may be named more than once.
  std::vector<int> cpus;
  // The NUMA node of each of `cpus` (Topology::NodesOf); empty: all lie on one.
  std::vector<int> nodes = {};
  // What tells fast CPUs from slow ones, of each of `cpus` (Topology::KindsOf); empty: all are alike.
  std::vector<int> kinds = {};
  // The last-level cache of each of `cpus` (Topology::CachesOf), not negative; empty: all share one.
  std::vector<int> caches = {};
  int ranks = 1;  // divides the workers
  // Pins each worker to its CPU (workers may change places later); worker 0 (the caller) only for
  // the length of a Run, so that the threads that it starts between Runs do not inherit one CPU.
  bool pin = true;
  int spin_iterations = -1;  // pause instructions before sleeping; −1: chosen from the environment
};

class WorkerTeam {
 public:
  static Expected<std::unique_ptr<WorkerTeam>> Create(const WorkerTeamOptions& options);
  ~WorkerTeam();  // joins the threads

  int size() const;  // of all ranks
  int ranks() const;
  void Run(FunctionRef<void(int worker)> fn) noexcept;
  void Barrier();
  // The same; while it waits, the worker calls `meanwhile` again and again, until that returns false.
  // A call should take well below a microsecond.
  void Barrier(FunctionRef<bool()> meanwhile);
  void BarrierOfRanks();
  void BarrierOfRanks(FunctionRef<bool()> meanwhile);

 private:
  struct Impl;
  explicit WorkerTeam(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel::platform
