// What `tiercel tune` is asked for: the load to run, and which of its figures is to be good.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "bench/data_sets.h"
#include "bench/metrics.h"

namespace tiercel::bench {

struct TuningLoad {
  DataSetOptions data_set;   // num_prompts: those of one run
  int64_t max_concurrency = 0;  // 0: all at once
};

// "random:200/128@8": prompts of 200 tokens, answers of 128, eight at a time, and as many in a run. "FILE@8": the
// requests of a file of JSON lines (data set custom), of a .json file (sharegpt) or of a .csv file (burstgpt);
// without @8 all at once. `num_prompts` 0: the default, for a file twice as many as run at a time and at least 16.
Expected<TuningLoad> ParseTuningLoad(std::string_view text, int64_t num_prompts);

// One figure of a load. As a score, more is better, and it is not negative.
class TuningGoal {
 public:
  // "throughput", "ttft", "itl", or "goodput:" and bounds in milliseconds, as in "goodput:ttft:500,tpot:60".
  static Expected<TuningGoal> Parse(std::string_view text);

  const std::map<std::string, double>& goodput_ms() const { return goodput_ms_; }  // for MetricsOptions
  double Score(const Metrics& metrics) const;
  // The figure that a score stands for, and its name.
  double Figure(double score) const;
  std::string_view unit() const;
  bool less_is_better() const { return kind_ == Kind::kTtft || kind_ == Kind::kItl; }

 private:
  enum class Kind { kThroughput, kTtft, kItl, kGoodput };

  Kind kind_ = Kind::kThroughput;
  std::map<std::string, double> goodput_ms_;
};

}  // namespace tiercel::bench
