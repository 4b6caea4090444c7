#include "checkpoint/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

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

// Python writes and reads numbers that JSON has not. Here they become texts: what nothing reads does no harm, and a field that is
// read is refused by its name. Nothing else begins with these letters outside of a string.
std::string WithNamedNumbers(std::string_view text) {
  constexpr std::string_view kNames[] = {"NaN", "Infinity", "-Infinity"};
  std::string result;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      result += c;
      result += text[++i];
      continue;
    }
    if (c == '"') in_string = !in_string;
    const auto name = in_string ? std::end(kNames)
                                : std::find_if(std::begin(kNames), std::end(kNames),
                                               [&](std::string_view n) { return text.substr(i).starts_with(n); });
    if (name == std::end(kNames)) {
      result += c;
      continue;
    }
    result += fmt::format("\"{}\"", *name);
    i += name->size() - 1;
  }
  return result;
}

// "line 3, column 5: ", of what the library quotes of the text in a message without a place.
std::string PlaceOfQuoted(std::string_view text, std::string_view message) {
  const size_t begin = message.find('\''), end = message.rfind('\'');
  if (begin >= end || end == message.npos) return "";
  const size_t at = text.find(message.substr(begin + 1, end - begin - 1));
  if (at == text.npos) return "";
  const std::string_view before = text.substr(0, at);
  const size_t line = before.rfind('\n');  // npos + 1 is 0
  return fmt::format("line {}, column {}: ", std::count(before.begin(), before.end(), '\n') + 1, at - line);
}

// "line 3, column 5: syntax error …", of the library's message.
std::string PlaceAndReason(std::string_view message) {
  constexpr size_t kMost = 240;
  for (const std::string_view begin : {"] ", "parse error at "}) {
    if (const size_t at = message.find(begin); at != message.npos) message.remove_prefix(at + begin.size());
  }
  std::string text(message.substr(0, kMost));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';  // it may quote half of a character
  }
  return text;
}

Expected<Json> ParseJson(std::string_view text, const std::string& path) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    const std::string hint = WrongFileHint(text);
    const bool has_place = std::string_view(error.what()).find(" at line ") != std::string_view::npos;
    const std::string place = has_place ? "" : PlaceOfQuoted(text, error.what());
    return Unexpected(InvalidArgument("{}: is not valid JSON ({} bytes){}", path, text.size(),
                                      hint.empty() ? ": " + place + PlaceAndReason(error.what()) : hint));
  }
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
  auto parsed = ParseJson(text, path);
  if (!parsed) {
    auto again = ParseJson(WithNamedNumbers(text), path);
    if (!again) return parsed;  // whose place is that in the file
    parsed = std::move(again);
  }
  Json json = *std::move(parsed);
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
