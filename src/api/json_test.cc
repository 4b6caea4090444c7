#include "api/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <regex>

#include "api/json_reader.h"
#include "api/json_writer.h"
#include "text/utf8_cases.h"

namespace tiercel::api {
namespace {

TEST(Json, KeepsKeyOrderAndTheLastOfDuplicates) {
  const auto json = ParseJson(R"({"b":1,"a":{"z":[1,2.5,"x",null,true]},"b":2})");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->Dump(), R"({"b":2,"a":{"z":[1,2.5,"x",null,true]}})");
}

TEST(Json, NumbersKeepTheirKindAndDigits) {
  const std::string text =
      "[9223372036854775807,-9223372036854775808,18446744073709551615,-1,0,-0,1e3,1E+03,5.0,0.50,"
      "1e400,-1e400,1e-400,0.1000000000000000055511151231257827,1.5e-7]";
  const auto json = ParseJson(text);
  ASSERT_TRUE(json);
  EXPECT_EQ(json->Dump(), text);
  const Json::Array& items = *json->array();
  EXPECT_EQ(*items[0].integer(), INT64_MAX);
  EXPECT_EQ(*items[1].integer(), INT64_MIN);
  EXPECT_EQ(*items[3].integer(), -1);
  const double reals[] = {0x1p64, 0, 0, -0.0, 1000, 1000, 5, 0.5, INFINITY, -INFINITY, 0, 0.1, 1.5e-7};
  for (const size_t i : {2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}) {
    EXPECT_EQ(items[i].integer(), nullptr) << i;
    EXPECT_EQ(*items[i].real(), reals[i - 2]) << i;
  }
  EXPECT_TRUE(ParseJson(std::string(4300, '7')));
  EXPECT_FALSE(ParseJson(std::string(4301, '7')));
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* text :
       {"", "{", "NaN", "[Infinity]", "[1,]", "{\"a\":1}x", "\"\xff\"", "{'a':1}", "\"\\ud800\"",
        "[1 2]", "\x01", "\xef\xbb\xbf{}", "01", "-", "+1", "1.", ".5", "1e", "1e+", "--1", "nul", "nulll",
        "\"\\x\"", "\"\\u12g4\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"a\nb\"", "\"abcdefghij",
        "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}", "[,1]", "]", "[}", "{]"}) {
    const auto json = ParseJson(text);
    ASSERT_FALSE(json) << text;
    EXPECT_TRUE(json.error().message().starts_with("JSON decode error at byte ")) << text;
  }
  EXPECT_EQ(ParseJson("{\"a\":\n tru}").error().message(),
            "JSON decode error at byte 11: expected 'true', found '}'");
}

