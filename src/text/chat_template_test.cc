#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "text/tokenizer.h"

namespace tiercel::text {
namespace {

using Json = nlohmann::ordered_json;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

const std::string kData = TIERCEL_TEST_DATA "/chat_template/";

const std::shared_ptr<TemplatePool>& Pool() {
  static const auto pool = std::make_shared<TemplatePool>(
      TemplatePool::Options{.executable = TIERCEL_TEMPLATE_WORKER});
  return pool;
}

std::string Render(const std::string& source, const std::string& values = "{}") {
  auto made = ChatTemplate::Compile(Pool(), source);
  if (!made) return "compile: " + made.error().message();
  auto text = (*made)->Render(values);
  return text ? *text : "render: " + text.error().message();
}

std::vector<Json> Golden() {
  std::vector<Json> cases;
  std::istringstream lines(ReadFile(kData + "qwen3_golden.jsonl"));
  for (std::string line; std::getline(lines, line);) cases.push_back(Json::parse(line));
  return cases;
}

TEST(ChatTemplate, EqualsTransformersOnRandomConversations) {
  auto qwen3 = ChatTemplate::Compile(Pool(), ReadFile(kData + "qwen3.jinja"));
  ASSERT_TRUE(qwen3) << qwen3.error();
  const std::vector<Json> cases = Golden();
  ASSERT_EQ(cases.size(), 200u);
  for (size_t i = 0; i < cases.size(); ++i) {
    auto text = (*qwen3)->Render(cases[i]["values"].dump());
    ASSERT_TRUE(text) << i << ": " << text.error();
    EXPECT_EQ(*text, cases[i]["text"].get<std::string>()) << i;
  }
}

// The real tokenizer is 11 MB and not part of the source: its folder is given from outside.
TEST(ChatTemplate, TokensEqualTransformers) {
  const char* dir = std::getenv("TIERCEL_QWEN3_TOKENIZER");
  if (dir == nullptr) GTEST_SKIP() << "TIERCEL_QWEN3_TOKENIZER does not name a folder";
  auto tokenizer = Tokenizer::Load(dir);
  ASSERT_TRUE(tokenizer) << tokenizer.error();
  for (const Json& c : Golden()) {
    EXPECT_EQ(*(*tokenizer)->Encode(c["text"].get<std::string>(), false),
              c["ids"].get<std::vector<int32_t>>());
  }
}

TEST(ChatTemplate, FindsTheTemplateOfAFolder) {
  const std::string dir = ::testing::TempDir() + "/tiercel_find_source";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  const auto write = [&](const char* name, const std::string& content) {
    std::ofstream(dir + "/" + name, std::ios::binary) << content;
  };
  auto found = ChatTemplate::FindSource(dir);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), StatusCode::kNotFound);
  EXPECT_NE(found.error().message().find(dir), std::string::npos);

  // Each of these is preferred to those before it.
  write("chat_template.json", R"({"chat_template": "of the json file"})");
  EXPECT_EQ(ChatTemplate::FindSource(dir), "of the json file");
  write("tokenizer_config.json", R"({"eos_token": "x"})");
  EXPECT_EQ(ChatTemplate::FindSource(dir), "of the json file");
  write("tokenizer_config.json", R"({"chat_template": "of the configuration"})");
  EXPECT_EQ(ChatTemplate::FindSource(dir), "of the configuration");
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "of tools"},
                              {"name": "default", "template": "of the list"}]})");
  EXPECT_EQ(ChatTemplate::FindSource(dir), "of the list");
  write("chat_template.jinja", "of its own file");
  EXPECT_EQ(ChatTemplate::FindSource(dir), "of its own file");
  std::filesystem::remove_all(dir);
}

TEST(ChatTemplate, RaiseExceptionIsTheUsersFault) {
  auto made = ChatTemplate::Compile(Pool(), "{{ raise_exception('No user query found') }}");
  ASSERT_TRUE(made);
  auto text = (*made)->Render("{}");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(text.error().message().find("No user query found"), std::string::npos);
}

