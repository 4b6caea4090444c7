// BatchPlan: a StepPlan written out as the plain arrays that the model reads, and what came of it.
//
// Each row of logits has a purpose, which says what is done with it and holds its result: workers
// write the results, the engine thread takes them when the step has ended. A plan names requests by
// number and shares what the workers need of them, so it may outlive them. Buffers are sized once
// and reused: building a plan of decodes allocates nothing. While a plan is launched only the model
// runner touches it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "engine/scheduler.h"
#include "engine/stream_state.h"
#include "model/causal_lm.h"
#include "sampling/sampler.h"

namespace tiercel::engine {

// The next token of a sequence; it also goes to sampled[slot].
struct SampleRow {
  std::shared_ptr<sampling::SequenceState> state;
  int32_t slot = 0;
  // The entry's next row takes this guess for the token, and is sampled only if it is.
  std::optional<int32_t> draft;
  bool sampled = false;  // there is a result
  sampling::SampledToken result;
  // Filled in when the step has ended.
  bool kept = false;  // false: the sequence had ended meanwhile
  FinishReason finish = FinishReason::kNone;
  std::optional<int32_t> stop_token;
};

// The log-probability of prompt token `position`, given those before it.
struct PromptRow {
  int64_t position = 0;
  int32_t token = 0;
  int top_count = 0;
  std::vector<TokenLogprob> result;
};

// The vector or the labels of prompt token `position`. The row of the last one ends the request.
struct PooledRow {
  std::shared_ptr<const PoolingParams> params;
  int64_t position = 0;
  bool is_last = false;
  std::vector<float> result;
};

struct LogitRow {
  std::variant<SampleRow, PromptRow, PooledRow> purpose;
  Status error;  // there is no result; kResourceExhausted: for want of memory

  // Whether the row after this one verifies a guess of its token.
  bool GuessesNext() const {
    const auto* const sample = std::get_if<SampleRow>(&purpose);
    return sample != nullptr && sample->draft.has_value();
  }
};

// One sequence's part of the step: logit rows [first_row, first_row + num_rows), in order. A
// sequence may have several rows that sample: their tokens follow one another.
struct BatchEntry {
  uint64_t request = 0;  // RequestState::id
  int sample = 0;
  int64_t first_row = 0, num_rows = 0;
  // Filled in when the step has ended: where its results go, unless the request had ended.
  std::shared_ptr<StreamState> stream;
  std::optional<PromptInfo> prompt_info;  // comes before the first token
};

class BatchPlan {
 public:
  BatchPlan(const model::RunLimits& limits, int64_t max_length, int block_size);

  // Fills in everything from the plan. Where a sequence's token is pending, the input is the
  // placeholder −1 − slot.
  void Build(const StepPlan& plan);
  // Lets go of what it shares with requests.
  void Clear();

  // Views that stay valid until the next Build. `sampled` is the runner's array.
  model::StepBatch View(std::span<const int32_t> sampled) const;

  std::span<BatchEntry> entries() { return entries_; }
  std::span<LogitRow> rows() { return rows_; }
  std::span<LogitRow> RowsOf(const BatchEntry& entry) {
    return rows().subspan(static_cast<size_t>(entry.first_row),
                          static_cast<size_t>(entry.num_rows));
  }
  const StepWork& work() const { return work_; }
  int64_t num_prompt_tokens() const { return num_prompt_tokens_; }
  // How long the model took for it.
  double seconds() const { return seconds_; }
  void set_seconds(double seconds) { seconds_ = seconds; }
  int64_t num_tokens() const { return static_cast<int64_t>(token_ids_.size()); }

 private:
  // A row of the block table: the first `count` blocks of the sequence that was there in this stay.
  struct TableRow {
    int64_t stay = 0;
    int64_t count = 0;
  };

  void AddTokens(const PlanEntry& entry);
  void AddBlocks(const Sequence& sequence, int64_t context);
  void AddRows(const PlanEntry& entry);

  const int64_t block_size_;
  const int64_t stride_;  // blocks of the longest sequence
  StepWork work_;
  int64_t num_prompt_tokens_ = 0;
  double seconds_ = 0;
  std::vector<BatchEntry> entries_;
  std::vector<int32_t> token_ids_, positions_, query_start_, context_len_, logit_rows_;
  std::vector<const int32_t*> block_tables_;
  std::vector<int32_t> block_table_;  // [slots, stride_], appended to from step to step
  std::vector<TableRow> table_rows_;  // by slot
  std::vector<LogitRow> rows_;
};

}  // namespace tiercel::engine
