#include "options/json_value.h"

#include <nlohmann/json.hpp>

namespace tiercel::options {
namespace {

using Json = nlohmann::ordered_json;

// Text and nesting come from a command line or a file: both are bounded.
constexpr size_t kMaxJsonBytes = 1 << 20;
constexpr int kMaxJsonDepth = 64;

Expected<Json> Parse(const std::string& text) {
  if (text.size() > kMaxJsonBytes) {
    return Unexpected(InvalidArgument("{} bytes of JSON, at most {} are taken", text.size(),
                                      kMaxJsonBytes));
  }
  bool too_deep = false;
  const Json::parser_callback_t guard = [&](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > kMaxJsonDepth;
    return !too_deep;
  };
  try {
    Json value = Json::parse(text, guard);
    if (too_deep) return Unexpected(InvalidArgument("JSON nested deeper than {}", kMaxJsonDepth));
    return value;
  } catch (const Json::parse_error& error) {
    std::string message = error.what();  // "[json.exception.parse_error.101] parse error at line…"
    if (const size_t end = message.find("] "); end != std::string::npos) {
      message.erase(0, end + 2);
    }
    return Unexpected(InvalidArgument("{}", message));
  }
}

Json ValueOf(const std::string& text) {
  auto value = Parse(text);
  return value ? *value : Json(text);
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Expected<std::string> NormalizeJsonObject(const std::string& text) {
  ASSIGN_OR_RETURN(const Json value, Parse(text));
  if (!value.is_object()) {
    return Unexpected(InvalidArgument("found a JSON {}, expected an object", value.type_name()));
  }
  return Dump(value);
}

Expected<std::vector<std::string>> ParseJsonStringList(const std::string& text) {
  ASSIGN_OR_RETURN(const Json value, Parse(text));
  std::vector<std::string> list;
  if (!value.is_array()) {
    return Unexpected(InvalidArgument("found a JSON {}, expected a list of strings",
                                      value.type_name()));
  }
  for (const Json& item : value) {
    if (!item.is_string()) {
      return Unexpected(InvalidArgument("found a JSON {} in the list, expected strings",
                                        item.type_name()));
    }
    list.push_back(item.get<std::string>());
  }
  return list;
}

Expected<std::string> SetJsonPath(const std::string& json, std::string_view path,
                                  const std::string& value, bool append) {
  ASSIGN_OR_RETURN(Json root, Parse(json));
  Json* node = &root;
  int depth = 0;
  while (true) {
    const size_t dot = path.find('.');
    const std::string key(path.substr(0, dot));
    if (key.empty() || ++depth > kMaxJsonDepth) {
      return Unexpected(InvalidArgument("empty key in the dotted path"));
    }
    if (!node->is_object()) *node = Json::object();
    node = &(*node)[key];
    if (dot == std::string_view::npos) break;
    path.remove_prefix(dot + 1);
  }
  if (!append) {
    *node = ValueOf(value);
    return Dump(root);
  }
  if (!node->is_array()) *node = Json::array();
  for (size_t begin = 0; begin <= value.size();) {
    const size_t end = std::min(value.find(',', begin), value.size());
    node->push_back(ValueOf(value.substr(begin, end - begin)));
    begin = end + 1;
  }
  return Dump(root);
}

Expected<std::string> MergeJson(const std::string& base, const std::string& over) {
  ASSIGN_OR_RETURN(Json root, Parse(base));
  ASSIGN_OR_RETURN(const Json patch, Parse(over));
  root.update(patch, /*merge_objects=*/true);
  return Dump(root);
}

std::string JsonQuote(std::string_view text) { return Dump(Json(std::string(text))); }

bool IsUtf8(std::string_view text) {
  try {
    Json(std::string(text)).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

}  // namespace tiercel::options
