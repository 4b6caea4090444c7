#include "api/fields.h"

#include <charconv>
#include <cmath>

#include "base/ascii_case.h"
#include "text/blanks.h"

namespace tiercel::api {

namespace {

constexpr size_t kMaxShownInput = 200;

// As pydantic outside of its strict mode, which vLLM's models are read with: a boolean is 0 or 1.
std::optional<double> LaxNumber(const Json& value) {
  if (const bool* v = value.boolean()) return *v ? 1 : 0;
  if (const int64_t* v = value.integer()) return static_cast<double>(*v);
  if (const auto v = value.real()) return std::isfinite(*v) ? v : std::nullopt;
  const std::string* given = value.string();
  if (given == nullptr) return std::nullopt;
  const std::string_view text = text::Stripped(*given);
  double parsed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(parsed)) {
    return std::nullopt;
  }
  return parsed;
}

std::optional<bool> LaxBool(const Json& value) {
  if (const bool* v = value.boolean()) return *v;
  if (const int64_t* v = value.integer(); v != nullptr && (*v == 0 || *v == 1)) return *v == 1;
  if (const auto v = value.real(); v && (*v == 0 || *v == 1)) return *v == 1;
  if (value.string() == nullptr) return std::nullopt;
  const std::string word = LowerCase(*value.string());
  for (const char* yes : {"true", "t", "yes", "y", "on", "1"}) {
    if (word == yes) return true;
  }
  for (const char* no : {"false", "f", "no", "n", "off", "0"}) {
    if (word == no) return false;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> LaxInt(const Json& value) {
  if (const int64_t* v = value.integer()) return *v;
  const std::optional<double> number = LaxNumber(value);
  // 2^63 is the first double beyond int64.
  if (!number || *number != std::floor(*number) || std::abs(*number) >= 0x1p63) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*number);
}

void SchemaErrors::Add(std::string_view kind, std::string_view path, std::string_view message,
                       const Json* input) {
  if (full()) return;
  if (items_.empty()) first_path_ = path;
  std::string loc = "'body'";
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    const bool is_index = part.find_first_not_of("0123456789") == std::string_view::npos;
    loc += is_index ? fmt::format(", {}", part) : fmt::format(", '{}'", part);
    begin = end + 1;
  }
  std::string item = fmt::format("{{'type': '{}', 'loc': ({}), 'msg': '{}'", kind, loc, message);
  if (input != nullptr) item += ", 'input': " + input->DumpStart(kMaxShownInput);
  items_.push_back(item + "}");
}

ApiError SchemaErrors::ToError() const {
  std::string message = fmt::format("{}{} validation error{}:", full() ? "At least " : "",
                                    items_.size(), items_.size() == 1 ? "" : "s");
  for (const std::string& item : items_) message += "\n  " + item;
  ApiError error{400, "Bad Request", std::move(message), std::nullopt};
  if (!first_path_.empty()) error.param = first_path_;
  return error;
}

Fields::Fields(Json& object, SchemaErrors* errors, std::string path)
    : object_(object), errors_(errors), path_(std::move(path)) {}

std::string Fields::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void Fields::Report(std::string_view kind, std::string_view name, std::string_view message,
                    const Json* input) {
  errors_->Add(kind, PathOf(name), message, input);
}

Json* Fields::Any(std::string_view name) {
  read_.emplace(name);
  Json* value = object_.Find(name);
  return value != nullptr && value->is_null() ? nullptr : value;
}

std::optional<bool> Fields::Bool(std::string_view name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<bool> parsed = LaxBool(*value);
  if (!parsed) Report("bool_type", name, "Input should be a valid boolean", value);
  return parsed;
}

std::optional<int64_t> Fields::Int(std::string_view name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> parsed = LaxInt(*value);
  if (!parsed) Report("int_type", name, "Input should be a valid integer", value);
  return parsed;
}

std::optional<double> Fields::Number(std::string_view name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<double> parsed = LaxNumber(*value);
  if (!parsed) Report("float_type", name, "Input should be a valid number", value);
  return parsed;
}

bool Fields::CheckLength(const std::string& text, std::string_view name, size_t max_bytes) {
  if (text.size() <= max_bytes) return true;
  Report("string_too_long", name,
         fmt::format("String should have at most {} bytes, not {}", max_bytes, text.size()));
  return false;
}

std::optional<std::string> Fields::String(std::string_view name, size_t max_bytes) {
  Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (std::string* v = value->string()) {
    if (!CheckLength(*v, name, max_bytes)) return std::nullopt;
    return std::move(*v);
  }
  Report("string_type", name, "Input should be a valid string", value);
  return std::nullopt;
}

std::optional<std::vector<int32_t>> Fields::Int32List(std::string_view name, size_t max_items) {
  const Json* value = Array(name, max_items);
  if (value == nullptr) return std::nullopt;
  std::vector<int32_t> items;
  items.reserve(value->array()->size());
  for (size_t i = 0; i < value->array()->size(); ++i) {
    const Json& item = (*value->array())[i];
    const std::optional<int64_t> parsed = LaxInt(item);
    if (!parsed || *parsed < INT32_MIN || *parsed > INT32_MAX) {
      Report("int_type", fmt::format("{}.{}", name, i), "Input should be a valid integer", &item);
      return std::nullopt;
    }
    items.push_back(static_cast<int32_t>(*parsed));
  }
  return items;
}

std::optional<std::vector<std::string>> Fields::StringList(std::string_view name, size_t max_items,
                                                           size_t max_bytes) {
  Json* value = Array(name, max_items);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> items;
  for (size_t i = 0; i < value->array()->size(); ++i) {
    Json& item = (*value->array())[i];
    const std::string place = fmt::format("{}.{}", name, i);
    if (item.string() == nullptr) {
      Report("string_type", place, "Input should be a valid string", &item);
      return std::nullopt;
    }
    if (!CheckLength(*item.string(), place, max_bytes)) return std::nullopt;
    items.push_back(std::move(*item.string()));
  }
  return items;
}

std::optional<Fields> Fields::Inner(std::string_view name) {
  Json* const object = Object(name);
  if (object == nullptr) return std::nullopt;
  return Fields(*object, errors_, PathOf(name));
}

Json* Fields::Object(std::string_view name, size_t max_members) {
  Json* value = Any(name);
  if (value == nullptr) return nullptr;
  if (value->object() == nullptr) {
    Report("dict_type", name, "Input should be a valid dictionary", value);
    return nullptr;
  }
  if (const size_t size = value->object()->size(); size > max_members) {
    Report("too_long", name,
           fmt::format("Dictionary should have at most {} items after validation, not {}",
                       max_members, size));
    return nullptr;
  }
  return value;
}

Json* Fields::Array(std::string_view name, size_t max_items) {
  Json* value = Any(name);
  if (value == nullptr) return nullptr;
  if (value->array() == nullptr) {
    Report("list_type", name, "Input should be a valid list", value);
    return nullptr;
  }
  if (const size_t size = value->array()->size(); size > max_items) {
    Report("too_long", name,
           fmt::format("List should have at most {} items after validation, not {}", max_items,
                       size));
    return nullptr;
  }
  return value;
}

std::vector<std::string_view> Fields::Unread(size_t most) const {
  std::vector<std::string_view> names;
  for (const Json::Member& member : *object_.object()) {
    if (names.size() >= most) break;
    if (!read_.contains(member.key)) names.push_back(member.key);
  }
  return names;
}

}  // namespace tiercel::api
