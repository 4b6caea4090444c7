#include "engine/stats.h"

#include <algorithm>

namespace tiercel::engine {

void Histogram::Observe(double value) {
  // Prometheus: a bucket counts values ≤ its bound.
  const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin();
  ++counts[static_cast<size_t>(bucket)];
  sum += value;
  ++count;
}

std::vector<double> OneTwoFiveBuckets(int64_t max) {
  std::vector<double> bounds;
  for (int64_t power = 1; power <= max; power *= 10) {
    for (const int64_t factor : {1, 2, 5}) {
      if (factor * power <= max) bounds.push_back(static_cast<double>(factor * power));
    }
  }
  return bounds;
}

Stats Stats::Empty(int64_t max_model_len) {
  const Histogram latency({.3, .5, .8, 1,  1.5, 2,  2.5, 5,   10,  15,  20,
                           30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680});
  const Histogram first_token({.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                               1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560});
  const Histogram per_token({.01, .025, .05, .075, .1, .15, .2, .3, .4, .5,
                             .75, 1,    2.5, 5,    7.5, 10, 20, 40, 80});
  const Histogram tokens(OneTwoFiveBuckets(max_model_len));
  Stats stats;
  stats.request_prompt_tokens = tokens;
  stats.request_generation_tokens = tokens;
  stats.request_max_num_generation_tokens = tokens;
  stats.request_params_max_tokens = tokens;
  stats.iteration_tokens =
      Histogram({1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384});
  stats.request_prefill_kv_computed_tokens = tokens;
  stats.request_num_preemptions = Histogram({1, 2, 3, 4, 5, 10, 20});
  stats.request_params_n = Histogram({1, 2, 5, 10, 20});
  stats.time_to_first_token = first_token;
  stats.inter_token_latency = per_token;
  stats.request_time_per_output_token = per_token;
  stats.e2e_request_latency = latency;
  stats.request_queue_time = latency;
  stats.request_inference_time = latency;
  stats.request_prefill_time = latency;
  stats.request_decode_time = latency;
  return stats;
}

}  // namespace tiercel::engine
