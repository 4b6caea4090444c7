// The operators between the matmuls, by number of rows, and the sampler's on one row of logits.
// GB/s: what they read and write at least.
#include <vector>

#include "kernels/kernels_benchmark.h"

namespace tiercel::kernels {
namespace {

constexpr int64_t kHidden = 1024;
constexpr int64_t kVocabulary = 151936;

template <typename F>
void Run(benchmark::State& state, const BenchmarkIsa& isa, double bytes, F&& f) {
  BenchmarkMachine& machine = TheMachine();
  for (auto _ : state) {
    machine.team().Run([&](int worker) { f(Share{worker, machine.team().size()}); });
  }
  ReportRates(state, 0, 0, bytes * static_cast<double>(state.iterations()),
              isa.limits.read_gb_per_s);
}

void RmsNorm(benchmark::State& state, const BenchmarkIsa& isa) {
  const std::vector<float> weight(kHidden, 1.0f);
  RmsNormArgs args;
  args.x = TheMachine().x.as<BF16>();
  args.weight = weight.data();
  args.out = TheMachine().out.as<BF16>();
  args.ldo = args.hidden = kHidden;
  args.rows = state.range(0);
  Run(state, isa, 2.0 * sizeof(BF16) * static_cast<double>(kHidden * args.rows),
      [&](Share share) { isa.kernels->rms_norm(args, share); });
}

// Rows of one prefill (apart = 1) or of as many sequences, whose slots are `apart` tokens apart.
void QkNormRope(benchmark::State& state, const BenchmarkIsa& isa, int64_t apart) {
  BenchmarkMachine& machine = TheMachine();
  const int64_t rows = state.range(0);
  const std::vector<float> weight(128, 1.0f), angles(rows * 64, 0.7f);
  std::vector<int64_t> slots;
  for (int64_t r = 0; r < rows; ++r) slots.push_back(r * apart);
  QkNormRopeArgs args;
  args.qkv = machine.x.as<BF16>();
  args.ldqkv = 4096 + 32;
  args.q_norm = weight.data();
  args.k_norm = weight.data();
  args.cos = angles.data();
  args.sin = angles.data();
  args.kv = machine.pool.as<BF16>();
  args.layout.num_kv_heads = 8;
  args.layout.head_dim = 128;
  args.kv_slot = slots.data();
  args.num_q_heads = 16;
  args.rows = rows;
  Run(state, isa, static_cast<double>(rows) * sizeof(BF16) * (4096 + 16 * 128 + 2 * 8 * 128),
      [&](Share share) { isa.kernels->qk_norm_rope(args, share); });
}

void RopeTable(benchmark::State& state, const BenchmarkIsa& isa) {
  const int64_t rows = state.range(0);
  std::vector<int32_t> positions;
  for (int64_t r = 0; r < rows; ++r) positions.push_back(static_cast<int32_t>(r));
  const std::vector<float> frequencies(64, 0.01f);
  std::vector<float> cos(rows * 64), sin(rows * 64);
  RopeTableArgs args;
  args.positions = positions.data();
  args.inv_freq = frequencies.data();
  args.cos = cos.data();
  args.sin = sin.data();
  args.half = 64;
  args.rows = rows;
  Run(state, isa, 2.0 * sizeof(float) * static_cast<double>(rows * 64),
      [&](Share share) { isa.kernels->rope_table(args, share); });
}

// Worker 0 alone, one row of logits after the other.
template <typename F>
void RowOp(benchmark::State& state, const BenchmarkIsa& isa, F&& f) {
  BenchmarkMachine& machine = TheMachine();
  float* logits = machine.pool.as<float>();  // pairs of BF16 are FP32 numbers of the same kind
  const int64_t rows = BenchmarkMachine::kPoolBytes / (kVocabulary * 4);
  int64_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(f(logits + next++ % rows * kVocabulary));
  }
  ReportRates(state, 0, 0,
              4.0 * static_cast<double>(kVocabulary) * static_cast<double>(state.iterations()),
              isa.limits.read_gb_per_s);
}

}  // namespace

void RegisterRows(const BenchmarkIsa& isa) {
  for (int64_t rows : {1, 32, 512}) {
    Register(isa, "rms_norm", [isa](benchmark::State& s) { RmsNorm(s, isa); })->Arg(rows);
    Register(isa, "rope_table", [isa](benchmark::State& s) { RopeTable(s, isa); })->Arg(rows);
  }
  Register(isa, "qk_norm_rope/prefill", [isa](benchmark::State& s) { QkNormRope(s, isa, 1); })
      ->Arg(512);
  Register(isa, "qk_norm_rope/decode", [isa](benchmark::State& s) { QkNormRope(s, isa, 4096); })
      ->Arg(32);
  const RowOps& ops = isa.kernels->rows;
  Register(isa, "argmax", [isa, &ops](benchmark::State& s) {
    RowOp(s, isa, [&](const float* x) {
      float max;
      return ops.argmax(x, kVocabulary, &max);
    });
  });
  Register(isa, "sum_exp", [isa, &ops](benchmark::State& s) {
    RowOp(s, isa, [&](const float* x) { return ops.sum_exp(x, kVocabulary, 0.1f, 1.0f); });
  });
  Register(isa, "count_at_least", [isa, &ops](benchmark::State& s) {
    RowOp(s, isa, [&](const float* x) { return ops.count_at_least(x, kVocabulary, 0.0f); });
  });
  Register(isa, "collect_at_least", [isa, &ops](benchmark::State& s) {
    std::vector<int32_t> found(1024);
    RowOp(s, isa, [&](const float* x) {
      return ops.collect_at_least(x, kVocabulary, 0.03f, found.data(), 1024);
    });
  });
}

}  // namespace tiercel::kernels
