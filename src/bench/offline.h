// RunOffline: requests to an engine of this process until the last has ended, and what each of them took.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "bench/load.h"
#include "engine/engine.h"
#include "text/tokenizer.h"

namespace tiercel::bench {

struct OfflineWork {
  size_t num_requests = 0;
  // Called once each, within the time that is measured: tokenizing belongs to it.
  std::function<Expected<std::vector<int32_t>>(size_t index)> prompt;
  std::function<int64_t(size_t index)> output_tokens;  // every answer has so many
  int n = 1;                                           // answers of a request
  int64_t max_concurrency = 0;                         // requests at a time; 0: all at once
  const text::Tokenizer* detokenize = nullptr;         // null: answers stay tokens
  const std::atomic<bool>* stop = nullptr;             // once set, it ends with kCancelled
  std::function<void(int64_t ended)> on_end;           // after each request; may be null
};

struct OfflineResult {
  double elapsed_s = 0;
  int64_t prompt_tokens = 0, output_tokens = 0;
  LoadResult load;  // every request's times, in their order; of n answers a step is one chunk
};

// Answers are sampled at temperature 1, and no token ends them, as in vLLM's benchmarks.
Expected<OfflineResult> RunOffline(const OfflineWork& work, engine::Engine* engine,
                                   const Clock& clock);

}  // namespace tiercel::bench
