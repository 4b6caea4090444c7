#include "api/tool_types.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "api/chat_messages.h"
#include "api/json_reader.h"
#include "api/json_writer.h"
#include "base/ascii_case.h"
#include "base/split.h"
#include "text/pythonic_call_parser.h"
#include "text/tags.h"

namespace tiercel::api {
namespace {

// What a parameter may be.
struct Types {
  bool string = false, number = false, boolean = false, other = false;
  bool any() const { return string || number || boolean || other; }
};

void AddType(std::string_view name, Types* types) {
  if (name == "string" || name == "str" || name == "text" || name == "enum") {
    types->string = true;
  } else if (name == "integer" || name == "int" || name == "number" || name == "float") {
    types->number = true;
  } else if (name == "boolean" || name == "bool") {
    types->boolean = true;
  } else if (name != "null") {  // the word itself is told apart from all texts
    types->other = true;
  }
}

void AddTypes(const Json& schema, int depth, Types* types) {
  constexpr int kMaxDepth = 8;
  if (depth > kMaxDepth) return;
  if (const Json* type = schema.Find("type")) {
    if (type->string() != nullptr) AddType(*type->string(), types);
    if (type->array() != nullptr) {
      for (const Json& each : *type->array()) {
        if (each.string() != nullptr) AddType(*each.string(), types);
      }
    }
  }
  for (const char* name : {"anyOf", "oneOf", "allOf"}) {
    const Json* choices = schema.Find(name);
    if (choices == nullptr || choices->array() == nullptr) continue;
    for (const Json& choice : *choices->array()) AddTypes(choice, depth + 1, types);
  }
  if (schema.Find("properties") != nullptr || schema.Find("items") != nullptr) types->other = true;
}

class SchemaTypes final : public text::ToolTypes {
 public:
  explicit SchemaTypes(const Json& tools) {
    for (const Json& tool : *tools.array()) {
      const Json* const function = tool.Find("function");
      const Json* const parameters = function != nullptr ? function->Find("parameters") : nullptr;
      const Json* const properties = parameters != nullptr ? parameters->Find("properties") : nullptr;
      if (properties == nullptr || properties->object() == nullptr) continue;
      auto& of_function = types_[*FunctionName(tool)];
      for (const Json::Member& member : *properties->object()) {
        AddTypes(member.value, 0, &of_function[member.key]);
      }
    }
  }

  bool IsText(std::string_view function, std::string_view parameter) const override {
    const Types types = Find(function, parameter);
    return !types.any() || (types.string && !types.number && !types.boolean && !types.other);
  }

  std::string ToJson(std::string_view function, std::string_view parameter,
                     std::string_view text) const override {
    const Types types = Find(function, parameter);
    const std::string_view stripped = Trimmed(text, text::kBlanks);
    if (types.boolean && EqualsNoCase(stripped, "true")) return "true";
    if (types.boolean && EqualsNoCase(stripped, "false")) return "false";
    if (const auto json = ParseJson(stripped)) {
      const bool is_number = json->integer() != nullptr || json->real().has_value();
      const bool is_other = json->array() != nullptr || json->object() != nullptr;
      if ((is_number && (types.number || types.other)) || (is_other && types.other) ||
          (types.other && !types.string)) {
        return std::string(stripped);
      }
    }
    // Models write Python's lists and dictionaries, too.
    if (types.other) {
      const auto literal = text::PythonLiteralToJson(stripped);
      if (literal && (literal->front() == '[' || literal->front() == '{')) return *literal;
    }
    // What is not of its type is what it says.
    std::string out;
    AppendJsonString(&out, text);
    return out;
  }

 private:
  Types Find(std::string_view function, std::string_view parameter) const {
    const auto it = types_.find(function);
    if (it == types_.end()) return {};
    const auto type = it->second.find(parameter);
    return type == it->second.end() ? Types() : type->second;
  }

  std::map<std::string, std::map<std::string, Types, std::less<>>, std::less<>> types_;
};

}  // namespace

std::shared_ptr<const text::ToolTypes> MakeToolTypes(const Json& tools) {
  return std::make_shared<const SchemaTypes>(tools);
}

}  // namespace tiercel::api