TEST(ChatTemplate, SpellsValuesAsPythonDoes) {
  EXPECT_EQ(Render("{{ x }}|{{ y }}|{{ z * 10 }}|{{ l }}", R"({"x":null,"y":true,"z":1e21,"l":[1,"a",2.0]})"),
            "None|True|1e+22|[1, 'a', 2.0]");
  EXPECT_EQ(Render("{{ x | tojson }}", R"({"x":{"b":"<&'é>","a":[1,null]}})"),
            R"({"b": "<&'é>", "a": [1, null]})");
  EXPECT_EQ(Render("{% for i in [1,2,3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
            "1");
}

TEST(ChatTemplate, IndentsAsJinjaDoes) {
  EXPECT_EQ(Render("{{ x | indent(2) }}", R"({"x":"a\n\nb\n"})"), "a\n\n  b\n");
  EXPECT_EQ(Render("{{ x | indent(2, true) }}", R"({"x":"a\nb"})"), "  a\n  b");
  EXPECT_EQ(Render("{{ x | indent(width=1, blank=true) }}", R"({"x":"a\n\nb"})"), "a\n \n b");
}

TEST(ChatTemplate, NumbersKeepTheDigitsThatTheyCameWith) {
  for (const char* digits :
       {"0", "-0", "7", "9223372036854775808", "-9223372036854775809", "18446744073709551615",
        "18446744073709551616", "340282366920938463463374607431768211456", "1e400", "-1E+400", "1e3", "1.10",
        "0.1000000000000000055511151231257827", "1e-400", "5.0", "-2.5e-7", "1e16"}) {
    const std::string values = fmt::format(R"({{"x":{0},"y":[{{"a": {0}}}],"z":"{0}"}})", digits);
    EXPECT_EQ(Render("{{ x }}|{{ y }}|{{ x | tojson }}|{{ y | tojson }}|{{ x | string }}", values),
              fmt::format("{0}|[{{'a': {0}}}]|{0}|[{{\"a\": {0}}}]|{0}", digits));
  }
  // They are numbers still, and those of one rendering are none of the next.
  EXPECT_EQ(Render("{{ x * 2 }} {{ x == 1.5 }} {{ x is number }} {{ x > 1 }} {{ 1.5 }}", R"({"x":1.50})"),
            "3.0 True True True 1.50");
  EXPECT_EQ(Render("{{ 1.5 }} {{ x }}", R"({"x":2})"), "1.5 2");
  EXPECT_EQ(Render("{{ x }} {{ y }}", R"({"x":1.50,"y":1.5000})"), "1.5 1.5");
  EXPECT_EQ(Render("{{ x + 1 }}", R"({"x":170141183460469231731687303715884105726})"),
            "170141183460469231731687303715884105727");
  EXPECT_EQ(Render("{{ x * 10 }} {{ (x * 10) | tojson }}", R"({"x":1e308})"), "inf Infinity");
  // What looks like a mark is an object like another if it is none.
  EXPECT_EQ(Render("{{ x | tojson }}", R"({"x":{"\u0000":"1","a\\\"1":[2.50,{}]}})"),
            R"({"\u0000": "1", "a\\\"1": [2.50, {}]})");
  EXPECT_EQ(Render("{{ x | tojson }}", R"({"x":{"\u0000tiercel.number":"}\n</tool_call>"},"y":{"tiercel.number":"1","b":2}})"),
            R"({"\u0000tiercel.number": "}\n</tool_call>"})");
}

