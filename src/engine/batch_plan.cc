#include "engine/batch_plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/round_up.h"

namespace tiercel::engine {

BatchPlan::BatchPlan(const model::RunLimits& limits, int64_t max_length, int block_size)
    : block_size_(block_size), stride_(CeilDiv(max_length, block_size)) {
  const auto rows = static_cast<size_t>(limits.max_rows);
  const auto seqs = static_cast<size_t>(limits.max_seqs);
  entries_.reserve(seqs);
  token_ids_.reserve(rows);
  positions_.reserve(rows);
  query_start_.reserve(seqs + 1);
  context_len_.reserve(seqs);
  block_tables_.reserve(seqs);
  block_table_.resize(seqs * static_cast<size_t>(stride_));
  table_rows_.resize(seqs);
  logit_rows_.reserve(rows);
  rows_.reserve(rows);
}

void BatchPlan::Clear() {
  entries_.clear();
  rows_.clear();
}

void BatchPlan::Build(const StepPlan& plan) {
  Clear();
  work_ = plan.work;
  num_prompt_tokens_ = plan.work.rows - plan.num_stream_rows;
  seconds_ = 0;
  token_ids_.clear();
  positions_.clear();
  query_start_.assign(1, 0);
  context_len_.clear();
  block_tables_.clear();
  logit_rows_.clear();
  for (const PlanEntry& entry : plan.entries) {
    AddTokens(entry);
    AddBlocks(*entry.sequence, entry.start + entry.num_tokens);
    AddRows(entry);
  }
}

void BatchPlan::AddTokens(const PlanEntry& entry) {
  const Sequence& sequence = *entry.sequence;
  const int64_t known = sequence.num_known();
  const int64_t end = entry.start + entry.num_tokens;
  for (int64_t p = entry.start; p < end; ++p) {
    token_ids_.push_back(p < known                ? sequence.token(p)
                         : entry.num_drafts == 0 ? -1 - sequence.slot
                                                 : sequence.drafts[static_cast<size_t>(p - known)]);
    positions_.push_back(static_cast<int32_t>(p));
  }
  query_start_.push_back(static_cast<int32_t>(token_ids_.size()));
  context_len_.push_back(static_cast<int32_t>(end));
}

void BatchPlan::AddBlocks(const Sequence& sequence, int64_t context) {
  TableRow& row = table_rows_[static_cast<size_t>(sequence.slot)];
  int32_t* const table = block_table_.data() + sequence.slot * stride_;
  if (row.stay != sequence.stay) row = {sequence.stay, 0};
  const int64_t used = CeilDiv(context, block_size_);
  CHECK_LE(used, std::min(stride_, static_cast<int64_t>(sequence.blocks.size())));
  for (; row.count < used; ++row.count) {
    table[row.count] = sequence.blocks[static_cast<size_t>(row.count)];
  }
  block_tables_.push_back(table);
}

void BatchPlan::AddRows(const PlanEntry& entry) {
  const Sequence& sequence = *entry.sequence;
  const int32_t first_token = query_start_[query_start_.size() - 2];
  BatchEntry& out = entries_.emplace_back();
  out.request = sequence.request->id;
  out.sample = sequence.index;
  out.first_row = static_cast<int64_t>(rows_.size());
  const auto add = [&](auto row, int64_t position) {
    rows_.push_back({std::move(row), OkStatus()});
    logit_rows_.push_back(first_token + static_cast<int32_t>(position - entry.start));
  };
  const RequestState& request = *sequence.request;
  for (int64_t p = entry.first_prompt_row; p < entry.end_prompt_row; ++p) {
    if (request.pooling != nullptr) {
      add(PooledRow{request.pooling, p, false, {}}, p);
    } else {
      add(PromptRow{p + 1, sequence.token(p + 1), *request.params->prompt_logprobs, {}}, p);
    }
  }
  if (entry.samples) {
    const int64_t last = entry.start + entry.num_tokens - 1;
    if (request.pooling != nullptr) {
      add(PooledRow{request.pooling, last, true, {}}, last);
    } else {
      for (int64_t i = 0; i <= entry.num_drafts; ++i) {
        SampleRow row;
        row.state = sequence.sampling;
        row.slot = sequence.slot;
        if (i < entry.num_drafts) row.draft = sequence.drafts[static_cast<size_t>(i)];
        add(std::move(row), last - entry.num_drafts + i);
      }
    }
  }
  out.num_rows = static_cast<int64_t>(rows_.size()) - out.first_row;
}

model::StepBatch BatchPlan::View(std::span<const int32_t> sampled) const {
  model::StepBatch batch;
  batch.token_ids = token_ids_;
  batch.sampled = sampled;
  batch.positions = positions_;
  batch.query_start = query_start_;
  batch.context_len = context_len_;
  batch.block_tables = block_tables_;
  batch.logit_rows = logit_rows_;
  return batch;
}

}  // namespace tiercel::engine
