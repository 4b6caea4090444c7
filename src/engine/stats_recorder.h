// StatsRecorder: turns what happens to sequences into the numbers of engine/stats.h, and into the
// log's throughput line. Snapshot may be called from any thread, all else is the engine thread's.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "engine/active_request.h"
#include "engine/stats.h"

namespace tiercel::engine {

class StatsRecorder {
 public:
  StatsRecorder(int64_t max_model_len, int64_t num_gpu_blocks, double log_interval, double now);

  // Groups the updates of one step, so that a snapshot never shows half of them.
  class Update {
   public:
    explicit Update(StatsRecorder* recorder) : recorder_(recorder), lock_(recorder->mutex_) {}

    void Step(int64_t num_tokens, int64_t num_preempted);
    void FirstScheduled(Sequence* sequence, double now);
    void Token(Sequence* sequence, double now);
    void Finished(const Sequence& sequence, FinishReason reason, double now);
    void RequestDone(const ActiveRequest& request);
    void PrefixCache(uint64_t queries, uint64_t hits);
    void Gauges(int64_t running, int64_t waiting, double kv_cache_usage);
    // The line, if it is time for one.
    std::optional<std::string> LogLine(double now);

   private:
    StatsRecorder* recorder_;
    std::lock_guard<std::mutex> lock_;
  };

  Stats Snapshot() const;

 private:
  mutable std::mutex mutex_;
  Stats stats_;
  const double log_interval_;
  double last_log_;
  uint64_t logged_prompt_tokens_ = 0;
  uint64_t logged_generation_tokens_ = 0;
};

}  // namespace tiercel::engine
