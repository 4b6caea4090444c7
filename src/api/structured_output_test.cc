// Bodies that ask for a structure, and which texts their samples may then be. Token b is byte b.
#include "api/structured_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "api/prepare.h"
#include "api/test_support.h"

namespace tiercel::api {
namespace {

#define CHAT R"({"messages":[{"role":"user","content":"hi"}],)"

class StructuredOutput : public testing::Test {
 protected:
  std::shared_ptr<const sampling::TokenConstraintSource> Constraint(const std::string& body) {
    auto prepared = PrepareChat(body, "", model_, options_);
    EXPECT_TRUE(prepared) << body << ": " << prepared.error().message;
    return prepared ? prepared->requests.at(0).params->constraint : nullptr;
  }

  std::string Error(const std::string& body) {
    const auto prepared = PrepareChat(body, "", model_, options_);
    if (prepared) return "none";
    EXPECT_EQ(prepared.error().http_status, 400) << body;
    return prepared.error().message;
  }

  static bool Allows(sampling::TokenConstraint& constraint, int32_t token) {
    const auto allowed = constraint.Allowed();
    EXPECT_TRUE(allowed) << allowed.error();
    return allowed && (allowed->empty() ||
                       ((*allowed)[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0);
  }

  // Whether `text` may be the whole answer.
  static bool Takes(const std::string& text, const sampling::TokenConstraintSource& source) {
    const auto constraint = source.Start();
    for (const int32_t token : Bytes(text)) {
      if (!Allows(*constraint, token)) return false;
      EXPECT_EQ(constraint->Append(token), OkStatus());
    }
    return Allows(*constraint, kImEnd);
  }

  void Check(const std::string& body, std::initializer_list<const char*> good,
             std::initializer_list<const char*> bad) {
    const auto source = Constraint(body);
    ASSERT_NE(source, nullptr) << body;
    for (const char* text : good) EXPECT_TRUE(Takes(text, *source)) << body << " refuses " << text;
    for (const char* text : bad) EXPECT_FALSE(Takes(text, *source)) << body << " takes " << text;
  }

  ModelInfo model_ = TestModel(4096);
  ApiOptions options_;
};

TEST_F(StructuredOutput, ResponseFormats) {
  EXPECT_EQ(Constraint(CHAT R"("response_format":{"type":"text"}})"), nullptr);
  Check(CHAT R"("response_format":{"type":"json_object"}})", {"{}", R"({"a": [1, {"b": null}]})"},
        {"[]", "1", "{} {}", "x{}"});
  const char* schema = R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]})";
  const std::string wrapped = std::string(R"({"name":"n","strict":true,"schema":)") + schema + "}";
  Check(CHAT R"("response_format":{"type":"json_schema","json_schema":)" + wrapped + "}}",
        {R"({"a":1})", R"({"a": -7, "b": "x"})"}, {"{}", R"({"a":"1"})", R"({"a":1.5})"});
  // The schema as text, and the schema that all of JSON obeys.
  Check(CHAT R"("structured_outputs":{"json":"{\"const\":[1,2]}"}})", {"[1,2]", "[1, 2]"}, {"[1]"});
  Check(CHAT R"("structured_outputs":{"json":true}})", {"[1,2]", "null", "\"x\""}, {"nul", "[1"});
}

TEST_F(StructuredOutput, Constraints) {
  Check(CHAT R"("structured_outputs":{"choice":["yes","no \"é\"\n"]}})", {"yes", "no \"é\"\n"}, {"", "no", "yesyes"});
  Check(CHAT R"("structured_outputs":{"regex":"\\d{3}-[ab]+"}})", {"123-ab"}, {"12-ab", "123-", "123-abc"});
  Check(CHAT R"("structured_outputs":{"grammar":"root ::= \"a\" root | \"b\""}})", {"b", "aab"}, {"", "aa", "ba"});
  Check(CHAT R"("structured_outputs":{"grammar":"start: \"a\" start | \"b\""}})", {"b", "aab"}, {"", "aa", "ba"});
  Check(CHAT R"("structured_outputs":{"json_object":true}})", {"{}"}, {"[]"});
}

