#include "text/tool_parser.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace tiercel::text {
namespace {

struct Call {
  std::string name, arguments;
  bool operator==(const Call&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Call& call) {
  return out << call.name << '(' << call.arguments << ')';
}

struct Case {
  std::string text;
  std::string content;
  std::vector<Call> calls;
  size_t max_calls = 10;
};

std::string Tagged(const std::string& call) { return "<tool_call>\n" + call + "\n</tool_call>"; }

// Expected values: vLLM's rules of its hermes parser; the arguments are those of the text.
const Case kCases[] = {
    {"no call", "no call", {}},
    {" \n", " \n", {}},
    {"a <tool b", "a <tool b", {}},
    {"a <tool_call", "a <tool_call", {}},
    {Tagged(R"({"name": "now", "arguments": {}})"), "", {{"now", "{}"}}},
    {"Let me see.\n" + Tagged(R"({"name": "f", "arguments": {"a": [1, "}\"]"], "b": {"c": null}}})"),
     "Let me see.\n",
     {{"f", R"({"a": [1, "}\"]"], "b": {"c": null}})"}}},
    {"\n\n" + Tagged(R"({"name": "天气", "arguments": {"城市": "北京"}})") + "\n" +
         Tagged(R"({"name":"g","arguments":{"x":1e400}})") + " that was it",
     "",
     {{"天气", R"({"城市": "北京"})"}, {"g", R"({"x":1e400})"}}},
    {R"(<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>)", "", {{"f", R"({"a": 1})"}}},
    {R"(<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>)", "", {{"f", R"({"a": 1})"}}},
    {R"(<tool_call>{"name": "f"}</tool_call>)", "", {{"f", "{}"}}},
    {R"(<tool_call>{"id": 7, "name": "f", "x": [{}], "arguments": {}}</tool_call>)", "", {{"f", "{}"}}},
    // Not closed at the end, or cut within the arguments.
    {R"(<tool_call>{"name": "f", "arguments": {"a": 1}})", "", {{"f", R"({"a": 1})"}}},
    {R"(<tool_call>{"name": "f", "arguments": {"a": "b)", "", {{"f", R"({"a": "b)"}}},
    // A bracket too few, a bracket too many.
    {Tagged(R"({"name": "f", "arguments": {"a": 1})") + Tagged(R"({"name": "g", "arguments": {}})"), "",
     {{"f", R"({"a": 1})"}, {"g", "{}"}}},
    {Tagged(R"({"name": "f", "arguments": {"a": {"b": 1})"), "", {{"f", "{\"a\": {\"b\": 1}\n"}}},
    {Tagged(R"({"name": "f", "arguments": {"a": 1}}})") + Tagged(R"({"name": "g", "arguments": {}})"), "",
     {{"f", R"({"a": 1})"}, {"g", "{}"}}},
    // No call after all: content, with what follows.
    {"<tool_call>\nnot json\n</tool_call> x", "<tool_call>\nnot json\n</tool_call> x", {}},
    {"a<tool_call>[1]</tool_call>", "a<tool_call>[1]</tool_call>", {}},
    {R"(<tool_call>{"name": 5, "arguments": {}}</tool_call>)",
     R"(<tool_call>{"name": 5, "arguments": {}}</tool_call>)", {}},
    {R"(<tool_call>{"arguments": {"a": 1}}</tool_call>)",
     R"(<tool_call>{"arguments": {"a": 1}}</tool_call>)", {}},
    {R"(<tool_call>{"name": "f" x)", R"(<tool_call>{"name": "f" x)", {}},
    {R"(<tool_call>{"na)", R"(<tool_call>{"na)", {}},
    {"<tool_call>", "<tool_call>", {}},
    {Tagged(R"({"name": "f", "arguments": {}})") + "<tool_call>no</tool_call>" +
         Tagged(R"({"name": "g", "arguments": {}})") + "<tool_call>{\"na",
     "", {{"f", "{}"}, {"g", "{}"}}},
    // Tags within strings.
    {Tagged(R"({"name": "f", "arguments": {"a": "</tool_call><tool_call>"}})"), "",
     {{"f", R"({"a": "</tool_call><tool_call>"})"}}},
    // The first call alone.
    {"x" + Tagged(R"({"name": "f", "arguments": {}})") + Tagged(R"({"name": "g", "arguments": {}})"), "x",
     {{"f", "{}"}}, 1},
};

TEST(ToolParser, FindsCallsWhereverTheTextIsCut) {
  std::mt19937 random(2);
  for (const Case& c : kCases) {
    for (int round = 0; round < 200; ++round) {
      ToolParser parser(c.max_calls);
      std::string content;
      std::vector<Call> calls;
      const auto add = [&](const ToolParser::Piece& piece) {
        content += piece.content;
        for (const ToolCallPiece& call : piece.calls) {
          ASSERT_LE(call.index, calls.size());
          if (call.index == calls.size()) {
            ASSERT_FALSE(call.name.empty());
            calls.emplace_back();
          } else {
            ASSERT_EQ(call.index + 1, calls.size());
            ASSERT_TRUE(call.name.empty());
          }
          calls.back().name += call.name;
          calls.back().arguments += call.arguments;
        }
      };
      for (size_t at = 0; at < c.text.size();) {
        const size_t size = round == 0 ? 1 : round == 1 ? c.text.size() : 1 + random() % 9;
        add(parser.Read(std::string_view(c.text).substr(at, size)));
        at += size;
      }
      add(parser.Finish());
      ASSERT_EQ(content, c.content) << c.text;
      ASSERT_EQ(calls, c.calls) << c.text;
      ASSERT_EQ(parser.num_calls(), c.calls.size());
    }
  }
}

TEST(ToolParser, ArgumentsComeWhileTheyAreWritten) {
  ToolParser parser(10);
  EXPECT_TRUE(parser.Read(R"(<tool_call>{"name": "write", "arguments": )").calls.empty());
  const auto begin = parser.Read(R"({"text": "on)").calls;
  ASSERT_EQ(begin.size(), 1u);
  EXPECT_EQ(begin[0].name, "write");
  EXPECT_EQ(begin[0].arguments, R"({"text": "on)");
  const auto more = parser.Read("ce up").calls;
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(more[0].name, "");
  EXPECT_EQ(more[0].arguments, "ce up");
}

}  // namespace
}  // namespace tiercel::text
