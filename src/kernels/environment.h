// Environment: the machine as one object that is passed down. No singletons, so that two engines
// fit in one process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"
#include "platform/cpu_features.h"
#include "platform/placement.h"
#include "platform/topology.h"
#include "platform/worker_team.h"

namespace tiercel::kernels {

// Processes of one machine that share its CPUs and memory, with as many engines and ranks each.
struct Neighbors {
  int index = 0;
  int count = 1;
};

struct EnvironmentOptions {
  int threads = 0;  // in all; 0: one per usable physical core (OMP_NUM_THREADS lowers it, for each rank)
  std::string isa = {};  // "" or TIERCEL_CPU_ISA's value
  bool pin = true;
  int ranks = 1;    // of each team, with as many workers each
  int engines = 1;  // environments
  Neighbors neighbors = {};  // of this process
  platform::CpuBinding binding = {};
  int reserved_cpus = 0;  // of each rank
};

// Where the workers of this process go, with what OMP_NUM_THREADS leaves of them.
Expected<platform::Placement> PlaceRanks(const platform::Topology& topology, const EnvironmentOptions& options);

struct Environment {
  platform::CpuFeatures cpu;
  platform::Topology topology;
  std::unique_ptr<platform::WorkerTeam> team;
  std::vector<int> nodes;  // the NUMA node of each worker
  // How much of the work each worker of the team gets, where they are not alike: by the speed of their CPUs, or as
  // TIERCEL_CPU_SHARES says. Empty: as much as the others.
  std::vector<int> shares;
  const KernelTable* kernels = nullptr;
  // That share the machine's memory, this one's and those of other processes among them; and how many copies of their
  // weights: one for all of this process whose workers lie on the same nodes.
  int engines = 1, weight_copies = 1;

  // Detects, applies OMP_NUM_THREADS, TIERCEL_CPU_ISA and TIERCEL_CPU_SHARES where the options leave them open,
  // starts the team and initializes its threads for the kernels. For one engine.
  static Expected<std::unique_ptr<Environment>> Create(const EnvironmentOptions& options);
};

// One for each engine, with a team of its own on cores of its own.
using Environments = std::vector<std::unique_ptr<Environment>>;
Expected<Environments> CreateEnvironments(const EnvironmentOptions& options);

}  // namespace tiercel::kernels