TEST_F(StructuredOutput, WhiteSpaceAndFurtherProperties) {
  const std::string body = CHAT R"("structured_outputs":{"json":{"type":"object","properties":
      {"a":{"type":"object","properties":{"b":{"type":"null"}}}}}%s}})";
  const auto with = [&](const char* more) {
    std::string text = body;
    return text.replace(text.find("%s"), 2, more);
  };
  const std::string blanks(128, ' ');
  Check(with(""), {R"({"a": {"b": null, "c": 1}, "d": 1})", "{\n\t\"a\":{}}",
                   ("{" + blanks + "}").c_str()},
        {("{" + blanks + " }").c_str()});
  Check(with(R"(,"disable_any_whitespace":true)"), {R"({"a":{"b":null}})"}, {R"({"a": {}})", "{ }"});
  Check(with(R"(,"disable_additional_properties":true)"), {R"({"a": {"b": null}})"},
        {R"({"c":1})", R"({"a":{"c":1}})"});
  Check(with(R"(,"whitespace_pattern":"_{1,2}")"), {R"({"a":__{}})", R"({"a":{}})"}, {R"({"a": {}})"});
  options_.disable_any_whitespace = options_.disable_additional_properties = true;
  Check(with(""), {R"({"a":{"b":null}})"}, {R"({"a": {}})", R"({"c":1})"});
}

TEST_F(StructuredOutput, StructuralTags) {
  const char* tags = R"("structures":[{"begin":"<f=a>","schema":{"const":1},"end":"</f>"},
      {"begin":"<f=b>","schema":{"const":2},"end":"</f>"}],"triggers":["<f="])";
  Check(std::string(CHAT R"("response_format":{"type":"structural_tag",)") + tags + "}}",
        {"", "text", "text <f=a>1</f> more <f=b>2</f>", "a < b"},
        {"text <f=c>", "<f=a>2</f>", "<f=a>1", "<f="});
  const char* format = R"({"type":"triggered_tags","triggers":["<f="],"tags":[{"begin":"<f=a>",
      "content":{"type":"json_schema","json_schema":{"const":1}},"end":"</f>"}],"at_least_one":true})";
  Check(std::string(CHAT R"("structured_outputs":{"structural_tag":{"format":)") + format + "}}}",
        {"<f=a>1</f>", "x<f=a>1</f>y"}, {"", "x", "<f=a>2</f>"});
}

