#include "checkpoint/json_fields.h"

#include <cmath>
#include <limits>

#include "base/file_hints.h"

namespace tiercel::checkpoint {
namespace {

// Copies, comparisons and messages walk a value recursively: no model file nests more than a few levels.
constexpr int kMaxDepth = 32;

// Whether brackets outside of strings nest deeper than that; what is no JSON is the parser's to refuse.
bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

Expected<Json> ParseJsonObject(std::string_view text, const std::string& path, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Unexpected(InvalidArgument("{}: found {} bytes, expected at most {} for this file", path,
                                      text.size(), max_bytes));
  }
  if (IsTooDeep(text)) {
    return Unexpected(InvalidArgument("{}: is nested deeper than {} levels{}", path, kMaxDepth,
                                      WrongFileHint(text)));
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return Unexpected(InvalidArgument("{}: is not valid JSON ({} bytes){}", path, text.size(),
                                      WrongFileHint(text)));
  }
  if (!json.is_object()) {
    return Unexpected(
        InvalidArgument("{}: found {}, expected a JSON object", path, ShowJson(json)));
  }
  return json;
}

std::string ShowJson(const Json& value) {
  constexpr size_t kMost = 60;
  if (value.is_structured() && value.size() > 8) {  // not worth writing out
    return fmt::format("{} of {} entries", value.is_array() ? "a list" : "an object", value.size());
  }
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kMost) text = text.substr(0, kMost) + "…";
  return text;
}

const Json* JsonFields::Get(std::string_view key) const {
  asked_.emplace(key);
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

Status JsonFields::Wrong(std::string_view key, const std::string& expected) const {
  const Json* value = Get(key);
  return InvalidArgument("{}: found {}, expected {}", place_of_(key),
                         value != nullptr ? ShowJson(*value) : "nothing", expected);
}

Status JsonFields::Double(std::string_view key, double min, double max, double& out) const {
  const Json* value = Get(key);
  if (value == nullptr) return OkStatus();
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= min && number <= max)) {  // false for NaN too
    return Wrong(key, fmt::format("a number from {} to {}", min, max));
  }
  out = number;
  return OkStatus();
}

Status JsonFields::Int(std::string_view key, int64_t min, int64_t max, int64_t& out) const {
  const Json* value = Get(key);
  if (value == nullptr) return OkStatus();
  // 1e6 is written for 1000000 at times; every bound here is exact in a double.
  double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      number != std::floor(number)) {
    return Wrong(key, fmt::format("an integer from {} to {}", min, max));
  }
  out = static_cast<int64_t>(number);
  return OkStatus();
}

Status JsonFields::RequiredInt(std::string_view key, int64_t min, int64_t max, int64_t& out) const {
  if (!Has(key)) return Wrong(key, fmt::format("an integer from {} to {}", min, max));
  return Int(key, min, max, out);
}

Status JsonFields::Bool(std::string_view key, bool& out) const {
  const Json* value = Get(key);
  if (value == nullptr) return OkStatus();
  if (!value->is_boolean()) return Wrong(key, "true or false");
  out = value->get<bool>();
  return OkStatus();
}

Status JsonFields::String(std::string_view key, std::string& out) const {
  const Json* value = Get(key);
  if (value == nullptr) return OkStatus();
  if (!value->is_string()) return Wrong(key, "a string");
  out = value->get_ref<const std::string&>();
  return OkStatus();
}

Status JsonFields::TokenIds(std::string_view key, std::vector<int32_t>& out) const {
  constexpr size_t kMostIds = 1024;
  const Json* value = Get(key);
  if (value == nullptr) return OkStatus();
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<int32_t> ids;
  for (const Json& item : list) {
    const double id = item.is_number_integer() ? item.get<double>() : std::nan("");
    if (!(id >= -1 && id <= std::numeric_limits<int32_t>::max()) || list.size() > kMostIds) {
      return Wrong(key, fmt::format("a token id or a list of at most {} token ids", kMostIds));
    }
    if (id >= 0) ids.push_back(static_cast<int32_t>(id));
  }
  out = std::move(ids);
  return OkStatus();
}

}  // namespace tiercel::checkpoint
