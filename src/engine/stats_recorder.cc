#include "engine/stats_recorder.h"

#include <algorithm>
#include <limits>

namespace tiercel::engine {

StatsRecorder::StatsRecorder(int64_t max_model_len, int64_t num_gpu_blocks, double log_interval,
                             double now, int64_t draft_tokens)
    : stats_(Stats::Empty(max_model_len)), log_interval_(log_interval), line_start_(now) {
  stats_.num_gpu_blocks = num_gpu_blocks;
  stats_.drafts.accepted_per_pos.resize(static_cast<size_t>(draft_tokens));
  logged_drafts_ = stats_.drafts;
  published_ = stats_;
}

void StatsRecorder::Step(int64_t num_tokens) {
  ++stats_.num_steps;
  stats_.iteration_tokens.Observe(static_cast<double>(num_tokens));
}

void StatsRecorder::PromptStep(int64_t prompt_tokens, double seconds) {
  ++prompt_steps_.steps;
  prompt_steps_.tokens += prompt_tokens;
  prompt_steps_.seconds += seconds;
}

void StatsRecorder::FirstScheduled(const ActiveRequest& request, Sequence* sequence, double now) {
  sequence->first_scheduled_time = now;
  stats_.request_queue_time.Observe(now - request.arrival_time);
}

void StatsRecorder::Token(const ActiveRequest& request, Sequence* sequence, double now, bool first_of_step) {
  Stats& s = stats_;
  ++s.generation_tokens;
  if (sequence->output.size() == 1) {
    sequence->first_token_time = now;
    s.prompt_tokens += static_cast<uint64_t>(sequence->num_prompt());
    s.prompt_tokens_cached += static_cast<uint64_t>(sequence->num_cached_prompt);
    s.time_to_first_token.Observe(now - request.arrival_time);
  } else if (first_of_step) {
    s.inter_token_latency.Observe(now - sequence->last_token_time);
  }
  sequence->last_token_time = now;
}

void StatsRecorder::Drafts(int64_t guessed, int64_t right) {
  DraftStats& d = stats_.drafts;
  ++d.drafts;
  d.tokens += static_cast<uint64_t>(guessed);
  d.accepted += static_cast<uint64_t>(right);
  for (int64_t i = 0; i < right; ++i) ++d.accepted_per_pos[static_cast<size_t>(i)];
}

void StatsRecorder::Pooled(const Sequence& sequence) {
  stats_.prompt_tokens += static_cast<uint64_t>(sequence.num_prompt());
  stats_.prompt_tokens_cached += static_cast<uint64_t>(sequence.num_cached_prompt);
}

void StatsRecorder::Finished(const ActiveRequest& request, const Sequence& sequence,
                             FinishReason reason, double now) {
  Stats& s = stats_;
  switch (reason) {
    case FinishReason::kStop: ++s.finished_stop; break;
    case FinishReason::kLength: ++s.finished_length; break;
    case FinishReason::kRepetition: ++s.finished_repetition; break;
    case FinishReason::kAbort: ++s.finished_abort; break;
    case FinishReason::kError: ++s.finished_error; break;
    case FinishReason::kNone: break;
  }
  s.request_prompt_tokens.Observe(static_cast<double>(sequence.num_prompt()));
  s.request_generation_tokens.Observe(static_cast<double>(sequence.output.size()));
  s.request_params_max_tokens.Observe(static_cast<double>(request.max_tokens));
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

void StatsRecorder::RequestDone(const ActiveRequest& request) {
  const auto& sequences = request.state.sequences;
  stats_.request_params_n.Observe(static_cast<double>(sequences.size()));
  size_t longest = 0;
  for (const auto& sequence : sequences) longest = std::max(longest, sequence->output.size());
  stats_.request_max_num_generation_tokens.Observe(static_cast<double>(longest));
}

void StatsRecorder::Totals(uint64_t num_preempted, uint64_t prefix_queries, uint64_t prefix_hits) {
  stats_.num_preemptions = num_preempted;
  stats_.prefix_cache_queries = prefix_queries;
  stats_.prefix_cache_hits = prefix_hits;
}

void StatsRecorder::Gauges(int64_t running, int64_t waiting, int64_t taken,
                           double kv_cache_usage) {
  stats_.num_requests_running = running;
  stats_.num_requests_waiting = waiting;
  stats_.kv_cache_usage = kv_cache_usage;
  taken_ = taken;
}

void StatsRecorder::Publish() {
  std::lock_guard lock(mutex_);
  published_ = stats_;
  published_taken_ = taken_;
}

double StatsRecorder::SecondsUntilLine(double now) const {
  if (log_interval_ <= 0 || !HasNews()) return std::numeric_limits<double>::infinity();
  return std::max(0.0, line_start_ + log_interval_ - now);
}

void StatsRecorder::WorkCame(double now) {
  if (!HasNews()) line_start_ = now;
}

// What the guesses since the last line gave, in vLLM's words.
std::string StatsRecorder::DraftsPart(double elapsed) {
  const DraftStats& now = stats_.drafts;
  DraftStats& before = logged_drafts_;
  const double drafts = static_cast<double>(now.drafts - before.drafts);
  if (drafts == 0) return "";
  const double tokens = static_cast<double>(now.tokens - before.tokens);
  const double accepted = static_cast<double>(now.accepted - before.accepted);
  std::string per_pos;
  for (size_t i = 0; i < now.accepted_per_pos.size(); ++i) {
    per_pos += fmt::format("{}{:.3f}", i > 0 ? ", " : "",
                           static_cast<double>(now.accepted_per_pos[i] - before.accepted_per_pos[i]) / drafts);
  }
  before = now;
  return fmt::format(
      ", SpecDecoding: Mean acceptance length: {:.2f}, Accepted throughput: {:.2f} tokens/s, Drafted throughput: {:.2f} "
      "tokens/s, Accepted: {:.0f} tokens, Drafted: {:.0f} tokens, Per-position acceptance rate: {}, Avg Draft acceptance "
      "rate: {:.1f}%",
      1 + accepted / drafts, accepted / elapsed, tokens / elapsed, accepted, tokens, per_pos, 100 * accepted / tokens);
}

std::optional<std::string> StatsRecorder::LogLine(double now) {
  if (SecondsUntilLine(now) > 0) return std::nullopt;
  const Stats& s = stats_;
  const double elapsed = now - line_start_;
  const auto rate = [elapsed](uint64_t count, uint64_t* before) {
    const double per_second = static_cast<double>(count - *before) / elapsed;
    *before = count;
    return per_second;
  };
  line_start_ = now;
  const std::string preemptions =
      s.num_preemptions > 0 ? fmt::format("Preemptions: {}, ", s.num_preemptions) : "";
  const double hit_rate = s.prefix_cache_queries == 0
                              ? 0
                              : 100.0 * static_cast<double>(s.prefix_cache_hits) /
                                    static_cast<double>(s.prefix_cache_queries);
  std::string parts;
  if (const auto& p = prompt_steps_; p.steps > 0) {
    const double steps = static_cast<double>(p.steps);
    parts = fmt::format(", Steps with prompts: {} of {:.0f} prompt tokens and {:.0f} ms", p.steps,
                        static_cast<double>(p.tokens) / steps, 1e3 * p.seconds / steps);
  }
  prompt_steps_ = {};
  parts += DraftsPart(elapsed);
  return fmt::format(
      "Avg prompt throughput: {:.1f} tokens/s, Avg generation throughput: {:.1f} "
      "tokens/s, Running: {} reqs, Waiting: {} reqs, {}GPU KV cache usage: {:.1f}%, Prefix cache "
      "hit rate: {:.1f}%{}",
      rate(s.prompt_tokens, &logged_prompt_tokens_),
      rate(s.generation_tokens, &logged_generation_tokens_), s.num_requests_running,
      s.num_requests_waiting, preemptions, 100.0 * s.kv_cache_usage, hit_rate, parts);
}

}  // namespace tiercel::engine
