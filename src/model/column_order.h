// The column orders in which the forward pass wants its fused linears.
#pragma once

#include <cstdint>

#include "checkpoint/config.h"

namespace tiercel::model {

enum class ColumnOrder {
  kPlain,
  kQkvByGroup,  // KV group after KV group: [q heads of g][k head g][v head g]
  kGateUp,      // 16 gate, 16 up, and so on
};

// Where a packed column comes from: row `row` of part `part` (q, k, v or gate, up), or zeros
// (part < 0).
struct Place {
  int part = -1;
  int64_t row = 0;
};

// `rows_of_plain`: the rows of a plain linear; columns beyond them are padding.
Place PlaceOf(ColumnOrder order, const checkpoint::ModelConfig& config, int64_t column, int64_t rows_of_plain);

}  // namespace tiercel::model
