#include "api/structural_tag.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "text/gbnf.h"

namespace tiercel::api {

namespace {

using text::GrammarKind;
using text::GrammarSource;

constexpr std::string_view kFormats =
    "const_string, json_schema, regex, grammar, any_text, sequence, or, tag, triggered_tags, "
    "tags_with_separator";

// A grammar's source may have 128 KiB; what grows beyond that is not written to its end.
constexpr size_t kMaxRulesBytes = size_t{256} << 10;

ApiError Fault(std::string_view what) {
  return BadRequest(fmt::format("structural_tag: {}", what), "structural_tag");
}

// A list that is not empty.
Result<const Json::Array*> List(const Json& object, std::string_view key) {
  const Json* list = object.Find(key);
  if (list == nullptr || list->array() == nullptr || list->array()->empty()) {
    return Fail(Fault(fmt::format("`{}` must be a list that is not empty.", key)));
  }
  return list->array();
}

// A regular expression between slashes.
std::string Slashed(std::string_view pattern) {
  std::string out = "/";
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      out.append(pattern, i++, 2);
    } else if (pattern[i] == '/') {
      out += "\\/";
    } else if (pattern[i] == '\n') {
      out += "\\n";
    } else {
      out.push_back(pattern[i]);
    }
  }
  return out + "/";
}

// How often the tags come, as a suffix.
std::string_view Times(const Json& format) {
  const bool at_least_one = IsTrue(format, "at_least_one");
  return IsTrue(format, "stop_after_first") ? (at_least_one ? "" : "?") : (at_least_one ? "+" : "*");
}

// Free text has no end of its own: it needs to be told what stands behind it.
bool IsOpen(const Json& format) {
  const std::string type = Text(format, "type");
  if (type == "any_text" || type == "triggered_tags") return true;
  const Json* elements = format.Find("elements");
  if (elements == nullptr || elements->array() == nullptr || elements->array()->empty()) return false;
  if (type == "sequence") return IsOpen(elements->array()->back());
  if (type != "or") return false;
  for (const Json& element : *elements->array()) {
    if (IsOpen(element)) return true;
  }
  return false;
}

// What a format begins with, if that is a literal; else empty.
std::string Beginning(const Json& format) {
  const std::string type = Text(format, "type");
  return type == "const_string" ? Text(format, "value") : type == "tag" ? Text(format, "begin") : "";
}

// What stands behind a format.
struct Behind {
  std::string literal;      // that the format's rule takes with it; empty: none
  bool is_the_end = false;  // nothing comes any more
};

class Compiler {
 public:
  explicit Compiler(const JsonStyle& style) : style_(style) {}

  Result<GrammarSource> Compile(const Json& format) {
    API_ASSIGN_OR_RETURN(const std::string start, Rule(format, {"", true}));
    return GrammarSource{GrammarKind::kLark,
                         fmt::format("%llguidance {{}}\nstart: {}\n{}", start, rules_)};
  }

 private:
  // Adds a rule for `format` with what is behind it; gives its name.
  Result<std::string> Rule(const Json& format, const Behind& behind) {
    const std::string type = Text(format, "type");
    if (rules_.size() > kMaxRulesBytes) return Fail(Fault("it is too large."));
    if (const Json* excludes = format.Find("excludes");
        excludes != nullptr && (excludes->array() == nullptr || !excludes->array()->empty())) {
      return Fail(Fault("`excludes` is not supported."));
    }
    if (type == "any_text") return AnyText(behind);
    if (type == "triggered_tags") return TriggeredTags(format, behind);
    if (type == "sequence") return Sequence(format, behind);
    if (type == "or") return Or(format, behind);
    API_ASSIGN_OR_RETURN(std::string closed, Closed(format, type));
    return Add(closed + LiteralBehind(behind));
  }

  // Formats that have an end of their own.
  Result<std::string> Closed(const Json& format, const std::string& type) {
    if (type == "const_string") {
      API_ASSIGN_OR_RETURN(const std::string value, Given(format, "value"));
      return LarkLiteral(value);
    }
    if (type == "json_schema") {
      const Json* schema = format.Find("json_schema");
      if (schema == nullptr) return Fail(Fault("a json_schema needs `json_schema`."));
      const std::string written = Text(format, "style");
      if (!written.empty() && written != "json") {
        return Fail(Fault("`style` json of a json_schema is offered, no other."));
      }
      return "%json " + SchemaText(*schema, style_);
    }
    if (type == "regex") {
      API_ASSIGN_OR_RETURN(const std::string pattern, Given(format, "pattern"));
      return Slashed(pattern);
    }
    if (type == "grammar") return Nested(format);
    if (type == "tag") return Tag(format, 0);
    if (type == "tags_with_separator") return TagsWithSeparator(format);
    return Fail(Fault(fmt::format("a format of type '{}' is not supported; offered: {}.",
                                  type.substr(0, 64), kFormats)));
  }

