#include "api/structured_output.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "api/bounds.h"
#include "api/chat_messages.h"
#include "api/json_reader.h"
#include "api/lark.h"
#include "api/structural_tag.h"
#include "text/gbnf.h"
#include "text/tags.h"

namespace tiercel::api {

namespace {

using text::GrammarKind;
using text::GrammarSource;

JsonStyle DefaultStyle(const ApiOptions& options) {
  return {.any_whitespace = !options.disable_any_whitespace,
          .additional_properties = !options.disable_additional_properties,
          .whitespace_pattern = {}};
}

GrammarSource SchemaGrammar(Json schema, const JsonStyle& style) {
  return {GrammarKind::kJsonSchema, SchemaText(std::move(schema), style)};
}

Json AnyObject() { return Json(Json::Object{{"type", Json("object")}}); }

Result<GrammarSource> ChoiceGrammar(const Json& choices) {
  if (choices.array() == nullptr || choices.array()->empty()) {
    return Fail(BadRequest("`structured_outputs.choice` must be a list of strings that is not empty.",
                           "structured_outputs"));
  }
  std::string lark = "start:";
  for (const Json& choice : *choices.array()) {
    if (choice.string() == nullptr || choice.string()->empty()) {
      return Fail(BadRequest("`structured_outputs.choice` must have strings that are not empty.",
                             "structured_outputs"));
    }
    lark += (lark.back() == ':' ? " " : " | ") + LarkLiteral(*choice.string());
  }
  return GrammarSource{GrammarKind::kLark, std::move(lark)};
}

Result<GrammarSource> WrittenGrammar(const std::string& grammar) {
  if (!text::IsGbnf(grammar)) return GrammarSource{GrammarKind::kLark, grammar};
  Expected<std::string> lark = text::GbnfToLark(grammar);
  if (!lark) {
    return Fail(BadRequest(fmt::format("The grammar is not valid: {}.", lark.error().message()),
                           "structured_outputs"));
  }
  return GrammarSource{GrammarKind::kLark, std::move(*lark)};
}

// A schema or a structural tag may come as JSON or as its text.
Result<Json> AsJson(Json value, std::string_view name) {
  const std::string* written = value.string();
  if (written == nullptr) return value;
  Expected<Json> parsed = ParseJson(*written);
  if (!parsed) {
    return Fail(BadRequest(fmt::format("`{}`: {}", name, parsed.error().message()), std::string(name)));
  }
  return std::move(*parsed);
}

Result<MaybeGrammar> ReadResponseFormat(Fields& fields, const JsonStyle& style) {
  Json* const format = fields.Object("response_format");
  if (format == nullptr) return std::nullopt;
  const std::string type = Text(*format, "type");
  if (type == "text") return std::nullopt;
  if (type == "json_object") return SchemaGrammar(AnyObject(), style);
  if (type == "json_schema") {
    Json* const wrapped = format->Find("json_schema");
    if (wrapped == nullptr || wrapped->is_null()) {
      return Fail(BadRequest(
          "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
          "response_format"));
    }
    Json* const schema = wrapped->Find("schema");
    if (wrapped->object() == nullptr || schema == nullptr || schema->is_null()) {
      return Fail(BadRequest("`response_format.json_schema` must be an object with a `schema`.",
                             "response_format"));
    }
    API_ASSIGN_OR_RETURN(Json parsed, AsJson(std::move(*schema), "response_format"));
    return SchemaGrammar(std::move(parsed), style);
  }
  if (type == "structural_tag") {
    API_ASSIGN_OR_RETURN(GrammarSource grammar, StructuralTagGrammar(*format, style));
    return grammar;
  }
  fields.Report("literal_error", "response_format.type",
                "Input should be \\'text\\', \\'json_object\\', \\'json_schema\\' or "
                "\\'structural_tag\\'",
                format->Find("type"));
  return std::nullopt;
}

// The one constraint of `structured_outputs`.
Result<MaybeGrammar> ReadStructured(Json* given, JsonStyle style) {
  constexpr std::string_view kKinds[] = {"json",    "regex",       "choice",
                                         "grammar", "json_object", "structural_tag"};
  std::vector<std::string_view> kinds;
  for (const std::string_view kind : kKinds) {
    const Json* value = given->Find(kind);
    if (value != nullptr && !value->is_null() && (kind != "json_object" || IsTrue(*given, kind))) {
      kinds.push_back(kind);
    }
  }
  if (kinds.size() != 1) {
    return Fail(BadRequest(
        fmt::format("You {} use one kind of structured outputs constraint but {} are specified.",
                    kinds.empty() ? "must" : "can only", kinds.empty() ? "none" : "multiple"),
        "structured_outputs"));
  }
  if (IsTrue(*given, "disable_any_whitespace")) style.any_whitespace = false;
  if (IsTrue(*given, "disable_additional_properties")) style.additional_properties = false;
  style.whitespace_pattern = Text(*given, "whitespace_pattern");
  const std::string_view kind = kinds[0];
  Json value = std::move(*given->Find(kind));
  if (kind == "json_object") return SchemaGrammar(AnyObject(), style);
  if (kind == "json") {
    API_ASSIGN_OR_RETURN(Json schema, AsJson(std::move(value), "structured_outputs"));
    return SchemaGrammar(std::move(schema), style);
  }
  if (kind == "structural_tag") {
    API_ASSIGN_OR_RETURN(const Json tag, AsJson(std::move(value), "structured_outputs"));
    API_ASSIGN_OR_RETURN(GrammarSource grammar, StructuralTagGrammar(tag, style));
    return grammar;
  }
  if (kind == "choice") {
    API_ASSIGN_OR_RETURN(GrammarSource grammar, ChoiceGrammar(value));
    return grammar;
  }
  if (value.string() == nullptr || value.string()->empty()) {
    return Fail(BadRequest(
        fmt::format("`structured_outputs.{}` must be a string that is not empty.", kind),
        "structured_outputs"));
  }
  if (kind == "regex") return GrammarSource{GrammarKind::kRegex, std::move(*value.string())};
  API_ASSIGN_OR_RETURN(GrammarSource grammar, WrittenGrammar(*value.string()));
  return grammar;
}

Json Parameters(const Json& tool) {
  const Json* function = tool.Find("function");
  const Json* parameters = function != nullptr ? function->Find("parameters") : nullptr;
  return parameters != nullptr && parameters->object() != nullptr && !parameters->object()->empty()
             ? *parameters
             : AnyObject();
}

std::string CallBegin(std::string_view name) {
  return fmt::format("{}\n{{\"name\": {}, \"arguments\": ", text::kCallBegin, LarkLiteral(name));
}
std::string CallEnd() { return fmt::format("}}\n{}", text::kCallEnd); }

}  // namespace

Result<MaybeGrammar> ReadStructuredOutput(Fields& fields, const ApiOptions& options) {
  const JsonStyle style = DefaultStyle(options);
  API_ASSIGN_OR_RETURN(MaybeGrammar of_format, ReadResponseFormat(fields, style));
  Json* const given = fields.Object("structured_outputs");
  if (given == nullptr) return of_format;
  API_ASSIGN_OR_RETURN(MaybeGrammar of_field, ReadStructured(given, style));
  if (of_format) {
    return Fail(BadRequest("You can only use one kind of structured outputs constraint but multiple are "
                           "specified.",
                           "structured_outputs"));
  }
  return of_field;
}

GrammarSource ToolCallGrammar(const Json& tools, std::string_view name, bool several,
                              const ApiOptions& options) {
  const JsonStyle style = DefaultStyle(options);
  std::string choices, rules;
  for (size_t i = 0; i < tools.array()->size(); ++i) {
    const Json& tool = (*tools.array())[i];
    const std::string& tool_name = *FunctionName(tool);
    if (!name.empty() && tool_name != name) continue;
    choices += fmt::format("{}call_{}", choices.empty() ? "" : " | ", i);
    rules += fmt::format("call_{}: {} %json {} {}\n", i, LarkLiteral(CallBegin(tool_name)),
                         SchemaText(Parameters(tool), style), LarkLiteral(CallEnd()));
  }
  return {GrammarKind::kLark,
          fmt::format("%llguidance {{}}\nstart: call{}\ncall: {}\n{}",
                      several ? R"( ("\n" call)*)" : "", choices, rules)};
}

MaybeGrammar StrictToolGrammar(const Json& tools, const ApiOptions& options) {
  std::vector<JsonTag> tags;
  bool any_strict = false;
  for (const Json& tool : *tools.array()) {
    const Json* function = tool.Find("function");
    const bool is_strict = function != nullptr && IsTrue(*function, "strict");
    any_strict |= is_strict;
    tags.push_back({CallBegin(*FunctionName(tool)), CallEnd(),
                    is_strict ? Parameters(tool) : AnyObject()});
  }
  if (!any_strict) return std::nullopt;
  Result<GrammarSource> grammar =
      TriggeredJson(std::string(text::kCallBegin), tags, DefaultStyle(options));
  return grammar ? MaybeGrammar(std::move(*grammar)) : std::nullopt;
}

}  // namespace tiercel::api
