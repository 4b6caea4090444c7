#include "api/lark.h"

#include <fmt/format.h>

#include "api/json_writer.h"

namespace tiercel::api {

namespace {

// White space between the parts of JSON, where any is allowed: enough for a deeply indented line. Without
// a bound a model can go on with it forever.
constexpr std::string_view kWhitespace = R"([ \t\n\r]{1,128})";

// As vLLM's disable_additional_properties: objects that say what they have have nothing else.
void CloseObjects(Json* schema) {
  if (Json::Array* items = schema->array()) {
    for (Json& item : *items) CloseObjects(&item);
  } else if (Json::Object* members = schema->object()) {
    for (Json::Member& member : *members) CloseObjects(&member.value);
    if (schema->Find("properties") != nullptr && schema->Find("additionalProperties") == nullptr &&
        schema->Find("patternProperties") == nullptr) {
      schema->Set("additionalProperties", Json(false));
    }
  }
}

}  // namespace

std::string Text(const Json& object, std::string_view key) {
  const std::string* text = object.FindString(key);
  return text != nullptr ? *text : std::string();
}

bool IsTrue(const Json& object, std::string_view key) {
  const Json* value = object.Find(key);
  return value != nullptr && value->boolean() != nullptr && *value->boolean();
}

std::string SchemaText(Json schema, const JsonStyle& style) {
  if (const bool* any = schema.boolean(); any != nullptr && *any) schema = Json(Json::Object{});
  if (schema.object() == nullptr) return schema.Dump();
  if (!style.additional_properties) CloseObjects(&schema);
  Json::Object how;
  how.push_back({"whitespace_flexible", Json(style.any_whitespace)});
  if (style.any_whitespace) {
    how.push_back({"whitespace_pattern",
                   Json(style.whitespace_pattern.empty() ? std::string(kWhitespace)
                                                         : style.whitespace_pattern)});
  }
  schema.Set("x-guidance", Json(std::move(how)));
  return schema.Dump();
}

std::string LarkLiteral(std::string_view text) {
  std::string out;
  AppendJsonString(&out, text);
  return out;
}

std::string LarkUpTo(std::string_view end) {
  std::string regex = "/(?s:.*)";
  for (const char c : end) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      regex += fmt::format("\\x{:02x}", byte);
    } else {
      regex.push_back(c);
    }
  }
  return regex + "/";
}

}  // namespace tiercel::api
