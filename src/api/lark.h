// Pieces of grammars in Lark, as the grammar library reads it.
#pragma once

#include <string>
#include <string_view>

#include "api/json.h"

namespace tiercel::api {

// Members of what asks for a structure. A string; empty if there is none.
std::string Text(const Json& object, std::string_view key);
bool IsTrue(const Json& object, std::string_view key);

// How a schema's JSON may be written.
struct JsonStyle {
  bool any_whitespace = true;
  bool additional_properties = true;
  std::string whitespace_pattern;  // empty: 1 to 128 of JSON's
};

// The schema as the grammar library reads it, with the style said in a member of its own.
std::string SchemaText(Json schema, const JsonStyle& style);

// `text` as a literal. An empty one matches nothing: it must not be used.
std::string LarkLiteral(std::string_view text);

// A regular expression: any text that ends with the first `end`, if its rule is lazy.
std::string LarkUpTo(std::string_view end);

}  // namespace tiercel::api
