#include "text/tool_parser.h"

#include <gtest/gtest.h>

#include <random>
#include <span>
#include <string>
#include <vector>

#include "text/pythonic_call_parser.h"

namespace tiercel::text {
namespace {

struct Call {
  std::string name, arguments;
  bool operator==(const Call&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Call& call) {
  return out << call.name << '(' << call.arguments << ')';
}

struct CallCase {
  std::string text;
  std::string content;
  std::vector<Call> calls;
  size_t max_calls = 10;
};

// Of the tests: "n…" are numbers, "l…" lists.
class TestTypes final : public ToolTypes {
 public:
  bool IsText(std::string_view, std::string_view parameter) const override {
    return !parameter.starts_with('n') && !parameter.starts_with('l');
  }
  std::string ToJson(std::string_view, std::string_view, std::string_view text) const override {
    return "<" + std::string(text) + ">";
  }
};

std::string Tagged(const std::string& call) { return "<tool_call>\n" + call + "\n</tool_call>"; }

// Expected values: vLLM's rules of its hermes parser; the arguments are those of the text.
const CallCase kHermesCases[] = {
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
    // Arguments twice: the first ones.
    {Tagged(R"({"name": "f", "parameters": {"a": 3}, "arguments": {"b": 4}})"), "", {{"f", R"({"a": 3})"}}},
    {Tagged(R"({"arguments": {"a": 3}, "arguments": {"b": 4}, "name": "f"})"), "", {{"f", R"({"a": 3})"}}},
    // The first call alone.
    {"x" + Tagged(R"({"name": "f", "arguments": {}})") + Tagged(R"({"name": "g", "arguments": {}})"), "x",
     {{"f", "{}"}}, 1},
};

void ExpectFound(std::span<const CallCase> cases, ToolFormat format) {
  std::mt19937 random(2);
  for (const CallCase& c : cases) {
    for (int round = 0; round < 200; ++round) {
      const auto owned = NewToolParser(format, c.max_calls, std::make_shared<TestTypes>());
      ToolParser& parser = *owned;
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

TEST(ToolParser, FindsCallsWhereverTheTextIsCut) { ExpectFound(kHermesCases, ToolFormat::kHermes); }

// As Qwen3-Coder's template shows them to the model.
const CallCase kQwen3CoderCases[] = {
    {"no call", "no call", {}},
    {"a < b <func", "a < b <func", {}},
    {"Sure.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nBerlin\n</parameter>\n<parameter=n>\n3\n"
     "</parameter>\n</function>\n</tool_call>",
     "Sure.\n", {{"get_weather", R"({"city": "Berlin", "n": <3>})"}}},
    {"<tool_call>\n<function=now>\n</function>\n</tool_call>", "", {{"now", "{}"}}},
    {"<tool_call>\n<function=f>\n<parameter=a>\n</parameter>\n</function>\n</tool_call>\n"
     "<tool_call>\n<function=g>\n<parameter=list>\n[1,\n2]\n</parameter>\n</function>\n</tool_call> bye",
     "", {{"f", R"({"a": ""})"}, {"g", "{\"list\": <[1,\n2]>}"}}},
    // Lines, quotes, tags of other languages, brackets: all of it is text.
    {"<tool_call><function=write><parameter=text>\n<b>\"x\"</b>\n\n\tif (a < b) {\\n}\n\n</parameter></function></tool_call>",
     "", {{"write", R"({"text": "<b>\"x\"</b>\n\n\tif (a < b) {\\n}\n"})"}}},
    {"<tool_call><function=f><parameter=a>null</parameter><parameter=b>nullable</parameter><parameter=c>\nNULL\n"
     "</parameter></function></tool_call>", "", {{"f", R"({"a": null, "b": "nullable", "c": null})"}}},
    // The outer tag, or an end, left out.
    {"<function=f><parameter=a>1</parameter></function>", "", {{"f", R"({"a": "1"})"}}},
    {"<tool_call><function=f><parameter=a>1<parameter=b>2</function></tool_call>", "",
     {{"f", R"({"a": "1", "b": "2"})"}}},
    {"<tool_call><function=f><parameter=a>1</tool_call>", "", {{"f", R"({"a": "1"})"}}},
    // Cut off.
    {"<tool_call>\n<function=f>\n<parameter=a>\nBer", "", {{"f", R"({"a": "Ber)"}}},
    {"<tool_call>\n<function=f>\n<parame", "", {{"f", ""}}},
    {"<tool_call>\n<funct", "<tool_call>\n<funct", {}},
    // No call.
    {"<tool_call>\nhello</tool_call>", "<tool_call>\nhello</tool_call>", {}},
    {"<function=>x", "<function=>x", {}},
    {"x<tool_call><function=f></function></tool_call><tool_call><function=g></function></tool_call>", "x",
     {{"f", "{}"}}, 1},
};

TEST(ToolParser, FindsCallsOfQwen3Coder) { ExpectFound(kQwen3CoderCases, ToolFormat::kQwen3Coder); }

// As the card of Llama 3.1 shows them.
const CallCase kLlama3Cases[] = {
    {"no call", "no call", {}},
    {" \n", " \n", {}},
    {"  x {\"name\": \"f\", \"parameters\": {}}", "  x {\"name\": \"f\", \"parameters\": {}}", {}},
    {R"({"name": "f", "parameters": {"a": 1}})", "", {{"f", R"({"a": 1})"}}},
    {"\n" R"({"name": "f", "arguments": {"a": [1, {"b": "}"}]}})", "", {{"f", R"({"a": [1, {"b": "}"}]})"}}},
    {R"({"type": "function", "name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}})", "",
     {{"f", R"({"a": 1})"}, {"g", "{}"}}},
    {R"(<|python_tag|>{"name": "f", "parameters": {}})", "", {{"f", "{}"}}},
    {R"(<|python_tag|> {"name": "f", "parameters": {}})", "", {{"f", "{}"}}},
    {"<|python_tag|>print(1)", "<|python_tag|>print(1)", {}},
    {"<|python", "<|python", {}},
    {R"({"a": 1})", R"({"a": 1})", {}},
    // Answers in JSON.
    {R"({"name": "Bob", "age": 5})", R"({"name": "Bob", "age": 5})", {}},
    {R"({"name": "Alice"} )", R"({"name": "Alice"} )", {}},
    {R"( {"a": 1} x)", R"( {"a": 1} x)", {}},
    {R"({"name": "f", "parameters": {"a": "b)", "", {{"f", R"({"a": "b)"}}},
    {R"({"name": "f", "parameters": {}}; {"name": "g", "parameters": {}})", "", {{"f", "{}"}}, 1},
};

TEST(ToolParser, FindsCallsOfLlama3) { ExpectFound(kLlama3Cases, ToolFormat::kLlama3Json); }

const CallCase kPythonicCases[] = {
    {"no call", "no call", {}},
    {"[1, 2]", "[1, 2]", {}},
    {" [a] ", " [a] ", {}},
    {"[get_weather(city='San Francisco', metric=\"celsius\")]", "",
     {{"get_weather", R"({"city": "San Francisco", "metric": "celsius"})"}}},
    {"[f(), g(a=1, b=-2.5, c=True, d=None, e=[1, 'x', (2,)], h={'k': {\"l\": False}})]", "",
     {{"f", "{}"},
      {"g", R"({"a": 1, "b": -2.5, "c": true, "d": null, "e": [1, "x", [2]], "h": {"k": {"l": false}}})"}}},
    {"\n[f(a='it\\'s', b=\"\\u00e9\\n\\x41\", c='北京]),(')]", "",
     {{"f", "{\"a\": \"it's\", \"b\": \"é\\nA\", \"c\": \"北京]),(\"}"}}},
    {"[f(a=1_000, b=.5, c=2., d=1e-5, e='a' 'b')]", "",
     {{"f", R"({"a": 1000, "b": 0.5, "c": 2.0, "d": 1e-5, "e": "ab"})"}}},
    {"[f(a=1)] and more", "", {{"f", R"({"a": 1})"}}},
    {"[f(a=x)]", "[f(a=x)]", {}},
    {"[f(a=0x10, b=(1), c=(1,), d={1: 2}, class_=[()], π='x')]", "",
     {{"f", R"({"a": 16, "b": 1, "c": [1], "d": {"1": 2}, "class_": [[]], "π": "x"})"}}},
    {"[ fn ( a = 1 ) , g () ]", "", {{"fn", R"({"a": 1})"}, {"g", "{}"}}},
    {"[f g(a=1)]", "[f g(a=1)]", {}},
    {"[f(a b=1)]", "[f(a b=1)]", {}},
    {"[f(1)]", "[f(1)]", {}},
    {"[f(a=1), g(b=x)]", "", {{"f", R"({"a": 1})"}}},
    {"[f(a=1, b='x", "", {{"f", R"({"a": 1)"}}},
    {"[f(a=1), g()]", "", {{"f", R"({"a": 1})"}}, 1},
};

TEST(ToolParser, FindsPythonicCalls) { ExpectFound(kPythonicCases, ToolFormat::kPythonic); }

TEST(ToolParser, PythonLiteralsAreBounded) {
  const std::string deep = std::string(60, '[') + std::string(60, ']');
  EXPECT_EQ(PythonLiteralToJson(deep), deep);
  EXPECT_FALSE(PythonLiteralToJson(std::string(70, '[') + std::string(70, ']')));
  EXPECT_FALSE(PythonLiteralToJson(std::string(1'000'000, '[')));
  for (const char* text : {"", "[", "'", "'\\", "'\\u12'", "'\\ud800'", "{[1]: 2}", "{'a' 1}", "0x", "0xg", "0b2", "1j", "(1", "(,)", "--1", "1.2.3", "01",
                           "1e", "True1", "[1 2]", "{,}", "+"}) {
    EXPECT_FALSE(PythonLiteralToJson(text)) << text;
  }
  // As Python's json.dumps(ast.literal_eval(…)).
  for (const auto& [literal, json] : {std::pair{"(1)", "1"}, {"(1,)", "[1]"}, {"()", "[]"}, {"((1,2),)", "[[1, 2]]"},
                                      {"0x1f", "31"}, {"-0X1F", "-31"}, {"0b101", "5"}, {"0o17", "15"}, {"5.", "5.0"},
                                      {"{1: 2, None: 3, 2.5: 5, 'a': 6}", R"({"1": 2, "null": 3, "2.5": 5, "a": 6})"},
                                      {R"("\101\60x\0")", R"("A0x\u0000")"}, {R"((  "a" "b" ))", R"("ab")"}}) {
    EXPECT_EQ(PythonLiteralToJson(literal), json) << literal;
  }
  EXPECT_EQ(PythonLiteralToJson("'\\ud83d\\ude42\\q'"), "\"🙂\\\\q\"");
}

TEST(ToolParser, ArgumentsComeWhileTheyAreWritten) {
  const auto owned = NewToolParser(ToolFormat::kHermes, 10, nullptr);
  ToolParser& parser = *owned;
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
