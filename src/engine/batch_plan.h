// BatchPlan: a StepPlan written out as the plain arrays that the model reads, and the results.
// Buffers are sized once and reused: building a plan allocates nothing. While a plan is launched
// only the model runner touches it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/scheduler.h"
#include "model/causal_lm.h"
#include "sampling/sampler.h"

namespace tiercel::engine {

// What is to be done with one row of logits.
struct LogitTask {
  // Sampling, if `sampling` is set: the token goes to sampled[slot] and into the results.
  sampling::SequenceState* sampling = nullptr;
  int32_t slot = 0;
  Sequence* sequence = nullptr;
  // Else the log-probability of the prompt's next token.
  int32_t next_token = 0;
  int top_count = 0;
  std::vector<sampling::TokenLogprob>* prompt_logprobs = nullptr;
};

class BatchPlan {
 public:
  BatchPlan(const model::RunLimits& limits, int64_t max_length, int block_size);

  // Fills in everything from the plan. Where a sequence's token is pending, the input is the
  // placeholder −1 − slot. `prompt_logprobs(sequence)` gives the request's array, one entry per
  // prompt token.
  template <typename PromptLogprobsOf>
  void Build(const StepPlan& plan, PromptLogprobsOf&& prompt_logprobs) {
    Clear();
    for (const PlanEntry& entry : plan.entries) {
      AddEntry(entry);
      AddTasks(entry, entry.prompt_logprobs ? prompt_logprobs(entry.sequence) : nullptr);
    }
  }

  // Views that stay valid until the next Build. `sampled` is the runner's array.
  model::StepBatch View(std::span<const int32_t> sampled) const;

  const std::vector<PlanEntry>& entries() const { return entries_; }
  const std::vector<LogitTask>& tasks() const { return tasks_; }
  std::vector<sampling::SampledToken>& results() { return results_; }  // by task
  int64_t num_tokens() const { return static_cast<int64_t>(token_ids_.size()); }

 private:
  void Clear();
  void AddEntry(const PlanEntry& entry);
  void AddTasks(const PlanEntry& entry,
                std::vector<std::vector<sampling::TokenLogprob>>* prompt_logprobs);

  int64_t stride_;
  std::vector<PlanEntry> entries_;
  std::vector<int32_t> token_ids_, positions_, query_start_, context_len_, block_table_,
      logit_rows_;
  std::vector<LogitTask> tasks_;
  std::vector<sampling::SampledToken> results_;
};

}  // namespace tiercel::engine
