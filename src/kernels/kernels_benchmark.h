// What the kernel benchmarks share: the machine with its buffers, an ISA with its limits, and how
// rates are reported. One program (kernels_benchmark.cc) registers them all, named
// isa/operator/shape.
#pragma once

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>

#include "kernels/environment.h"
#include "kernels/machine_limits.h"
#include "platform/buffer.h"

namespace tiercel::kernels {

struct BenchmarkMachine {
  // Weights or a KV cache, more than any cache holds: a benchmark's iterations walk through it as
  // the layers of a step do. BF16 numbers of about ±0.01, which are bytes of every value, too.
  static constexpr int64_t kPoolBytes = int64_t{1200} << 20;
  static constexpr int64_t kScratchBytes = int64_t{4} << 20;  // of each worker
  static constexpr int64_t kMaxRows = 2048;
  static constexpr int64_t kMaxColumns = 8192;

  std::unique_ptr<Environment> environment;
  platform::Buffer pool;
  platform::Buffer x;    // [kMaxRows, kMaxColumns] BF16, as the pool
  platform::Buffer out;  // as many FP32
  platform::Buffer scratch;

  platform::WorkerTeam& team() { return *environment->team; }
  void* scratch_of(int worker) { return scratch.as<uint8_t>() + worker * kScratchBytes; }
};

// Made at the first call.
BenchmarkMachine& TheMachine();

struct BenchmarkIsa {
  const KernelTable* kernels = nullptr;
  std::string name;  // "avx512"; "avx512-2" where a second table has the name
  MachineLimits limits;
};

// Counters of what `state`'s iterations did in all: GFLOP/s (integer operations count, too) and
// GB/s, and each as a share of the limit that was measured in this run. 0 leaves a pair out.
void ReportRates(benchmark::State& state, double flop, double peak_gflop_per_s, double bytes,
                 double read_gb_per_s);

// Names the benchmark isa/operator/shape and sets what all have in common.
template <typename F>
benchmark::internal::Benchmark* Register(const BenchmarkIsa& isa, const std::string& name, F&& f) {
  return benchmark::RegisterBenchmark((isa.name + "/" + name).c_str(), std::forward<F>(f))
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void RegisterMatmul(const BenchmarkIsa& isa);     // matmul_benchmark.cc
void RegisterAttention(const BenchmarkIsa& isa);  // attention_benchmark.cc
void RegisterRows(const BenchmarkIsa& isa);       // row_benchmark.cc

}  // namespace tiercel::kernels
