// Cost of one row of Qwen3's vocabulary; compare with the lm_head's cost per row.
#include <benchmark/benchmark.h>

#include <random>

#include "sampling/sampler.h"

namespace tiercel::sampling {
namespace {

constexpr int64_t kVocab = 151936;

void SampleRow(benchmark::State& state, const SamplingParams& params, float spread) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(kVocab);
  for (float& x : row) x = normal(random);
  Sampler sampler(PortableVectorOps(), kVocab, LogprobsMode::kRawLogprobs);
  SequenceState sequence(
      std::make_shared<SamplingContext>(std::make_shared<SamplingParams>(params),
                                        std::span<const int32_t>{}, std::span<const int32_t>{}),
      1);
  SampledToken out;
  for (auto _ : state) {
    (void)sampler.Sample(row.data(), &sequence, &out);
    benchmark::DoNotOptimize(out.token);
  }
}

void Greedy(benchmark::State& state) {
  SamplingParams params;
  params.temperature = 0;
  SampleRow(state, params, 2);
}
void Qwen3Defaults(benchmark::State& state) {
  SamplingParams params;
  params.temperature = 0.6f;
  params.top_k = 20;
  params.top_p = 0.95f;
  SampleRow(state, params, 2);
}
void TemperatureOnly(benchmark::State& state) { SampleRow(state, SamplingParams{}, 2); }
void TopPPeaked(benchmark::State& state) {
  SamplingParams params;
  params.top_p = 0.9f;
  params.temperature = 0.5f;
  SampleRow(state, params, 4);
}
void TopPFlat(benchmark::State& state) {
  SamplingParams params;
  params.top_p = 0.9f;
  SampleRow(state, params, 1);
}
void GreedyLogprobs(benchmark::State& state) {
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = 5;
  SampleRow(state, params, 2);
}
BENCHMARK(Greedy)->Unit(benchmark::kMicrosecond);
BENCHMARK(Qwen3Defaults)->Unit(benchmark::kMicrosecond);
BENCHMARK(TemperatureOnly)->Unit(benchmark::kMicrosecond);
BENCHMARK(TopPPeaked)->Unit(benchmark::kMicrosecond);
BENCHMARK(TopPFlat)->Unit(benchmark::kMicrosecond);
BENCHMARK(GreedyLogprobs)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tiercel::sampling

BENCHMARK_MAIN();
