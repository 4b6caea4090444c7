// Stats: counters, gauges and histograms of the engine, named as vLLM's metrics are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tiercel::engine {

// Cumulative histogram with fixed upper bounds (+Inf is implied).
struct Histogram {
  std::vector<double> bounds;
  std::vector<uint64_t> counts;  // bounds.size() + 1, not cumulative
  double sum = 0;
  uint64_t count = 0;

  Histogram() = default;
  explicit Histogram(std::vector<double> upper_bounds)
      : bounds(std::move(upper_bounds)), counts(bounds.size() + 1) {}
  void Observe(double value);
};

// Guesses of the tokens that follow (ngram_drafter.h): one for a sequence and a step.
struct DraftStats {
  uint64_t drafts = 0;
  uint64_t tokens = 0;
  uint64_t accepted = 0;                   // tokens that were right
  std::vector<uint64_t> accepted_per_pos;  // the same by their place in the guess; empty: nothing is guessed
};

// A "request" in the request_* histograms and the finished_* counters is one sample of the n that
// a request asked for, as in vLLM; request_params_n and request_max_num_generation_tokens (of its
// longest sample) alone are observed once per request. Every sample that ends, for whatever reason, is counted in exactly one finished_* counter and observed
// in request_prompt_tokens, request_generation_tokens, request_num_preemptions and
// e2e_request_latency; the queue, prefill, decode and inference times only if it came so far. So,
// once nothing is running, the counts of e2e_request_latency and finished_* agree and the sum of
// request_generation_tokens is generation_tokens. prompt_tokens counts a sample's prompt at its
// first token, not again when it is computed anew after a preemption; prompt_tokens_cached what
// of it was there already: from earlier requests, or from the request's other samples.
struct Stats {
  // All zero, with every histogram's buckets in place: vLLM's, as dashboards are written for them.
  static Stats Empty(int64_t max_model_len);

  // gauges
  int64_t num_requests_running = 0;
  int64_t num_requests_waiting = 0;
  double kv_cache_usage = 0;  // 0 … 1
  int64_t num_gpu_blocks = 0;
  // counters
  uint64_t prompt_tokens = 0;
  uint64_t prompt_tokens_cached = 0;
  uint64_t generation_tokens = 0;
  uint64_t prefix_cache_queries = 0;  // tokens
  uint64_t prefix_cache_hits = 0;     // tokens
  uint64_t num_preemptions = 0;
  uint64_t finished_stop = 0, finished_length = 0, finished_repetition = 0, finished_abort = 0,
           finished_error = 0;
  uint64_t rejected_queued_reqs = 0, rejected_queued_tokens = 0;
  uint64_t num_steps = 0;
  DraftStats drafts;
  uint64_t steps_replayed = 0, steps_eager = 0;  // with a captured Program, or recorded anew
  // histograms (seconds or tokens)
  Histogram request_prompt_tokens, request_generation_tokens,
      request_max_num_generation_tokens, iteration_tokens, request_params_n, request_params_max_tokens, request_num_preemptions,
      request_prefill_kv_computed_tokens, time_to_first_token, inter_token_latency,
      request_time_per_output_token, e2e_request_latency, request_queue_time,
      request_inference_time, request_prefill_time, request_decode_time;
};

// 1, 2, 5, 10, 20, 50, … up to max.
std::vector<double> OneTwoFiveBuckets(int64_t max);

}  // namespace tiercel::engine
