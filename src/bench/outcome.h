// Outcome: what the client saw of one request. Times are seconds of the load's clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::bench {

struct Outcome {
  bool success = false;
  std::string error;  // of a failed one: a line

  double start_s = 0;                    // when it was sent
  double queue_s = 0;                    // how long it had to wait for that, for --max-concurrency
  double ttft_s = 0;                     // from start_s to the first chunk with a choice
  std::vector<double> itls_s;            // between one such chunk and the next
  double latency_s = 0;                  // from start_s to the last such chunk
  int64_t prompt_tokens = 0;             // the server's count, else the client's
  std::optional<int64_t> output_tokens;  // the server's count
  std::string text;
};

}  // namespace tiercel::bench