  Result<std::string> Given(const Json& format, std::string_view key) {
    std::string text = Text(format, key);
    if (text.empty()) {
      return Fail(Fault(fmt::format("`{}` must be a string that is not empty.", key)));
    }
    return text;
  }

  Result<std::string> Nested(const Json& format) {
    API_ASSIGN_OR_RETURN(std::string grammar, Given(format, "grammar"));
    if (text::IsGbnf(grammar)) {
      Expected<std::string> lark = text::GbnfToLark(grammar);
      if (!lark) return Fail(Fault(fmt::format("the grammar is not valid: {}.", lark.error().message())));
      grammar = std::move(*lark);
    }
    return "%lark {\n" + grammar + "\n}";
  }

  Result<std::string> AnyText(const Behind& behind) {
    if (!behind.literal.empty()) return AddLazy(LarkUpTo(behind.literal));
    if (behind.is_the_end) return Add("/(?s:.*)/");
    return Fail(Fault("free text must come last, or before what begins with a literal."));
  }

  Result<std::string> Sequence(const Json& format, const Behind& behind) {
    API_ASSIGN_OR_RETURN(const Json::Array* elements, List(format, "elements"));
    std::string rule;
    bool begun = false;  // the element's literal has been taken by what is before it
    for (size_t i = 0; i < elements->size(); ++i) {
      const Json& element = (*elements)[i];
      const bool is_last = i + 1 == elements->size();
      Behind next = is_last ? behind : Behind{};
      const bool takes_next = !is_last && IsOpen(element);
      if (takes_next) next.literal = Beginning((*elements)[i + 1]);
      if (!begun) {
        API_ASSIGN_OR_RETURN(const std::string name, Rule(element, next));
        rule += " " + name;
      } else {
        if (Text(element, "type") == "tag") {
          API_ASSIGN_OR_RETURN(const std::string body, Tag(element, Text(element, "begin").size()));
          rule += " " + body;
        }
        rule += LiteralBehind(next);
      }
      begun = takes_next;
    }
    return Add(rule);
  }

  Result<std::string> Or(const Json& format, const Behind& behind) {
    API_ASSIGN_OR_RETURN(const Json::Array* elements, List(format, "elements"));
    std::string rule;
    for (const Json& element : *elements) {
      API_ASSIGN_OR_RETURN(const std::string name, Rule(element, behind));
      rule += (rule.empty() ? "" : " | ") + name;
    }
    return Add(rule);
  }

  // A tag without the first bytes of its beginning.
  Result<std::string> Tag(const Json& tag, size_t begun) {
    const Json* content = tag.Find("content");
    const Json* end = tag.Find("end");
    if (content == nullptr || content->object() == nullptr || end == nullptr) {
      return Fail(Fault("each tag needs `begin`, `content` and `end`."));
    }
    Json::Array one;
    if (end->array() == nullptr) one.push_back(*end);
    const Json::Array& ends = end->array() != nullptr ? *end->array() : one;
    std::string bodies;
    for (const Json& text : ends) {
      if (text.string() == nullptr) return Fail(Fault("`end` must be a string, or a list of strings."));
      API_ASSIGN_OR_RETURN(const std::string body, Rule(*content, {*text.string(), false}));
      bodies += (bodies.empty() ? "" : " | ") + body;
    }
    if (bodies.empty()) return Fail(Fault("`end` must not be empty."));
    const std::string rest = Text(tag, "begin").substr(begun);
    return Add((rest.empty() ? "" : LarkLiteral(rest) + " ") + "(" + bodies + ")");
  }

  Result<std::string> TagsWithSeparator(const Json& format) {
    API_ASSIGN_OR_RETURN(const Json::Array* tags, List(format, "tags"));
    std::string choices;
    for (const Json& tag : *tags) {
      API_ASSIGN_OR_RETURN(const std::string name, Tag(tag, 0));
      choices += (choices.empty() ? "" : " | ") + name;
    }
    const std::string any = Add(choices);
    const std::string separator = Text(format, "separator");
    const std::string more = separator.empty() ? any : LarkLiteral(separator) + " " + any;
    const std::string several =
        IsTrue(format, "stop_after_first") ? any : fmt::format("{} ({})*", any, more);
    return IsTrue(format, "at_least_one") ? several : fmt::format("({})?", several);
  }

