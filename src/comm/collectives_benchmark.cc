// All-reduce among ranks of one core each, by the bytes of the BF16 rows; beside it what one copy of as
// many bytes between two buffers takes, all cores together.
#include <benchmark/benchmark.h>

#include <cstring>

#include "comm/collectives_test_util.h"
#include "kernels/environment.h"
#include "platform/buffer.h"

namespace tiercel::comm {
namespace {

constexpr int64_t kColumns = 4096;

struct Machine {
  std::unique_ptr<kernels::Environment> environment = std::move(*kernels::Environment::Create({}));
  std::unique_ptr<platform::WorkerTeam> team = [this] {
    platform::WorkerTeamOptions options;
    options.cpus = environment->topology.WorkerCpus();
    options.ranks = static_cast<int>(options.cpus.size());
    return std::move(*platform::WorkerTeam::Create(options));
  }();
};

Machine& TheMachine() {
  static Machine machine;
  return machine;
}

void AllReduce(benchmark::State& state) {
  Machine& machine = TheMachine();
  const int ranks = machine.team->ranks();
  const int64_t rows = state.range(0) / (kColumns * 2);
  std::vector<std::vector<float>> parts(static_cast<size_t>(ranks),
                                        std::vector<float>(static_cast<size_t>(rows * kColumns), 0.5f));
  std::vector<std::vector<BF16>> copies(static_cast<size_t>(ranks),
                                        std::vector<BF16>(static_cast<size_t>(rows * kColumns)));
  std::vector<const float*> part;
  std::vector<BF16*> copy;
  for (auto& p : parts) part.push_back(p.data());
  for (auto& c : copies) copy.push_back(c.data());
  const Collectives collectives(machine.team.get(), machine.environment->kernels);
  const int64_t repeats = rows < 16 ? 1000 : 1;  // without the dispatch's own time
  for (auto _ : state) {
    machine.team->Run([&](int worker) {
      for (int64_t i = 0; i < repeats; ++i) {
        collectives.AllReduce({part.data(), kColumns}, {copy.data(), kColumns, kColumns, 0, rows}, worker);
      }
    });
  }
  state.SetItemsProcessed(state.iterations() * repeats);
  state.SetBytesProcessed(state.iterations() * repeats * state.range(0));
}
BENCHMARK(AllReduce)->UseRealTime()->Arg(8 << 10)->Arg(64 << 10)->Arg(1 << 20)->Arg(40 << 20);

void Copy(benchmark::State& state) {
  Machine& machine = TheMachine();
  const auto bytes = static_cast<size_t>(state.range(0));
  std::vector<char> from(bytes, 1), to(bytes);
  for (auto _ : state) {
    machine.team->Run([&](int worker) {
      const Range mine = SplitRange(state.range(0), 4096, {worker, machine.team->size()});
      std::memcpy(to.data() + mine.begin, from.data() + mine.begin, static_cast<size_t>(mine.size()));
    });
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Copy)->UseRealTime()->Arg(8 << 10)->Arg(64 << 10)->Arg(1 << 20)->Arg(40 << 20);

}  // namespace
}  // namespace tiercel::comm

BENCHMARK_MAIN();
