// Attention at Qwen3-0.6B's heads (16 query, 8 KV heads of 128), by ISA and step, with one worker
// per core. Each iteration takes the next layer's cache, as a step does, so decodes read memory
// and not a cache that a real step would have evicted.
//
// Prints GFLOP/s (2 · 2 · head_dim for each visible key of each query head) and GB/s of the K and
// V that a step must read once.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/environment.h"
#include "kernels/registry.h"
#include "platform/buffer.h"

namespace tiercel::kernels {
namespace {

constexpr KvLayout kLayout{8, 128, 128};
constexpr int kQueryHeads = 16;
constexpr int64_t kRowSize = (kQueryHeads + 2 * 8) * 128;
constexpr int64_t kMaxRows = 2048;

// Every sequence has `tokens` rows in the step and sees `context` keys.
struct Step {
  const char* name;
  int seqs, tokens, context;
};
constexpr Step kSteps[] = {{"decode_1x512", 1, 1, 512},      {"decode_1x16k", 1, 1, 16384},
                           {"decode_72x3.5k", 72, 1, 3584},  {"prefill_512", 1, 512, 512},
                           {"prefill_2048", 1, 2048, 2048},  {"chunk_2048_at_14k", 1, 2048, 16384}};

constexpr int64_t kPoolBytes = int64_t{1200} << 20;  // holds the largest step

struct Machine {
  std::unique_ptr<Environment> environment;
  platform::Buffer cache, qkv, out, scratch;
  int64_t scratch_bytes = int64_t{4} << 20;
};

Machine& TheMachine() {
  static Machine* machine = [] {
    auto* m = new Machine;
    m->environment = std::move(*Environment::Create({}));
    const int64_t workers = m->environment->team->size();
    m->cache = std::move(*platform::Buffer::Allocate(kPoolBytes));
    m->qkv = std::move(*platform::Buffer::Allocate(kMaxRows * kRowSize * sizeof(BF16)));
    m->out = std::move(*platform::Buffer::Allocate(kMaxRows * kQueryHeads * 128 * sizeof(BF16)));
    m->scratch = std::move(*platform::Buffer::Allocate(workers * m->scratch_bytes));
    uint32_t state = 1;  // values of about ±1
    for (platform::Buffer* buffer : {&m->cache, &m->qkv}) {
      for (size_t i = 0; i < buffer->size() / sizeof(BF16); ++i) {
        state = state * 1664525u + 1013904223u;
        buffer->as<BF16>()[i] = BF16{static_cast<uint16_t>(0x3f00u | (state >> 16 & 0x80ffu))};
      }
    }
    return m;
  }();
  return *machine;
}

void BM_Attention(benchmark::State& state, const KernelTable* kernels, Step step,
                  const KvLayout& layout) {
  Machine& machine = TheMachine();
  platform::WorkerTeam& team = *machine.environment->team;
  const int64_t blocks_of_seq = (step.context + kLayout.block_size - 1) / kLayout.block_size;
  const int64_t layer =
      step.seqs * blocks_of_seq * layout.BlockSize() * static_cast<int64_t>(SizeOf(layout.dtype));
  const int64_t layers = kPoolBytes / layer;
  CHECK(layers >= 1);
  std::vector<int32_t> query_start = {0}, context_len, table;
  for (int s = 0; s < step.seqs; ++s) {
    query_start.push_back((s + 1) * step.tokens);
    context_len.push_back(step.context);
    for (int b = 0; b < blocks_of_seq; ++b) {  // neighbors in the table are not in memory
      table.push_back(static_cast<int32_t>(b * step.seqs + s));
    }
  }
  AttentionArgs args;
  args.qkv = machine.qkv.as<BF16>();
  args.ldqkv = kRowSize;
  args.layout = layout;
  args.num_q_heads = kQueryHeads;
  args.scale = 1 / std::sqrt(128.0f);
  args.query_start = query_start.data();
  args.context_len = context_len.data();
  args.block_table = table.data();
  args.block_table_stride = blocks_of_seq;
  args.num_seqs = step.seqs;
  args.out = machine.out.as<BF16>();
  args.ldo = kQueryHeads * 128;
  CHECK(kernels->attention_scratch_bytes(args, team.size()) <= machine.scratch_bytes);
  int64_t next = 0;
  for (auto _ : state) {
    team.Run([&](int worker) {
      AttentionArgs mine = args;
      mine.kv = machine.cache.as<uint8_t>() + next % layers * layer;
      mine.scratch = machine.scratch.as<uint8_t>() + worker * machine.scratch_bytes;
      kernels->attention(mine, {worker, team.size()});
    });
    ++next;
  }
  // Token t of a chunk sees context − tokens + 1 + t keys.
  const double seen = step.seqs * static_cast<double>(step.tokens) *
                      (step.context - 0.5 * (step.tokens - 1));
  const double bytes = 2.0 * static_cast<double>(SizeOf(layout.dtype)) * kLayout.num_kv_heads * kLayout.head_dim *
                       static_cast<double>(step.seqs) * step.context;
  const double calls = static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(
      4e-9 * kLayout.head_dim * kQueryHeads * seen * calls, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * bytes * calls, benchmark::Counter::kIsRate);
}

// TIERCEL_CPU_ISA picks one ISA; else all that run here but scalar.
void RegisterAll() {
  Machine& machine = TheMachine();
  const char* only = std::getenv("TIERCEL_CPU_ISA");
  for (const KernelTable* kernels : RunnableKernels(machine.environment->cpu)) {
    if (only != nullptr ? kernels->isa != std::string_view(only)
                        : kernels->isa == std::string_view("scalar")) {
      continue;
    }
    machine.environment->team->Run([&](int) { kernels->init_thread(); });
    for (const Step& step : kSteps) {
      // An INT8 cache of random bytes: what is read as a scale is a random number too, of about 1.
      for (DType dtype : {DType::kBF16, DType::kI8}) {
        KvLayout layout = kLayout;
        layout.dtype = dtype;
        const std::string name = std::string(kernels->isa) + "/" + step.name +
                                 (dtype == DType::kI8 ? "/int8_kv" : "");
        benchmark::RegisterBenchmark(name.c_str(), BM_Attention, kernels, step, layout)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      }
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
