#include "model/step_parts.h"

#include <algorithm>

#include "base/check.h"

namespace tiercel::model {

bool StepParts::Next() {
  const int64_t rows = std::ssize(batch_.token_ids);
  if (end_row_ == rows) return false;
  const int64_t begin = end_row_;
  end_row_ = std::min(rows, begin + max_rows_);
  const int64_t count = end_row_ - begin;

  // The sequences with rows in [begin, end): the first and the last may have others outside.
  query_start_.assign(1, 0);
  context_len_.clear();
  int64_t seq = first_seq_;
  for (; seq < std::ssize(batch_.context_len) && batch_.query_start[seq] < end_row_; ++seq) {
    const int64_t seq_end = batch_.query_start[seq + 1];
    const int64_t end = std::min(seq_end, end_row_);
    query_start_.push_back(static_cast<int32_t>(end - begin));
    // What lies in the cache once this part's rows are written.
    context_len_.push_back(static_cast<int32_t>(batch_.context_len[seq] - (seq_end - end)));
  }
  CHECK_EQ(query_start_.back(), count);

  first_logit_ = end_logit_;
  logit_rows_.clear();
  for (; end_logit_ < std::ssize(batch_.logit_rows) && batch_.logit_rows[end_logit_] < end_row_;
       ++end_logit_) {
    logit_rows_.push_back(static_cast<int32_t>(batch_.logit_rows[end_logit_] - begin));
  }

  part_ = {.token_ids = batch_.token_ids.subspan(begin, count),
           .sampled = batch_.sampled,
           .positions = batch_.positions.subspan(begin, count),
           .query_start = query_start_,
           .context_len = context_len_,
           .block_tables = batch_.block_tables.subspan(first_seq_),
           .logit_rows = logit_rows_};
  // The next part begins with the last sequence again if rows of it are left.
  first_seq_ = batch_.query_start[seq] > end_row_ ? seq - 1 : seq;
  return true;
}

}  // namespace tiercel::model
