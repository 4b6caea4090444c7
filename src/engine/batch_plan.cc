#include "engine/batch_plan.h"

#include <algorithm>

namespace tiercel::engine {

BatchPlan::BatchPlan(const model::RunLimits& limits, int64_t max_length, int block_size)
    : stride_((max_length + block_size - 1) / block_size) {
  const auto rows = static_cast<size_t>(limits.max_rows);
  const auto seqs = static_cast<size_t>(limits.max_seqs);
  const auto logits = static_cast<size_t>(limits.max_logit_rows);
  entries_.reserve(seqs);
  token_ids_.reserve(rows);
  positions_.reserve(rows);
  query_start_.reserve(seqs + 1);
  context_len_.reserve(seqs);
  block_table_.reserve(seqs * static_cast<size_t>(stride_));
  logit_rows_.reserve(logits);
  tasks_.reserve(logits);
  results_.resize(logits);
}

void BatchPlan::Clear() {
  entries_.clear();
  token_ids_.clear();
  positions_.clear();
  query_start_.assign(1, 0);
  context_len_.clear();
  block_table_.clear();
  logit_rows_.clear();
  tasks_.clear();
}

void BatchPlan::AddEntry(const PlanEntry& entry) {
  const Sequence& sequence = *entry.sequence;
  entries_.push_back(entry);
  const int64_t known = sequence.num_known();
  for (int64_t p = entry.start; p < entry.start + entry.num_tokens; ++p) {
    token_ids_.push_back(p < known ? sequence.token(p) : -1 - sequence.slot);
    positions_.push_back(static_cast<int32_t>(p));
  }
  query_start_.push_back(static_cast<int32_t>(token_ids_.size()));
  context_len_.push_back(static_cast<int32_t>(entry.start + entry.num_tokens));
  const size_t begin = block_table_.size();
  block_table_.resize(begin + static_cast<size_t>(stride_));
  std::copy(sequence.blocks.begin(), sequence.blocks.end(),
            block_table_.begin() + static_cast<int64_t>(begin));
}

void BatchPlan::AddTasks(const PlanEntry& entry,
                         std::vector<std::vector<sampling::TokenLogprob>>* prompt_logprobs) {
  const Sequence& sequence = *entry.sequence;
  const int32_t first_row = query_start_[query_start_.size() - 2];
  if (prompt_logprobs != nullptr) {
    const int64_t end = std::min(entry.start + entry.num_tokens, sequence.num_prompt() - 1);
    for (int64_t p = entry.start; p < end; ++p) {
      LogitTask task;
      task.next_token = sequence.token(p + 1);
      task.top_count = *sequence.request->params->prompt_logprobs;
      task.prompt_logprobs = &(*prompt_logprobs)[static_cast<size_t>(p + 1)];
      tasks_.push_back(task);
      logit_rows_.push_back(first_row + static_cast<int32_t>(p - entry.start));
    }
  }
  if (!entry.samples) return;
  LogitTask task;
  task.sampling = sequence.sampling.get();
  task.slot = sequence.slot;
  task.sequence = entry.sequence;
  tasks_.push_back(task);
  logit_rows_.push_back(query_start_.back() - 1);
}

model::StepBatch BatchPlan::View(std::span<const int32_t> sampled) const {
  model::StepBatch batch;
  batch.token_ids = token_ids_;
  batch.sampled = sampled;
  batch.positions = positions_;
  batch.query_start = query_start_;
  batch.context_len = context_len_;
  batch.block_table = block_table_;
  batch.block_table_stride = stride_;
  batch.logit_rows = logit_rows_;
  return batch;
}

}  // namespace tiercel::engine
