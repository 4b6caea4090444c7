#include "model/column_order.h"

#include "tensor/packed_matrix.h"

namespace tiercel::model {

Place PlaceOf(ColumnOrder order, const checkpoint::ModelConfig& config, int64_t column, int64_t rows_of_plain) {
  switch (order) {
    case ColumnOrder::kPlain:
      return column < rows_of_plain ? Place{0, column} : Place{};
    case ColumnOrder::kQkvByGroup: {
      const int64_t heads = config.num_heads / config.num_kv_heads;
      const int64_t width = (heads + 2) * config.head_dim;
      const int64_t group = column / width;
      const int64_t head = column % width / config.head_dim;
      const int64_t d = column % config.head_dim;
      if (head < heads) return {0, (group * heads + head) * config.head_dim + d};
      return {head == heads ? 1 : 2, group * config.head_dim + d};
    }
    case ColumnOrder::kGateUp: {
      const int64_t feature = column / (2 * kColumnGroup) * kColumnGroup + column % kColumnGroup;
      if (feature >= config.intermediate_size) return {};
      return {column % (2 * kColumnGroup) < kColumnGroup ? 0 : 1, feature};
    }
  }
  return {};
}

}  // namespace tiercel::model