TEST_F(StructuredOutput, FormatsOfStructuralTags) {
  const auto format = [](const std::string& text) {
    return std::string(CHAT R"("structured_outputs":{"structural_tag":{"format":)") + text + "}}}";
  };
  const std::string one = R"({"type":"json_schema","json_schema":{"const":1}})";
  const std::string x = R"({"type":"const_string","value":"x\n\""})", any = R"({"type":"any_text"})";
  const auto tag = [](const std::string& begin, const std::string& content, const std::string& end) {
    return R"({"type":"tag","begin":")" + begin + R"(","content":)" + content + R"(,"end":)" + end + "}";
  };
  const auto list = [](const std::string& type, const std::string& elements) {
    return R"({"type":")" + type + R"(","elements":[)" + elements + "]}";
  };
  Check(format(x), {"x\n\""}, {"", "x", "x\n\"x"});
  Check(format(one), {"1"}, {"2", "11"});
  Check(format(any), {"", "text\n"}, {});
  Check(format(R"({"type":"regex","pattern":"[a/]+\\/\\d"})"), {"a//1", "//2"}, {"a1", "/1"});
  Check(format(R"({"type":"grammar","grammar":"root ::= \"a\" root | \"b\""})"), {"b", "aab"}, {"a"});
  Check(format(R"({"type":"grammar","grammar":"start: \"a\" start | \"b\""})"), {"b", "aab"}, {"a"});
  Check(format(list("sequence", x + "," + one)), {"x\n\"1"}, {"1", "x\n\""});
  Check(format(list("or", x + "," + one)), {"x\n\"", "1"}, {"", "x\n\"1"});
  // Free text ends with the first of what stands behind it.
  Check(format(tag("<a>", any, "\"</a>\"")), {"<a></a>", "<a>b<c></a>"}, {"<a>", "<a></a>b", "b"});
  Check(format(tag("<a>", any, R"(["</a>","!"])")), {"<a></a>", "<a>b!"}, {"<a>b!c", "<a>!</a>"});
  Check(format(list("sequence", any + "," + x + "," + one)), {"x\n\"1", "yx\n\"1"}, {"1", "yx\n\"x\n\"1"});
  Check(format(list("sequence", any + "," + tag("<a>", one, "\"</a>\"") + "," + x)),
        {"<a>1</a>x\n\"", "t<a>1</a>x\n\""}, {"t<a>1</a>", "t<a>2</a>x\n\""});
  // Thought, then calls; as templates of models have it.
  const std::string calls = R"({"type":"triggered_tags","triggers":["<f"],"tags":[)" +
                            tag("<f=1>", one, "\"</f>\"") + "," +
                            tag("<f=2>", R"({"type":"regex","pattern":"[ab]*"})", "\"</f>\"") + "]}";
  Check(format(list("sequence", tag("<think>", any, "\"</think>\"") + "," + calls)),
        {"<think>hm</think>", "<think></think>so<f=1>1</f>and<f=2>ab</f>!"},
        {"hm", "<think>hm</think><f=1>2</f>", "<think></think><f=3>"});
  // Tags within a tag end where it ends.
  Check(format(tag("<c>", calls, "\"</c>\"")), {"<c></c>", "<c>t<f=1>1</f>u</c>"}, {"<c><f=1></c>", "<c></c>t"});
  const std::string separated = R"({"type":"tags_with_separator","separator":", ","tags":[)" +
                                tag("[", one, "\"]\"") + "," + tag("(", x, "\")\"") + "]";
  Check(format(separated + "}"), {"", "[1]", "[1], (x\n\"), [1]"}, {"[1][1]", "[1], ", "[1],[1]"});
  Check(format(separated + R"(,"at_least_one":true})"), {"[1]", "[1], [1]"}, {""});
  Check(format(separated + R"(,"stop_after_first":true})"), {"", "[1]"}, {"[1], [1]"});
  Check(format(list("or", separated + "}," + any)), {"", "[1], [1]", "anything"}, {});

  using testing::HasSubstr;
  EXPECT_THAT(Error(format(R"({"type":"qwen_xml_parameter"})")), HasSubstr("type 'qwen_xml_parameter' is not supported"));
  EXPECT_THAT(Error(format(list("sequence", any + "," + one))), HasSubstr("free text must come last"));
  EXPECT_THAT(Error(format(list("sequence", ""))), HasSubstr("`elements` must be a list"));
  EXPECT_THAT(Error(format(R"({"type":"any_text","excludes":["a"]})")), HasSubstr("`excludes` is not supported"));
  EXPECT_THAT(Error(format(tag("a", one, "1"))), HasSubstr("`end` must be a string"));
  EXPECT_THAT(Error(format(R"({"type":"const_string"})")), HasSubstr("`value` must be a string"));
  EXPECT_THAT(Error(format(R"({"type":"triggered_tags","triggers":["x"],"tags":[)" +
                           tag("<f>", one, "\"!\"") + "]}")), HasSubstr("begins with none of the triggers"));
  // Ends multiply what free text is written for, but not without bound.
  std::string nested = any;
  for (int i = 0; i < 18; ++i) nested = list("sequence", x + "," + tag("a", nested, R"(["b","c","d"])") + "," + any);
  EXPECT_THAT(Error(format(nested)), HasSubstr("too large"));
}

constexpr const char* kTools = R"("tools":[{"type":"function","function":{"name":"f","parameters":
    {"type":"object","properties":{"x":{"enum":[1,2]}},"required":["x"],"additionalProperties":false}}},
    {"type":"function","function":{"name":"g","strict":%s}}])";

std::string WithTools(const char* more, const char* strict = "false") {
  std::string body = CHAT + std::string(kTools) + "," + more + "}";
  return body.replace(body.find("%s"), 2, strict);
}

TEST_F(StructuredOutput, ToolsThatMustBeCalled) {
  const char* f = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 2}}\n</tool_call>";
  const char* g = "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
  const std::string both = std::string(f) + "\n" + g;
  Check(WithTools(R"("tool_choice":"required")"), {f, g, both.c_str()},
        {"", "text", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 3}}\n</tool_call>",
         "<tool_call>\n{\"name\": \"h\", \"arguments\": {}}\n</tool_call>"});
  Check(WithTools(R"("tool_choice":"required","parallel_tool_calls":false)"), {f, g}, {both.c_str()});
  Check(WithTools(R"("tool_choice":{"type":"function","function":{"name":"f"}})"), {f}, {g, both.c_str(), ""});
  options_.auto_tool_choice = true;
  EXPECT_EQ(Constraint(WithTools(R"("tool_choice":"auto")")), nullptr);
  Check(WithTools(R"("tool_choice":"auto")", "true"), {"", "text", g, ("text " + both).c_str()},
        {"<tool_call>\n{\"name\": \"h\"", "<tool_call>\n"});
}

