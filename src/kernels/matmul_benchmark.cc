// Matmuls of BF16, W8A8, block formats and FP8 over the shapes of Qwen3-0.6B's layers by number of rows. Each iteration
// takes the next of several copies of the weight, enough of them that none is still in a cache, so
// few rows show the memory and many rows the arithmetic.
#include <vector>

#include "kernels/kernels_benchmark.h"

namespace tiercel::kernels {
namespace {

struct Shape {
  const char* name;
  int64_t n, k;
  Epilogue epilogue;
};
constexpr Shape kShapes[] = {{"qkv", 4096, 1024, Epilogue::kStore},
                             {"o", 1024, 2048, Epilogue::kAdd},
                             {"gate_up", 6144, 1024, Epilogue::kSwiGlu},
                             {"down", 1024, 3072, Epilogue::kAdd}};
constexpr int64_t kRows[] = {1, 4, 5, 6, 8, 10, 12, 16, 24, 32, 72, 96, 128, 200, 256, 512, 2048};

// As in a step: one dispatch, a barrier after each matmul. Strides of one cache line more than the
// row, as the model's activations have.
template <typename Args, typename Kernel>
void Run(benchmark::State& state, const Shape& shape, DType dtype, int64_t bytes, const BlockStrip* strips, Args args,
         Kernel kernel) {
  BenchmarkMachine& machine = TheMachine();
  const int64_t copies = BenchmarkMachine::kPoolBytes / bytes;
  std::vector<PackedMatrix> weights;
  for (int64_t i = 0; i < copies; ++i) {
    weights.push_back({machine.pool.as<uint8_t>() + i * bytes, dtype, shape.n, shape.k, shape.k,
                       shape.epilogue == Epilogue::kSwiGlu ? 32 : 16, machine.team().size(), strips});
  }
  args.epilogue = shape.epilogue;
  args.residual = machine.out.as<BF16>();
  args.out = machine.out.as<BF16>();
  args.ldo = (shape.epilogue == Epilogue::kSwiGlu ? shape.n / 2 : shape.n) + 32;
  args.rows = state.range(0);
  constexpr int kBatch = 8;
  int64_t next = 0;
  for (auto _ : state) {
    machine.team().Run([&](int worker) {
      Args mine = args;
      for (int i = 0; i < kBatch; ++i) {
        mine.weight = &weights[(next + i) % copies];
        kernel(mine, Share{worker, machine.team().size()});
        machine.team().Barrier();
      }
    });
    next += kBatch;
  }
}

void Report(benchmark::State& state, const Shape& shape, int64_t bytes, double peak,
            const MachineLimits& limits) {
  const double calls = 8.0 * static_cast<double>(state.iterations());
  const double cells = static_cast<double>(shape.n * shape.k);
  ReportRates(state, 2 * cells * static_cast<double>(state.range(0)) * calls, peak,
              static_cast<double>(bytes) * calls, limits.read_gb_per_s);
}

void Bf16(benchmark::State& state, const BenchmarkIsa& isa, const Shape& shape) {
  MatmulArgs args;
  args.x = TheMachine().x.as<BF16>();
  args.ldx = shape.k + 32;
  const int64_t bytes = shape.n * shape.k * static_cast<int64_t>(sizeof(BF16));
  Run(state, shape, DType::kBF16, bytes, nullptr, args, isa.kernels->matmul);
  Report(state, shape, bytes, isa.limits.matmul_gflop_per_s, isa.limits);
}

void W8A8(benchmark::State& state, const BenchmarkIsa& isa, const Shape& shape) {
  // Factors and sums as small as real ones: the outputs are ordinary numbers.
  const std::vector<int32_t> acc_bias(shape.n, 1000);
  const std::vector<float> scale(shape.n, 1e-6f), row_scale(state.range(0), 1.5f);
  QuantMatmulArgs args;
  args.x = TheMachine().x.as<uint8_t>();
  args.acc_bias = acc_bias.data();
  args.scale = scale.data();
  args.row_scale = row_scale.data();
  args.ldx = shape.k + 64;
  Run(state, shape, DType::kI8, shape.n * shape.k, nullptr, args, isa.kernels->quant_matmul);
  Report(state, shape, shape.n * shape.k, isa.limits.int8_gop_per_s, isa.limits);
}

std::vector<BlockStrip> StripsOf(const Shape& shape, BlockFormat format) {
  std::vector<BlockStrip> strips;
  const int64_t strip = StripBytes(format, shape.k);
  for (int64_t c = 0; c < shape.n; c += kStripColumns) strips.push_back({format, c / kStripColumns * strip});
  return strips;
}

// Its share of the peak is that of BF16's.
void Fp8(benchmark::State& state, const BenchmarkIsa& isa, const Shape& shape) {
  const std::vector<BlockStrip> strips = StripsOf(shape, BlockFormat::kF8);
  MatmulArgs args;
  args.x = TheMachine().x.as<BF16>();
  args.ldx = shape.k + 32;
  const int64_t bytes = shape.n / kStripColumns * StripBytes(BlockFormat::kF8, shape.k);
  Run(state, shape, DType::kU8, bytes, strips.data(), args, isa.kernels->fp8_matmul);
  Report(state, shape, bytes, isa.limits.matmul_gflop_per_s, isa.limits);
}

void Blocks(benchmark::State& state, const BenchmarkIsa& isa, const Shape& shape, BlockFormat format) {
  const std::vector<BlockStrip> strips = StripsOf(shape, format);
  BlockMatmulArgs args;
  args.x = TheMachine().x.as<QuantizedBlock>();
  args.ldx = shape.k / kBlockInputs;
  const int64_t bytes = std::ssize(strips) * StripBytes(format, shape.k);
  Run(state, shape, DType::kU8, bytes, strips.data(), args, isa.kernels->block_matmul);
  Report(state, shape, bytes, isa.limits.int8_gop_per_s, isa.limits);
}

constexpr BlockFormat kFormats[] = {BlockFormat::kI4,   BlockFormat::kU4,   BlockFormat::kU4_64, BlockFormat::kU4_32,
                                    BlockFormat::kQ4_0, BlockFormat::kQ4_K, BlockFormat::kQ5_0,  BlockFormat::kQ5_K,
                                    BlockFormat::kQ6_K, BlockFormat::kQ8_0};

}  // namespace

void RegisterMatmul(const BenchmarkIsa& isa) {
  for (const Shape& shape : kShapes) {
    auto* bf16 = Register(isa, std::string("matmul/") + shape.name,
                          [isa, shape](benchmark::State& state) { Bf16(state, isa, shape); });
    auto* w8a8 = Register(isa, std::string("quant_matmul/") + shape.name,
                          [isa, shape](benchmark::State& state) { W8A8(state, isa, shape); });
    auto* fp8 = Register(isa, std::string("fp8_matmul/") + shape.name,
                         [isa, shape](benchmark::State& state) { Fp8(state, isa, shape); });
    for (int64_t rows : kRows) {
      bf16->Arg(rows);
      w8a8->Arg(rows);
      fp8->Arg(rows);
    }
    for (const BlockFormat format : kFormats) {
      auto* blocks = Register(isa, std::string("block_matmul/") + InfoOf(format).name + "/" + shape.name,
                              [isa, shape, format](benchmark::State& state) { Blocks(state, isa, shape, format); });
      for (int64_t rows : kRows) blocks->Arg(rows);
    }
  }
}

}  // namespace tiercel::kernels
