#include "model/logit_transfers.h"

namespace tiercel::model {
namespace {

constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

// In bytes, those of number `process` of the last stage.
Range ColumnsOf(const RankBuffers& ranks, const LogitRows& rows, int process) {
  if (!rows.columns) return {0, process == 0 ? rows.width : 0};
  const auto first = static_cast<size_t>(process * ranks.places.local);
  const auto end = first + static_cast<size_t>(ranks.places.local);
  return {ranks.head_columns[first] * kFloat, ranks.head_columns[end] * kFloat};
}

}  // namespace

comm::Transfer LogitsToFirst(const RankBuffers& ranks, const LogitRows& rows) {
  return {0, rows.data, rows.rows, rows.stride, ColumnsOf(ranks, rows, ranks.places.process.index).size()};
}

void LogitsFromOthers(const RankBuffers& ranks, const LogitRows& rows, std::vector<comm::Transfer>* receives) {
  for (int process = 0; process < ranks.places.process.count; ++process) {
    const int from = ranks.places.InLastStage(process);
    if (from == 0) continue;
    const Range columns = ColumnsOf(ranks, rows, process);
    receives->push_back({from, rows.data + columns.begin, rows.rows, rows.stride, columns.size()});
  }
}

}  // namespace tiercel::model
