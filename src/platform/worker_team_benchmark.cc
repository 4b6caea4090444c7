// Cost of a barrier and of an empty dispatch for one worker on each usable core.
#include <benchmark/benchmark.h>

#include "platform/topology.h"
#include "platform/worker_team.h"

namespace tiercel::platform {
namespace {

std::unique_ptr<WorkerTeam> FullTeam() {
  WorkerTeamOptions options;
  options.cpus = Topology::Detect()->WorkerCpus();
  return std::move(*WorkerTeam::Create(options));
}

void BM_Barrier(benchmark::State& state) {
  constexpr int kBarriers = 1000;
  const auto team = FullTeam();
  for (auto _ : state) {
    team->Run([&](int) {
      for (int i = 0; i < kBarriers; ++i) team->Barrier();
    });
  }
  state.SetItemsProcessed(state.iterations() * kBarriers);
}
BENCHMARK(BM_Barrier)->UseRealTime();

// Each worker a rank of its own.
void BM_BarrierOfRanks(benchmark::State& state) {
  constexpr int kBarriers = 1000;
  WorkerTeamOptions options;
  options.cpus = Topology::Detect()->WorkerCpus();
  options.ranks = static_cast<int>(options.cpus.size());
  const auto team = std::move(*WorkerTeam::Create(options));
  for (auto _ : state) {
    team->Run([&](int) {
      for (int i = 0; i < kBarriers; ++i) team->BarrierOfRanks();
    });
  }
  state.SetItemsProcessed(state.iterations() * kBarriers);
}
BENCHMARK(BM_BarrierOfRanks)->UseRealTime();

void BM_EmptyRun(benchmark::State& state) {
  const auto team = FullTeam();
  for (auto _ : state) team->Run([](int) {});
}
BENCHMARK(BM_EmptyRun)->UseRealTime();

}  // namespace
}  // namespace tiercel::platform

BENCHMARK_MAIN();
