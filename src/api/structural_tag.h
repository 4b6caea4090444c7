// Structural tags: an answer of free text, tags and structured parts, as XGrammar describes them and vLLM
// takes them, turned into one grammar.
//
//   {format: F} with F one of
//     const_string {value}            json_schema {json_schema}       regex {pattern}
//     grammar {grammar}               any_text
//     sequence {elements}             or {elements}
//     tag {begin, content, end}       end: a string, or a list of them
//     triggered_tags {triggers, tags, at_least_one, stop_after_first}
//     tags_with_separator {tags, separator, at_least_one, stop_after_first}
//   or, older, {structures: [{begin, schema, end}], triggers: […]}
#pragma once

#include <string>
#include <vector>

#include "api/errors.h"
#include "api/json.h"
#include "api/lark.h"
#include "text/grammar.h"

namespace tiercel::api {

// 400 names what of `given` is wrong or not supported. Where a text could be read in two ways (free text
// before something that does not begin with a literal) it is refused.
Result<text::GrammarSource> StructuralTagGrammar(const Json& given, const JsonStyle& style);

// A tag whose content is JSON.
struct JsonTag {
  std::string begin, end;
  Json schema;
};
// Free text, in which each `trigger` must begin one of the tags.
Result<text::GrammarSource> TriggeredJson(const std::string& trigger, const std::vector<JsonTag>& tags,
                                          const JsonStyle& style);

}  // namespace tiercel::api
