#include "engine/stats_recorder.h"

namespace tiercel::engine {

StatsRecorder::StatsRecorder(int64_t max_model_len, int64_t num_gpu_blocks, double log_interval,
                             double now)
    : stats_(Stats::Empty(max_model_len)), log_interval_(log_interval), last_log_(now) {
  stats_.num_gpu_blocks = num_gpu_blocks;
}

Stats StatsRecorder::Snapshot() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void StatsRecorder::Update::Step(int64_t num_tokens, int64_t num_preempted) {
  Stats& s = recorder_->stats_;
  ++s.num_steps;
  s.num_preemptions += static_cast<uint64_t>(num_preempted);
  s.iteration_tokens.Observe(static_cast<double>(num_tokens));
}

void StatsRecorder::Update::FirstScheduled(Sequence* sequence, double now) {
  sequence->first_scheduled_time = now;
  recorder_->stats_.request_queue_time.Observe(now - ActiveOf(sequence)->arrival_time);
}

void StatsRecorder::Update::Token(Sequence* sequence, double now) {
  Stats& s = recorder_->stats_;
  ++s.generation_tokens;
  if (sequence->output.size() == 1) {
    sequence->first_token_time = now;
    s.prompt_tokens += static_cast<uint64_t>(sequence->num_prompt());
    s.prompt_tokens_cached += static_cast<uint64_t>(sequence->num_cached_prompt);
    s.time_to_first_token.Observe(now - ActiveOf(sequence)->arrival_time);
  } else {
    s.inter_token_latency.Observe(now - sequence->last_token_time);
  }
  sequence->last_token_time = now;
}

void StatsRecorder::Update::Finished(const Sequence& sequence, FinishReason reason, double now) {
  Stats& s = recorder_->stats_;
  switch (reason) {
    case FinishReason::kStop: ++s.finished_stop; break;
    case FinishReason::kLength: ++s.finished_length; break;
    case FinishReason::kAbort: ++s.finished_abort; break;
    case FinishReason::kError: ++s.finished_error; break;
    case FinishReason::kNone: break;
  }
  const ActiveRequest& request = *ActiveOf(&sequence);
  s.request_prompt_tokens.Observe(static_cast<double>(sequence.num_prompt()));
  s.request_generation_tokens.Observe(static_cast<double>(sequence.output.size()));
  s.request_params_max_tokens.Observe(static_cast<double>(request.params->max_tokens));
  s.request_num_preemptions.Observe(static_cast<double>(sequence.num_preemptions));
  s.e2e_request_latency.Observe(now - request.arrival_time);
  if (sequence.output.empty()) return;
  s.request_prefill_kv_computed_tokens.Observe(
      static_cast<double>(sequence.num_prompt() - sequence.num_cached_prompt));
  s.request_prefill_time.Observe(sequence.first_token_time - sequence.first_scheduled_time);
  s.request_decode_time.Observe(sequence.last_token_time - sequence.first_token_time);
  s.request_inference_time.Observe(sequence.last_token_time - sequence.first_scheduled_time);
  if (sequence.output.size() > 1) {
    s.request_time_per_output_token.Observe(
        (sequence.last_token_time - sequence.first_token_time) /
        static_cast<double>(sequence.output.size() - 1));
  }
}

void StatsRecorder::Update::RequestDone(const ActiveRequest& request) {
  recorder_->stats_.request_params_n.Observe(static_cast<double>(request.sequences.size()));
}

void StatsRecorder::Update::PrefixCache(uint64_t queries, uint64_t hits) {
  recorder_->stats_.prefix_cache_queries = queries;
  recorder_->stats_.prefix_cache_hits = hits;
}

void StatsRecorder::Update::Gauges(int64_t running, int64_t waiting, double kv_cache_usage) {
  Stats& s = recorder_->stats_;
  s.num_requests_running = running;
  s.num_requests_waiting = waiting;
  s.kv_cache_usage = kv_cache_usage;
}

std::optional<std::string> StatsRecorder::Update::LogLine(double now) {
  StatsRecorder& r = *recorder_;
  const double elapsed = now - r.last_log_;
  if (r.log_interval_ <= 0 || elapsed < r.log_interval_) return std::nullopt;
  const Stats& s = r.stats_;
  const auto rate = [elapsed](uint64_t count, uint64_t* before) {
    const double per_second = static_cast<double>(count - *before) / elapsed;
    *before = count;
    return per_second;
  };
  r.last_log_ = now;
  const std::string preemptions =
      s.num_preemptions > 0 ? fmt::format("Preemptions: {}, ", s.num_preemptions) : "";
  const double hit_rate = s.prefix_cache_queries == 0
                              ? 0
                              : 100.0 * static_cast<double>(s.prefix_cache_hits) /
                                    static_cast<double>(s.prefix_cache_queries);
  return fmt::format(
      "Engine 000: Avg prompt throughput: {:.1f} tokens/s, Avg generation throughput: {:.1f} "
      "tokens/s, Running: {} reqs, Waiting: {} reqs, {}GPU KV cache usage: {:.1f}%, Prefix cache "
      "hit rate: {:.1f}%",
      rate(s.prompt_tokens, &r.logged_prompt_tokens_),
      rate(s.generation_tokens, &r.logged_generation_tokens_), s.num_requests_running,
      s.num_requests_waiting, preemptions, 100.0 * s.kv_cache_usage, hit_rate);
}

}  // namespace tiercel::engine