// The grammar holds behind the thought; a budget ends the thought.
TEST_F(StructuredOutput, ThoughtComesFirst) {
  options_.reasoning = ReasoningFormat::kQwen3;
  const std::string schema = R"("structured_outputs":{"json":{"const":1}})";
  Check(CHAT + schema + "}", {"I think</think>1", "</think>1", "x</think 1></think>1", "1"},
        {"I think</think>2", "</think>"});
  Check(CHAT R"("chat_template_kwargs":{"enable_thinking":false},)" + schema + "}", {"1"}, {"x</think>1"});
  // Twelve tokens, here bytes, then </think>, whatever has been written of it.
  Check(CHAT R"("thinking_token_budget":12,)" + schema + "}",
        {"abcdefghijkl</think>1", "a</think>1", "abcdefghij</</think>1"},
        {"abcdefghijklm</think>1", "abcdefghijkl</think>2", "abcdefghij</think>1"});
  Check(CHAT R"("thinking_token_budget":0})", {"</think>anything", "</think>"}, {"", "a"});
  options_.enable_in_reasoning = true;
  Check(CHAT + schema + "}", {"1"}, {"x</think>1"});
  options_.reasoning = ReasoningFormat::kNone;
  EXPECT_EQ(Error(CHAT R"("thinking_token_budget":3})"),
            "thinking_token_budget requires --reasoning-parser to be set");
}

TEST_F(StructuredOutput, Errors) {
  EXPECT_NE(Error(CHAT R"("response_format":{"type":"yaml"}})").find("literal_error"), std::string::npos);
  EXPECT_EQ(Error(CHAT R"("response_format":{"type":"json_schema"}})"),
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.");
  EXPECT_EQ(Error(CHAT R"("structured_outputs":{"regex":"a","choice":["b"]}})"),
            "You can only use one kind of structured outputs constraint but multiple are specified.");
  EXPECT_EQ(Error(CHAT R"("structured_outputs":{}})"),
            "You must use one kind of structured outputs constraint but none are specified.");
  EXPECT_EQ(Error(CHAT R"("structured_outputs":{"regex":"a"},"response_format":{"type":"json_object"}})"),
            "You can only use one kind of structured outputs constraint but multiple are specified.");
  EXPECT_EQ(Error(WithTools(R"("tool_choice":"required","response_format":{"type":"json_object"})")),
            "You can only either use constraints for structured outputs or tools, not both.");
  // The keyword that is not supported is named, and the place of a fault in a grammar.
  EXPECT_NE(Error(CHAT R"("structured_outputs":{"json":{"not":{}}}})").find("not"), std::string::npos);
  EXPECT_NE(Error(CHAT R"("structured_outputs":{"json":{"type":"array","uniqueItems":true}}})").find("uniqueItems"),
            std::string::npos);
  EXPECT_EQ(Error(CHAT R"("structured_outputs":{"grammar":"root ::= a"}})"),
            "The grammar is not valid: rule `a` is used and not defined.");
  for (const char* broken :
       {R"({"regex":"("})", R"({"regex":""})", R"({"regex":5})", R"({"choice":[]})", R"({"choice":[""]})",
        R"({"choice":"a"})", R"({"json":"{"})", R"({"json":5})", R"({"grammar":"start: x"})",
        R"({"structural_tag":{"structures":[],"triggers":["a"]}})",
        R"({"structural_tag":{"structures":[{"begin":"b","schema":{},"end":"c"}],"triggers":["a"]}})",
        R"({"structural_tag":{"format":{"type":"sequence"}}})", R"({"structural_tag":"x"})"}) {
    EXPECT_NE(Error(CHAT R"("structured_outputs":)" + std::string(broken) + "}"), "none") << broken;
  }
}

}  // namespace
}  // namespace tiercel::api
