// Environment: the machine as one object that is passed down. No singletons, so that two engines
// fit in one process.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/ops.h"
#include "platform/cpu_features.h"
#include "platform/topology.h"
#include "platform/worker_team.h"

namespace tiercel::kernels {

struct EnvironmentOptions {
  int threads = 0;  // 0: one per usable physical core (OMP_NUM_THREADS lowers it)
  std::string isa;  // "" or TIERCEL_CPU_ISA's value
  bool pin = true;
  int ranks = 1;  // of the team, with as many workers each
};

struct Environment {
  platform::CpuFeatures cpu;
  platform::Topology topology;
  std::unique_ptr<platform::WorkerTeam> team;
  const KernelTable* kernels = nullptr;

  // Detects, applies OMP_NUM_THREADS and TIERCEL_CPU_ISA where the options leave them open,
  // starts the team and initializes its threads for the kernels.
  static Expected<std::unique_ptr<Environment>> Create(const EnvironmentOptions& options);
};

}  // namespace tiercel::kernels