// Random texts and broken forms of them: what nlohmann's reader takes is taken, as the same document,
// and nothing else is. It refuses numbers beyond double, we do not.
TEST(Json, ReadsWhatAnotherReaderReads) {
  const std::string_view pieces[] = {
      "{",  "}",  "[",    "]",     ",",    ":",       "\"",      "\"a\":", "\"b\":",       "\"\"",
      "1",  "-0", "2.5",  "-",     "true", "null",    "false",   " ",      "\n",           "\\",
      "u",  "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "é", "中文", "\xff", "\xf0\x9f\x98\x80",
      "\xf0\x9f", "abcdefgh", "plain text of more than eight bytes", "\x1f", "\x7f", "\t", "."};
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  // A value with up to `depth` levels.
  const auto value = [&](const auto& self, int depth) -> std::string {
    switch (below(depth > 0 ? 9 : 7)) {
      case 0: return "null";
      case 1: return "true";
      case 2: return std::to_string(static_cast<int32_t>(random()));
      case 3: return std::to_string(static_cast<double>(random()) / 1024.0);
      case 4: case 5: case 6: {
        std::string text = "\"";
        for (size_t i = below(12); i > 0; --i) {
          const std::string_view piece = pieces[18 + below(std::size(pieces) - 18)];
          if (piece != "\\" && piece != "\n") text += piece;
        }
        return text + '"';
      }
      default: break;
    }
    const bool is_object = below(2) == 0;
    std::string text = is_object ? "{" : "[";
    for (size_t i = 0, n = below(5); i < n; ++i) {
      if (i > 0) text += below(2) == 0 ? ", " : ",";
      if (is_object) text += "\"k" + std::to_string(below(4)) + "\" :";
      text += self(self, depth - 1);
    }
    return text + (is_object ? '}' : ']');
  };
  int taken = 0, refused = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::string text = value(value, 4);
    for (size_t faults = below(3); faults > 0 && !text.empty(); --faults) {
      const size_t at = below(text.size());
      if (below(2) == 0) {
        text.erase(at, 1 + below(3));
      } else {
        text.insert(at, pieces[below(std::size(pieces))]);
      }
    }
    const auto other = nlohmann::ordered_json::parse(text, nullptr, false);
    const auto ours = ParseJson(text);
    if (ours && other.is_discarded() && std::regex_search(text, std::regex("[eE][0-9]{3}"))) continue;
    ASSERT_EQ(ours.has_value(), !other.is_discarded()) << text;
    ++(ours ? taken : refused);
    if (!ours) continue;
    // Read again by the other: our text of the document is the document.
    const auto again = nlohmann::ordered_json::parse(ours->Dump(), nullptr, false);
    ASSERT_EQ(again, other) << text;
  }
  EXPECT_GT(taken, 20'000);
  EXPECT_GT(refused, 20'000);
}

TEST(Json, BoundsDepthValuesAndKeys) {
  JsonLimits limits{.max_depth = 3, .max_values = 6, .max_object_keys = 2};
  EXPECT_TRUE(ParseJson("[[[1]]]", limits));
  EXPECT_NE(ParseJson("[[[[1]]]]", limits).error().message().find("deeper than 3"),
            std::string::npos);
  EXPECT_TRUE(ParseJson("[1,2,3,4,5]", limits));
  EXPECT_FALSE(ParseJson("[1,2,3,4,5,6]", limits));
  EXPECT_TRUE(ParseJson(R"({"a":1,"b":[]})", limits));  // keys are values
  EXPECT_FALSE(ParseJson(R"({"a":1,"b":[1,2]})", limits));
  EXPECT_FALSE(ParseJson(R"({"a":1,"b":2,"c":3})", limits));
  EXPECT_FALSE(ParseJson(std::string(1 << 20, '[')));
}

// The largest texts of every shape end early, with a short word about it.
TEST(Json, LargeTextsAreRefused) {
  const auto repeated = [](std::string_view item, size_t bytes) {
    std::string text;
    text.reserve(bytes + item.size());
    while (text.size() < bytes) text += item;
    return text;
  };
  constexpr size_t kBytes = 8 << 20;
  for (const std::string& text :
       {"[" + repeated("0,", kBytes), "[" + repeated("[],", kBytes), "[" + repeated("{},", kBytes),
        "[" + repeated(R"({"a":0},)", kBytes), repeated("[", kBytes), repeated(R"({"a":)", kBytes),
        '"' + repeated("x", kBytes), repeated("1", kBytes), "-" + repeated("x", kBytes),
        repeated(" ", kMaxJsonBytes + 1)}) {
    const auto json = ParseJson(text);
    ASSERT_FALSE(json) << text.substr(0, 20);
    EXPECT_LT(json.error().message().size(), 500u);
  }
}

TEST(Json, DumpStartIsShort) {
  const auto json = ParseJson(R"({"a":[1,2,{"b":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}],"c":[[[[4]]]]})");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->DumpStart(1000), json->Dump());
  EXPECT_EQ(json->DumpStart(12), R"({"a":[1,2,{")" "…");
}

TEST(JsonWriter, OutputIsAlwaysValidUtf8) {
  std::string out;
  AppendJsonString(&out, "a\"\\\n\x01\x7f é 🌶 \xff\xc3(\xed\xa0\x80");
  EXPECT_EQ(out,
            "\"a\\\"\\\\\\n\\u0001\\u007f é 🌶 \xEF\xBF\xBD\xEF\xBF\xBD("
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
  EXPECT_TRUE(ParseJson(out));
}

TEST(JsonWriter, BrokenBytesAreReplacedAsPythonDoes) {
  for (const text::Utf8Case& c : text::kUtf8Cases) {
    std::string out;
    AppendJsonString(&out, c.bytes());
    EXPECT_EQ(out, '"' + text::WithReplacements(c.whole) + '"') << c.hex;
  }
}

TEST(JsonWriter, ClampsMaskedLogprobs) {
  std::string out;
  AppendJsonLogprob(&out, -INFINITY);
  out += ' ';
  AppendJsonLogprob(&out, -0.5f);
  out += ' ';
  AppendJsonLogprob(&out, NAN);
  EXPECT_EQ(out, "-9999.0 -0.5 -9999.0");
}

TEST(Json, CountsWhatItsTextTakes) {
  const auto json = ParseJson(R"({"a\n": ["x", "\"\\\u0001", {"é": 7}], "b": null})");
  ASSERT_TRUE(json.has_value());
  // a\n, x, \"\\ and a backslash for the control character, é, b
  EXPECT_EQ(json->StringBytes(), 3u + 1 + 6 + 2 + 1);
  EXPECT_LE(json->StringBytes(), json->Dump().size());
}

}  // namespace
}  // namespace tiercel::api
