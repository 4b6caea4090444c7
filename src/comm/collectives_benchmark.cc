// All-reduce among ranks of one core each, by the bytes of one rank's part (FP32, as collectives are usually
// counted): few values on a copy of each rank, many on rows that they share. Beside it what one copy of as many
// bytes between two buffers takes, all cores together. With two ranks the sum reads two parts, and reads and
// writes half as many bytes of BF16 rows: 1.5 times what the copy reads and writes.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "base/check.h"
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

// The best time of an iteration in microseconds: what the machine does where no neighbor takes a core.
class Best {
 public:
  template <typename F>
  void Time(F&& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    best_ = std::min(best_, took.count());
  }
  double of(int64_t repeats = 1) const { return best_ / static_cast<double>(repeats); }

 private:
  double best_ = 1e12;
};

void AllReduce(benchmark::State& state) {
  Machine& machine = TheMachine();
  const int ranks = machine.team->ranks();
  const int64_t values = state.range(0) / static_cast<int64_t>(sizeof(float));
  const int64_t n = std::min(values, kColumns), rows = values / n;
  const auto count = static_cast<size_t>(values);
  const size_t num_copies = AddsAlone(values) ? static_cast<size_t>(ranks) : 1;
  // Page-aligned, huge where possible, as Programs have them.
  const auto memory = platform::Buffer::Allocate(static_cast<int64_t>(
      count * (static_cast<size_t>(ranks) * sizeof(float) + num_copies * sizeof(BF16))));
  CHECK(memory.has_value());
  auto* const part = memory->as<float>();
  auto* const copy = reinterpret_cast<BF16*>(part + static_cast<size_t>(ranks) * count);
  std::fill_n(part, static_cast<size_t>(ranks) * count, 0.5f);
  std::fill_n(copy, num_copies * count, BF16{});
  std::vector<const float*> parts;
  for (int r = 0; r < ranks; ++r) parts.push_back(part + static_cast<size_t>(r) * count);
  const Collectives collectives(machine.team.get(), machine.environment->kernels);
  const int64_t repeats = values < (1 << 16) ? 1000 : 1;  // without the dispatch's own time
  Best best;
  const auto iteration = [&] {
    machine.team->Run([&](int worker) {
      BF16* const out = copy + (num_copies > 1 ? static_cast<size_t>(worker) * count : 0);
      const kernels::AddPartsArgs args{.parts = {parts.data(), ranks, -1, n, 0}, .residual = out, .ldr = n,
                                       .out = out, .ldo = n, .n = n, .rows = rows};
      for (int64_t i = 0; i < repeats; ++i) collectives.AllReduce(args, worker);
    });
  };
  for (auto _ : state) best.Time(iteration);
  state.counters["best_us"] = best.of(repeats);
}
BENCHMARK(AllReduce)->UseRealTime()->Arg(8 << 10)->Arg(16 << 10)->Arg(64 << 10)->Arg(1 << 20)->Arg(40 << 20);

void Copy(benchmark::State& state) {
  Machine& machine = TheMachine();
  const auto bytes = static_cast<size_t>(state.range(0));
  const auto memory = platform::Buffer::Allocate(2 * state.range(0));
  CHECK(memory.has_value());
  char* const from = memory->as<char>();
  char* const to = from + bytes;
  std::memset(from, 1, 2 * bytes);
  Best best;
  const auto iteration = [&] {
    machine.team->Run([&](int worker) {
      const Range mine = SplitRange(state.range(0), 4096, {worker, machine.team->size()});
      std::memcpy(to + mine.begin, from + mine.begin, static_cast<size_t>(mine.size()));
    });
  };
  for (auto _ : state) best.Time(iteration);
  state.counters["best_us"] = best.of();
}
BENCHMARK(Copy)->UseRealTime()->Arg(8 << 10)->Arg(16 << 10)->Arg(64 << 10)->Arg(1 << 20)->Arg(40 << 20);

// What one of two ranks does for a chunk of 512 rows of o or down, on one core: the matmul of all rows, then the
// sum of its own; or the others' rows first, and its own in one pass with the sum. The other rank's part lies
// there.
void SumOfChunk(benchmark::State& state, bool fuse) {
  const kernels::KernelTable& kernels = *TheMachine().environment->kernels;
  const int64_t k = state.range(0), n = state.range(1), rows = 512;
  const Range own = OwnedBy({0, 2}, rows);
  const int64_t ldx = k + kKBlock;  // as activations have it
  const auto memory = platform::Buffer::Allocate(
      static_cast<size_t>((n * k + rows * ldx + rows * n) * 2 + 2 * rows * n * 4 + 4096));
  CHECK(memory.has_value());
  auto* const part = memory->as<float>();  // of this rank, then of the other
  auto* const out = reinterpret_cast<BF16*>(part + 2 * rows * n);
  BF16* const x = out + rows * n;
  BF16* const w = x + (rows * ldx + 31) / 32 * 32;
  std::fill_n(part, 2 * rows * n, 0.5f);
  std::fill_n(x, rows * ldx, ToBF16(0.25f));
  std::fill_n(w, n * k, ToBF16(0.125f));
  PackedMatrix matrix;
  matrix.data = w;
  matrix.n = n;
  matrix.k = matrix.k_padded = k;
  const float* const parts[2] = {part, part + rows * n};
  kernels::MatmulArgs matmul;
  matmul.x = x;
  matmul.ldx = ldx;
  matmul.weight = &matrix;
  matmul.epilogue = kernels::Epilogue::kStoreF32;
  matmul.out_f32 = part;
  matmul.ldo = n;
  matmul.rows = rows;
  kernels::AddPartsArgs add{.parts = {parts, 2, -1, n, 0}, .residual = out, .ldr = n, .out = out, .ldo = n,
                            .n = n, .rows = own.size()};
  kernels::MatmulArgs others = matmul, sum = matmul;
  others.x += own.end * ldx;
  others.out_f32 += own.end * n;
  others.rows = rows - own.end;
  sum.epilogue = kernels::Epilogue::kAddParts;
  sum.residual = sum.out = out;
  sum.parts = {parts, 2, 0, n, 0};
  sum.rows = own.size();
  kernels.init_thread();
  Best best;
  const auto iteration = [&] {
    if (fuse) {
      kernels.matmul(others, {0, 1});
      kernels.matmul(sum, {0, 1});
    } else {
      kernels.matmul(matmul, {0, 1});
      kernels.add_parts(add, {0, 1});
    }
  };
  for (auto _ : state) best.Time(iteration);
  state.counters["best_us"] = best.of();
}
void Shapes(benchmark::internal::Benchmark* b) {
  // k of a rank and n: o and down of 0.6B, and of 32B with four ranks.
  b->Args({1024, 1024})->Args({1536, 1024})->Args({2048, 5120})->Args({6400, 5120});
}
BENCHMARK_CAPTURE(SumOfChunk, after_the_matmul, false)->Apply(Shapes);
BENCHMARK_CAPTURE(SumOfChunk, in_the_matmul, true)->Apply(Shapes);

}  // namespace
}  // namespace tiercel::comm

BENCHMARK_MAIN();
