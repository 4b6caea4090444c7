// The table of all results of a sweep.
#pragma once

#include <string>
#include <vector>

#include "api/json.h"

namespace tiercel::bench {

// summary.csv as pandas writes it: a column with the row's number, then every key of any result in the order in which
// they come first; empty where a result has none.
std::string SummaryCsv(const std::vector<api::Json>& results);

}  // namespace tiercel::bench
