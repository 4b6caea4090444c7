// StatsRecorder: turns what happens to sequences into the numbers of engine/stats.h, and into the
// log's throughput line. The engine thread counts without a lock and publishes once a step;
// Snapshot, which any thread may call, gives what was published last.
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
  // draft_tokens: that are guessed at a time at most; 0: none.
  StatsRecorder(int64_t max_model_len, int64_t num_gpu_blocks, double log_interval, double now, int64_t draft_tokens = 0);

  // Engine thread.
  void Step(int64_t num_tokens);
  void PromptStep(int64_t prompt_tokens, double seconds);  // a step with prompts has ended
  void FirstScheduled(const ActiveRequest& request, Sequence* sequence, double now);
  // first_of_step: not one that a guess gave.
  void Token(const ActiveRequest& request, Sequence* sequence, double now, bool first_of_step = true);
  void Drafts(int64_t guessed, int64_t right);  // of one sequence's step
  void Pooled(const Sequence& sequence);  // its prompt has been computed
  void Finished(const ActiveRequest& request, const Sequence& sequence, FinishReason reason,
                double now);
  void RequestDone(const ActiveRequest& request);
  // In all since the start.
  void Totals(uint64_t num_preempted, uint64_t prefix_queries, uint64_t prefix_hits);
  // `taken`: sequences that the engine thread has taken from the inbox since the start.
  void Gauges(int64_t running, int64_t waiting, int64_t taken, double kv_cache_usage);
  // What has changed since the last call is seen by Snapshot at once.
  void Publish();

  // The throughput line covers the time since the last one, or since work came after the engine had
  // nothing to do. Seconds until it is due; infinity where there is nothing to tell.
  double SecondsUntilLine(double now) const;
  std::optional<std::string> LogLine(double now);  // if it is due
  void WorkCame(double now);                       // to an idle engine

  // `submitted`: sequences that were put into the inbox since the start, counted after the call began.
  template <typename F>
  Stats Snapshot(F&& submitted) const {
    std::lock_guard lock(mutex_);
    Stats stats = published_;
    stats.num_requests_waiting += submitted() - published_taken_;
    return stats;
  }

 private:
  // Whether there is something to tell: requests, or tokens since the last line.
  bool HasNews() const {
    return stats_.num_requests_running + stats_.num_requests_waiting > 0 ||
           stats_.prompt_tokens != logged_prompt_tokens_ ||
           stats_.generation_tokens != logged_generation_tokens_;
  }

  std::string DraftsPart(double elapsed);

  Stats stats_;
  int64_t taken_ = 0;
  const double log_interval_;
  double line_start_;
  uint64_t logged_prompt_tokens_ = 0;
  uint64_t logged_generation_tokens_ = 0;
  DraftStats logged_drafts_;
  struct {
    int64_t steps = 0, tokens = 0;
    double seconds = 0;
  } prompt_steps_;  // since the last line

  mutable std::mutex mutex_;
  Stats published_;
  int64_t published_taken_ = 0;
};

}  // namespace tiercel::engine