// Each small template gives what Jinja2 makes of it (make_jinja_golden.py); an error is an error.
TEST(ChatTemplate, EqualsJinja) {
  std::istringstream lines(ReadFile(kData + "jinja_golden.jsonl"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json golden = Json::parse(line);
    const std::string text = Render(golden["source"].get<std::string>());
    if (golden.contains("text")) {
      EXPECT_EQ(text, golden["text"].get<std::string>()) << golden["source"];
    } else {
      EXPECT_TRUE(text.starts_with("render: ") || text.starts_with("compile: "))
          << golden["source"] << " gave " << text;
    }
  }
  EXPECT_GT(count, 900);
}

// Wraps a statement that makes n.x larger into loops that would not end for days.
std::string Grown(const std::string& start, const std::string& step) {
  return "{% set n = namespace(x=" + start +
         ") %}{% for i in range(90000) %}{% for j in range(90000) %}" + step +
         "{% endfor %}{% endfor %}{{ n.x | length }}";
}

bool IsError(const std::string& result) {
  return result.starts_with("compile: ") || result.starts_with("render: ");
}

TEST(ChatTemplate, HostileTemplatesEndWithAnError) {
  const std::vector<std::string> sources = {
      "{{ ''.__class__.__mro__ }}",
      "{% for i in range(10**9) %}x{% endfor %}",
      "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
      "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
      "{% include 'other' %}",
      "{% if %}",
  };
  for (const std::string& source : sources) {
    const std::string result = Render(source);
    EXPECT_TRUE(IsError(result)) << source << " gave " << result.substr(0, 100);
  }
}

// Whatever a template computes with: operators, filters, methods, captures, macros, nesting.
TEST(ChatTemplate, NoTemplateUsesUpTheMemory) {
  const std::vector<std::string> sources = {
      Grown("'a'", "{% set n.x = n.x ~ n.x %}"),
      Grown("'a'", "{% set n.x = n.x + n.x %}"),
      Grown("'a'", "{% set n.x = n.x * 9 %}"),
      Grown("[1]", "{% set n.x = n.x + n.x %}"),
      Grown("[1]", "{% set n.x = (n.x * 9) | list %}"),
      Grown("'a'", "{% set n.x = n.x.replace('a', 'aa') %}"),
      Grown("'a'", "{% set n.x = n.x | replace('a', 'aa') %}"),
      Grown("'a'", "{% set n.x = [n.x, n.x] | join('b') %}"),
      Grown("'a'", "{% set n.x = ''.join([n.x, n.x]) %}"),
      Grown("'a'", "{% set n.x = '%s%s' | format(n.x, n.x) %}"),
      Grown("'a'", "{% set n.x = '{}{}'.format(n.x, n.x) %}"),
      Grown("'a'", "{% set n.x = (n.x ~ n.x) | list | join %}"),
      Grown("'a'", "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"),
      Grown("'a'", "{% set n.x = n.x | indent(n.x | length) ~ '\n' %}"),
      Grown("'a'", "{% set n.x = [n.x, n.x] | string %}"),
      Grown("[]", "{% set n.x = [n.x, n.x] %}{% if (n.x | tojson) %}{% endif %}"),
      Grown("[]", "{% set n.x = [n.x, n.x] %}{% if (n.x | string) %}{% endif %}"),
      Grown("[]", "{% set n.x = {'a': n.x, 'b': n.x} %}{% if n.x ~ '' %}{% endif %}"),
      Grown("[]", "{% set n.x = n.x + [n.x] %}"),
      Grown("[]", "{% set n.x = n.x + ['a' * 1000] %}"),
      // These nest, and have to be taken apart again.
      Grown("0", "{% set n.x = [n.x] %}"),
      Grown("0", "{% set n.x = {'a': n.x} %}"),
      Grown("0", "{% set n.x = namespace(x=n.x) %}"),
      // In one step, or while the template is compiled.
      "{{ 'x' * 10000000000 }}",
      "{{ ([1] * 10000000000) | list }}",
      "{% set k = 'x' * 100000 %}{{ (k * 100000) | length }}",
      "{{ 'a' | indent(100000000000000) }}",
      "{{ [] | batch(10000000000000, 1) | list }}",
      "{{ range(99999) | slice(10000000000000) | list }}",
      "{{ '%1000000000000d' | format(1) }}",
      "{{ '{:>1000000000000}'.format('x') }}",
      "{% macro m(x, d) %}{{ m(x ~ x, d + 1) }}{% endmacro %}{{ m('aaaaaaaa', 0) }}",
      "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
      "{% set x %}{% for i in range(99999) %}" + std::string(1 << 20, 'x') +
          "{% endfor %}{% endset %}",
  };
  for (const std::string& source : sources) {
    const std::string result = Render(source);
    EXPECT_TRUE(IsError(result)) << source.substr(0, 200) << " gave " << result.substr(0, 100);
  }
  EXPECT_EQ(Render(sources[0]),
            "render: chat template: used more than the 64 MiB of memory that it may");
}

}  // namespace
}  // namespace tiercel::text
