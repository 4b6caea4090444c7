// RunLoad: sends requests when they are due and times their answers, all on the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "bench/outcome.h"
#include "net/async_http_client.h"

namespace tiercel::bench {

constexpr double kStopInterval = 0.1;  // seconds between two looks at `stop`

struct Load {
  std::vector<double> arrivals_s;  // ascending, of each request, after the start
  // The request itself, made when it is sent; and its prompt's length by the client's count.
  std::function<net::HttpRequestSpec(size_t index)> make;
  std::function<int64_t(size_t index)> prompt_tokens;
  int64_t max_concurrency = 0;                // 0: no bound
  const std::atomic<bool>* stop = nullptr;    // once set, what runs is cut off
  std::function<void(int64_t ended)> on_end;  // after each request; may be null
};

struct LoadResult {
  std::vector<Outcome> outcomes;  // of those that have ended, in the order of the requests
  int64_t unfinished = 0;         // that were cut off or never sent
  std::vector<double> sent_s;  // when each was sent, after the start; in the order of the requests
  double start_s = 0;          // the clock's
  double duration_s = 0;
};

// The client's own failure is an error; a request's is in its outcome.
Expected<LoadResult> RunLoad(const Load& load, net::AsyncHttpClient* client, const Clock& clock);

}  // namespace tiercel::bench
