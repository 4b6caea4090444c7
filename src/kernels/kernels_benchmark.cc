// kernels_benchmark [google-benchmark's options]: every operator by ISA and shape of Qwen3-0.6B,
// with one worker per core, in GFLOP/s and GB/s and as a share of what the machine gave in this
// same run. --benchmark_filter=amx/matmul picks by name; TIERCEL_CPU_ISA picks one ISA (the scalar
// reference runs only so).
#include "kernels/kernels_benchmark.h"

#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "kernels/registry.h"

namespace tiercel::kernels {

BenchmarkMachine& TheMachine() {
  static BenchmarkMachine* machine = [] {
    auto* m = new BenchmarkMachine;
    auto environment = Environment::Create({});
    CHECK(environment.has_value());
    m->environment = std::move(*environment);
    constexpr int64_t kCells = BenchmarkMachine::kMaxRows * BenchmarkMachine::kMaxColumns;
    const auto allocate = [](int64_t bytes) {
      auto buffer = platform::Buffer::Allocate(bytes);
      CHECK(buffer.has_value());
      return std::move(*buffer);
    };
    m->pool = allocate(BenchmarkMachine::kPoolBytes);
    m->x = allocate(kCells * sizeof(BF16));
    m->out = allocate(kCells * sizeof(float));
    m->scratch = allocate(m->team().size() * BenchmarkMachine::kScratchBytes);
    // No overflow, no subnormal, no special case, but every sign and many bits.
    uint32_t state = 1;
    for (platform::Buffer* buffer : {&m->pool, &m->x}) {
      for (size_t i = 0; i < buffer->size() / sizeof(BF16); ++i) {
        state = state * 1664525u + 1013904223u;
        buffer->as<BF16>()[i] = BF16{static_cast<uint16_t>(0x3c00u | (state >> 16 & 0x80ffu))};
      }
    }
    return m;
  }();
  return *machine;
}

void ReportRates(benchmark::State& state, double flop, double peak_gflop_per_s, double bytes,
                 double read_gb_per_s) {
  const auto report = [&](const char* unit, const char* share, double amount, double limit) {
    if (amount == 0) return;
    state.counters[unit] = benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsRate);
    state.counters[share] =
        benchmark::Counter(amount * 1e-9 / limit, benchmark::Counter::kIsRate);
  };
  report("GFLOP/s", "of_peak", flop, peak_gflop_per_s);
  report("GB/s", "of_read", bytes, read_gb_per_s);
}

namespace {

void RegisterAll() {
  BenchmarkMachine& machine = TheMachine();
  const char* only = std::getenv("TIERCEL_CPU_ISA");
  std::string before;
  for (const KernelTable* kernels : RunnableKernels(machine.environment->cpu)) {
    const std::string_view isa = kernels->isa;
    if (only != nullptr ? isa != only : isa == "scalar") continue;
    machine.team().Run([&](int) { kernels->init_thread(); });
    machine.environment->kernels = kernels;
    const MachineLimits limits = MeasureLimits(*machine.environment);
    // Where two tables share a name, the second is told apart by a mark.
    const std::string name = std::string(isa) + (before == isa ? "-2" : "");
    before = isa;
    std::printf("%s: %s; read %.1f GB/s, peak %.0f GFLOP/s, int8 %.0f GOP/s\n", name.c_str(),
                kernels->detail, limits.read_gb_per_s, limits.matmul_gflop_per_s,
                limits.int8_gop_per_s);
    for (auto* add : {RegisterMatmul, RegisterAttention, RegisterRows}) {
      add({kernels, name, limits});
    }
  }
}

}  // namespace
}  // namespace tiercel::kernels

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  tiercel::kernels::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
