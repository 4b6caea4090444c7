// Attention at Qwen3-0.6B's heads (16 query, 8 KV heads of 128) by step, and at one KV head, as a rank
// of eight has it. Each iteration takes the next layer's cache, as a step does, so decodes read memory
// and not a cache that a real step would have evicted. FLOPs: 2 · 2 · head_dim for each visible key of
// each query head; bytes: the K and V that a step must read once.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/attention_work.h"
#include "kernels/kernels_benchmark.h"

namespace tiercel::kernels {
namespace {

KvLayout Layout(int kv_heads, DType dtype) {
  KvLayout layout;
  layout.num_kv_heads = kv_heads;
  layout.head_dim = 128;
  layout.block_size = 128;
  layout.dtype = dtype;
  return layout;
}
constexpr int kGroup = 2;  // query heads of a KV head

// Every sequence has `tokens` rows in the step and sees `context` keys.
struct Step {
  const char* name;
  int seqs, tokens, context;
  int kv_heads = 8;
  bool split = true;  // keys may be shared out among the workers
};
constexpr Step kSteps[] = {{"decode_1x512", 1, 1, 512},     {"decode_1x16k", 1, 1, 16384},
                           {"decode_32x256", 32, 1, 256},   {"decode_72x3.5k", 72, 1, 3584},
                           {"prefill_512", 1, 512, 512},    {"prefill_2048", 1, 2048, 2048},
                           {"chunk_2048_at_14k", 1, 2048, 16384},
                           {"1_head/decode_1x16k", 1, 1, 16384, 1},
                           {"1_head/decode_1x16k/not_split", 1, 1, 16384, 1, false}};

// What is read as a scale of an INT8 cache is a random number, too, of about 0.01.
void Attention(benchmark::State& state, const BenchmarkIsa& isa, const Step& step, DType dtype) {
  BenchmarkMachine& machine = TheMachine();
  const KvLayout layout = Layout(step.kv_heads, dtype);
  const int64_t query_heads = int64_t{kGroup} * step.kv_heads;
  const int64_t element = static_cast<int64_t>(SizeOf(dtype));
  const int64_t blocks_of_seq = (step.context + layout.block_size - 1) / layout.block_size;
  const int64_t layer = step.seqs * blocks_of_seq * layout.BlockSize() * element;
  const int64_t layers = BenchmarkMachine::kPoolBytes / layer;
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
  args.qkv = machine.x.as<BF16>();
  args.ldqkv = (query_heads + 2 * step.kv_heads) * layout.head_dim;
  args.layout = layout;
  args.num_q_heads = static_cast<int>(query_heads);
  args.scale = 1 / std::sqrt(128.0f);
  args.query_start = query_start.data();
  args.context_len = context_len.data();
  args.block_table = table.data();
  args.block_table_stride = blocks_of_seq;
  args.num_seqs = step.seqs;
  args.out = machine.out.as<BF16>();
  args.ldo = query_heads * layout.head_dim + 32;
  auto partials = platform::Buffer::Allocate(
      std::max<int64_t>(1, AttentionPartialsBytes(args, {0, machine.team().size()})));
  CHECK(partials.has_value());
  if (step.split) args.partials = partials->data();
  CHECK(isa.kernels->attention_scratch_bytes(args, machine.team().size()) <=
        BenchmarkMachine::kScratchBytes);
  int64_t next = 0;
  for (auto _ : state) {
    machine.team().Run([&](int worker) {
      AttentionArgs mine = args;
      mine.kv = machine.pool.as<uint8_t>() + next % layers * layer;
      mine.scratch = machine.scratch_of(worker);
      isa.kernels->attention(mine, {worker, machine.team().size()});
    });
    ++next;
  }
  // Token t of a chunk sees context − tokens + 1 + t keys.
  const double seen = step.seqs * static_cast<double>(step.tokens) *
                      (step.context - 0.5 * (step.tokens - 1));
  const double bytes = 2.0 * static_cast<double>(element * layout.num_kv_heads * layout.head_dim) *
                       step.seqs * step.context;
  const double calls = static_cast<double>(state.iterations());
  ReportRates(state, 4.0 * layout.head_dim * static_cast<double>(query_heads) * seen * calls,
              isa.limits.matmul_gflop_per_s, bytes * calls, isa.limits.read_gb_per_s);
}

}  // namespace

void RegisterAttention(const BenchmarkIsa& isa) {
  for (const Step& step : kSteps) {
    for (const auto& [dtype, name] : {std::pair{DType::kBF16, ""}, {DType::kI8, "/int8_kv"}, {DType::kF8E4M3, "/fp8_kv"}}) {
      Register(isa, std::string("attention/") + step.name + name,
               [isa, step, dtype = dtype](benchmark::State& state) { Attention(state, isa, step, dtype); });
    }
  }
}

}  // namespace tiercel::kernels