  // Any text; behind a trigger comes one of the tags that begin with it.
  Result<std::string> TriggeredTags(const Json& format, const Behind& behind) {
    API_ASSIGN_OR_RETURN(const Json::Array* triggers, List(format, "triggers"));
    API_ASSIGN_OR_RETURN(const Json::Array* tags, List(format, "tags"));
    std::string segments;
    std::vector<bool> used(tags->size());
    for (const Json& word : *triggers) {
      if (word.string() == nullptr || word.string()->empty()) {
        return Fail(Fault("a trigger must be a string that is not empty."));
      }
      const std::string& trigger = *word.string();
      std::string choices;
      for (size_t i = 0; i < tags->size(); ++i) {
        if (used[i] || !Text((*tags)[i], "begin").starts_with(trigger)) continue;
        used[i] = true;
        API_ASSIGN_OR_RETURN(const std::string tag, Tag((*tags)[i], trigger.size()));
        choices += (choices.empty() ? "" : " | ") + tag;
      }
      if (choices.empty()) continue;
      segments += fmt::format("{}({} ({}))", segments.empty() ? "" : " | ", AddLazy(LarkUpTo(trigger)),
                              choices);
    }
    for (size_t i = 0; i < tags->size(); ++i) {
      if (used[i]) continue;
      return Fail(Fault(fmt::format("the tag that begins with {} begins with none of the triggers.",
                                    LarkLiteral(Text((*tags)[i], "begin")).substr(0, 100))));
    }
    API_ASSIGN_OR_RETURN(const std::string rest, AnyText(behind));
    return Add(fmt::format("({}){} {}", segments, Times(format), rest));
  }

  static std::string LiteralBehind(const Behind& behind) {
    return behind.literal.empty() ? "" : " " + LarkLiteral(behind.literal);
  }

  std::string Add(std::string_view rule) { return AddRule("", rule); }
  std::string AddLazy(std::string_view rule) { return AddRule("[lazy]", rule); }
  std::string AddRule(std::string_view attributes, std::string_view rule) {
    std::string name = fmt::format("r{}", num_rules_++);
    rules_ += fmt::format("{}{}: {}\n", name, attributes, rule);
    return name;
  }

  const JsonStyle& style_;
  std::string rules_;
  int num_rules_ = 0;
};

Json TagOf(Json begin, Json schema, Json end) {
  Json content = Json::Of({{"type", Json("json_schema")}, {"json_schema", std::move(schema)}});
  return Json::Of({{"begin", std::move(begin)}, {"content", std::move(content)}, {"end", std::move(end)}});
}

}  // namespace

Result<GrammarSource> StructuralTagGrammar(const Json& given, const JsonStyle& style) {
  if (const Json* format = given.Find("format")) return Compiler(style).Compile(*format);
  API_ASSIGN_OR_RETURN(const Json::Array* structures, List(given, "structures"));
  Json::Array tags;
  for (const Json& structure : *structures) {
    const Json* schema = structure.Find("schema");
    if (Text(structure, "begin").empty() || Text(structure, "end").empty() || schema == nullptr) {
      return Fail(Fault("each structure needs `begin`, `end` and `schema`."));
    }
    tags.push_back(TagOf(*structure.Find("begin"), *schema, *structure.Find("end")));
  }
  Json format = Json::Of({{"type", Json("triggered_tags")}, {"tags", Json(std::move(tags))}});
  if (const Json* triggers = given.Find("triggers")) format.Set("triggers", *triggers);
  return Compiler(style).Compile(format);
}

Result<GrammarSource> TriggeredJson(const std::string& trigger, const std::vector<JsonTag>& tags,
                                    const JsonStyle& style) {
  Json::Array list;
  for (const JsonTag& tag : tags) list.push_back(TagOf(Json(tag.begin), tag.schema, Json(tag.end)));
  const Json format = Json::Of({{"type", Json("triggered_tags")},
                                {"triggers", Json(Json::Array{Json(trigger)})},
                                {"tags", Json(std::move(list))}});
  return Compiler(style).Compile(format);
}

}  // namespace tiercel::api
