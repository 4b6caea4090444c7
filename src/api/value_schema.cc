#include "api/value_schema.h"

#include <utility>

#include "api/json_writer.h"

namespace tiercel::api {
namespace {

std::string ObjectMembers(const std::vector<FieldSchema>& fields) {
  std::string properties, required;
  for (const FieldSchema& field : fields) {
    const std::string& members = field.value.members();
    const char* const comma = properties.empty() ? "" : ",";
    properties += fmt::format(R"({}"{}":{{"description":)", comma, field.name);
    AppendJsonString(&properties, field.meaning);
    if (const std::string& value = field.value.default_json(); !value.empty()) {
      properties += fmt::format(R"(,"default":{})", value);
    }
    if (!members.empty()) {
      properties += field.required ? fmt::format(",{}", members)
                                   : fmt::format(R"(,"anyOf":[{{{}}},{{"type":"null"}}])", members);
    }
    properties += '}';
    if (field.required)
      required += fmt::format(R"({}"{}")", required.empty() ? "" : ",", field.name);
  }
  return fmt::format(R"("type":"object","properties":{{{}}},"required":[{}])", properties,
                     required);
}

}  // namespace

ValueSchema::ValueSchema(std::string members, std::string words)
    : members_(std::move(members)), words_(std::move(words)) {}
ValueSchema::ValueSchema(const ValueSchema& other) = default;
ValueSchema::ValueSchema(ValueSchema&& other) noexcept = default;
ValueSchema& ValueSchema::operator=(const ValueSchema& other) = default;
ValueSchema& ValueSchema::operator=(ValueSchema&& other) noexcept = default;
ValueSchema::~ValueSchema() = default;

ValueSchema ValueSchema::With(std::string_view members, std::string_view words) const {
  ValueSchema more = *this;
  more.members_ += members;
  more.words_ += words;
  return more;
}

ValueSchema ValueSchema::Any() { return {"", "anything"}; }
ValueSchema ValueSchema::Boolean() { return {R"("type":"boolean")", "true or false"}; }
ValueSchema ValueSchema::Integer() { return {R"("type":"integer")", "integer"}; }
ValueSchema ValueSchema::Number() { return {R"("type":"number")", "number"}; }

ValueSchema ValueSchema::Nothing() {
  ValueSchema schema{R"("type":"null")", "not offered"};
  schema.offered_ = false;
  return schema;
}

ValueSchema ValueSchema::String() {
  ValueSchema schema{R"("type":"string")", "string"};
  schema.length_ = "Length";
  return schema;
}

ValueSchema ValueSchema::OneOf(std::initializer_list<std::string_view> words) {
  std::string members, text;
  for (const std::string_view word : words) {
    members += fmt::format(R"({}"{}")", members.empty() ? "" : ",", word);
    text += fmt::format("{}\"{}\"", text.empty() ? "" : " or ", word);
  }
  return {fmt::format(R"("enum":[{}])", members), std::move(text)};
}

ValueSchema ValueSchema::List(ValueSchema items) {
  ValueSchema schema{fmt::format(R"("type":"array","items":{{{}}})", items.members_),
                     fmt::format("list of ({})", items.words_)};
  schema.length_ = "Items";
  schema.fields_ = std::move(items.fields_);
  return schema;
}

ValueSchema ValueSchema::Map(ValueSchema values) {
  ValueSchema schema{
      fmt::format(R"("type":"object","additionalProperties":{{{}}})", values.members_),
      fmt::format("object, of each name ({})", values.words_)};
  schema.length_ = "Properties";
  return schema;
}

ValueSchema ValueSchema::Object(std::vector<FieldSchema> fields) {
  ValueSchema schema{ObjectMembers(fields), "object"};
  schema.fields_ = std::move(fields);
  return schema;
}

ValueSchema ValueSchema::Either(const std::vector<ValueSchema>& choices) {
  std::string members, text;
  std::vector<FieldSchema> fields;
  for (const ValueSchema& choice : choices) {
    members += fmt::format("{}{{{}}}", members.empty() ? "" : ",", choice.members_);
    text += fmt::format("{}{}", text.empty() ? "" : "; or ", choice.words_);
    fields.insert(fields.end(), choice.fields_.begin(), choice.fields_.end());
  }
  ValueSchema schema{fmt::format(R"("anyOf":[{}])", members), std::move(text)};
  schema.fields_ = std::move(fields);
  return schema;
}

ValueSchema ValueSchema::NotEmpty() const {
  return With(fmt::format(R"(,"min{}":1)", length_), ", not empty");
}

ValueSchema ValueSchema::AtMostLong(size_t most) const {
  return With(fmt::format(R"(,"max{}":{})", length_, most), fmt::format(", at most {} long", most));
}

ValueSchema ValueSchema::Default(std::string json) const {
  ValueSchema schema = *this;
  schema.default_json_ = std::move(json);
  return schema;
}

std::string ObjectSchemaJson(const std::vector<FieldSchema>& fields) {
  return fmt::format("{{{}}}", ObjectMembers(fields));
}

}  // namespace tiercel::api
