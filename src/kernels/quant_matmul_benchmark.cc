// The W8A8 matmul over the shapes of Qwen3-0.6B's layers, by ISA and number of rows, with one worker per
// core. Each iteration takes the next of several copies of the weight, enough of them that none is
// still in a cache, so few rows show the memory and many rows the arithmetic.
//
// Prints integer GOP/s and GB/s of weights, and both as a share of what the machine gave in this
// same run (MeasureLimits).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/environment.h"
#include "kernels/machine_limits.h"
#include "kernels/registry.h"
#include "platform/buffer.h"

namespace tiercel::kernels {
namespace {

constexpr int64_t kPoolBytes = int64_t{512} << 20;
constexpr int64_t kMaxRows = 2048;

struct Machine {
  std::unique_ptr<Environment> environment;
  platform::Buffer weights, x, out;
};

Machine& TheMachine() {
  static Machine* machine = [] {
    auto* m = new Machine;
    m->environment = std::move(*Environment::Create({}));
    m->weights = std::move(*platform::Buffer::Allocate(kPoolBytes));
    m->x = std::move(*platform::Buffer::Allocate(kMaxRows * 4160));
    m->out = std::move(*platform::Buffer::Allocate(kMaxRows * 4096 * sizeof(BF16)));
    uint32_t state = 1;
    for (platform::Buffer* buffer : {&m->weights, &m->x}) {
      for (size_t i = 0; i < buffer->size(); ++i) {
        state = state * 1664525u + 1013904223u;
        buffer->as<uint8_t>()[i] = static_cast<uint8_t>(state >> 24);
      }
    }
    return m;
  }();
  return *machine;
}

void BM_QuantMatmul(benchmark::State& state, const KernelTable* kernels, int64_t n, int64_t k,
               Epilogue epilogue, MachineLimits limits) {
  Machine& machine = TheMachine();
  platform::WorkerTeam& team = *machine.environment->team;
  const int64_t rows = state.range(0);
  const int64_t bytes = n * k;
  const int64_t copies = kPoolBytes / bytes;
  std::vector<PackedMatrix> matrices;
  for (int64_t i = 0; i < copies; ++i) {
    matrices.push_back({machine.weights.as<uint8_t>() + i * bytes, DType::kI8, n, k, k,
                        epilogue == Epilogue::kSwiGlu ? 32 : 16, team.size()});
  }
  // Factors and sums as small as real ones: the outputs are ordinary numbers.
  const std::vector<int32_t> acc_bias(n, 1000);
  const std::vector<float> scale(n, 1e-6f), row_scale(kMaxRows, 1.5f);
  QuantMatmulArgs args;
  args.x = machine.x.as<uint8_t>();
  args.ldx = k + 64;
  args.acc_bias = acc_bias.data();
  args.scale = scale.data();
  args.row_scale = row_scale.data();
  args.epilogue = epilogue;
  args.residual = machine.out.as<BF16>();
  args.out = machine.out.as<BF16>();
  args.ldo = epilogue == Epilogue::kSwiGlu ? n / 2 : n;
  args.rows = rows;
  // One dispatch per 8 matmuls, a barrier after each, as in a step.
  constexpr int kBatch = 8;
  int64_t next = 0;
  for (auto _ : state) {
    team.Run([&](int worker) {
      QuantMatmulArgs mine = args;
      for (int i = 0; i < kBatch; ++i) {
        mine.weight = &matrices[(next + i) % copies];
        kernels->quant_matmul(mine, {worker, team.size()});
        team.Barrier();
      }
    });
    next += kBatch;
  }
  const double calls = static_cast<double>(state.iterations()) * kBatch;
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsRate);
  };
  const double ops = 2e-9 * static_cast<double>(n * k * rows) * calls;
  const double traffic = 1e-9 * static_cast<double>(bytes) * calls;
  state.counters["GOP/s"] = rate(ops);
  state.counters["GB/s"] = rate(traffic);
  state.counters["of_peak"] = rate(ops / limits.int8_gop_per_s);
  state.counters["of_read"] = rate(traffic / limits.read_gb_per_s);
}

// TIERCEL_CPU_ISA picks one ISA; else all that run here (scalar only when picked).
void RegisterAll() {
  Machine& machine = TheMachine();
  const char* only = std::getenv("TIERCEL_CPU_ISA");
  for (const KernelTable* kernels : RunnableKernels(machine.environment->cpu)) {
    if (only != nullptr ? kernels->isa != std::string_view(only)
                        : kernels->isa == std::string_view("scalar")) {
      continue;
    }
    machine.environment->team->Run([&](int) { kernels->init_thread(); });
    machine.environment->kernels = kernels;
    const MachineLimits limits = MeasureLimits(*machine.environment);
    std::printf("%s: read %.1f GB/s, peak %.0f GOP/s\n", kernels->detail, limits.read_gb_per_s,
                limits.int8_gop_per_s);
    const bool vnni = std::string_view(kernels->detail).find("vpdpbusd") != std::string_view::npos;
    struct {
      const char* name;
      int64_t n, k;
      Epilogue epilogue;
    } const shapes[] = {{"qkv", 4096, 1024, Epilogue::kStore},
                        {"o", 1024, 2048, Epilogue::kAdd},
                        {"gate_up", 6144, 1024, Epilogue::kSwiGlu},
                        {"down", 1024, 3072, Epilogue::kAdd}};
    for (const auto& shape : shapes) {
      auto* bench = benchmark::RegisterBenchmark(
          (std::string(kernels->isa) + (vnni ? "-vnni/" : "/") + shape.name).c_str(), BM_QuantMatmul, kernels, shape.n,
          shape.k, shape.epilogue, limits);
      bench->UseRealTime()->Unit(benchmark::kMicrosecond);
      for (int64_t rows : {1, 4, 8, 16, 32, 72, 128, 512, 2048}) bench->Arg(rows);
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
