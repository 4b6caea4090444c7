// StepParts: a long step as several shorter ones.
//
// Activations are sized for kStepRows rows, whatever max_num_batched_tokens says: a step of more
// rows runs as parts of at most so many, one after the other. No bit of the result depends on where
// the borders lie (batch invariance).
#pragma once

#include <cstdint>
#include <iterator>
#include <vector>

#include "model/causal_lm.h"

namespace tiercel::model {

// Long enough that reading the weights for each part costs little beside the arithmetic: 2048 FLOP a
// byte, where a machine with matrix units does some 250 in the time that the byte takes to come from
// memory. Short enough that a step of 40k tokens needs tens of megabytes instead of a gigabyte.
inline constexpr int64_t kStepRows = 2048;

class StepParts {
 public:
  // `batch`'s arrays stay unchanged while the parts are in use; max_rows ≥ 1.
  StepParts(const StepBatch& batch, int64_t max_rows) : batch_(batch), max_rows_(max_rows) {}

  // Makes the next part; false after the last. Its views live until the next call.
  bool Next();
  const StepBatch& part() const { return part_; }
  bool last() const { return end_row_ == std::ssize(batch_.token_ids); }
  // How many logit rows the parts before this one have.
  int64_t first_logit_row() const { return first_logit_; }

 private:
  const StepBatch& batch_;
  const int64_t max_rows_;
  int64_t end_row_ = 0;    // of the part
  int64_t first_seq_ = 0;  // of the next part
  int64_t first_logit_ = 0, end_logit_ = 0;
  StepBatch part_;
  std::vector<int32_t> query_start_, context_len_, logit_rows_;
};

}  // namespace tiercel::model
