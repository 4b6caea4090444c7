// Order: what the first process of a job tells the others to do; then come what it is done with.
#pragma once

#include <cstdint>

#include "model/causal_lm.h"

namespace tiercel::model {

struct Order {
  enum class Kind : int32_t {
    kPrepare,     // kv, limits; then all agree on how it went
    kStep,        // the counts; then the inputs
    kEmptyCache,
    kEnd,
  };

  Kind kind = Kind::kEnd;
  KvOptions kv = {};
  RunLimits limits = {};
  int64_t rows = 0, seqs = 0, logit_rows = 0;
  int64_t blocks = 0;  // that the longest block table has
};

}  // namespace tiercel::model
