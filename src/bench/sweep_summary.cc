#include "bench/sweep_summary.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "bench/parameter_sweep.h"

namespace tiercel::bench {
namespace {

using api::Json;

std::string Field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::string SummaryCsv(const std::vector<Json>& results) {
  std::vector<std::string> columns;
  std::unordered_set<std::string> known;
  for (const Json& result : results) {
    for (const Json::Member& member : *result.object()) {
      if (known.insert(member.key).second) columns.push_back(member.key);
    }
  }
  std::string csv;
  for (const std::string& column : columns) csv += "," + Field(column);
  csv += "\n";
  for (size_t row = 0; row < results.size(); ++row) {
    csv += std::to_string(row);
    for (const std::string& column : columns) {
      const Json* value = results[row].Find(column);
      csv += "," + (value == nullptr || value->is_null() ? std::string() : Field(PythonStr(*value)));
    }
    csv += "\n";
  }
  return csv;
}

}  // namespace tiercel::bench
