#include "api/json.h"

#include <gtest/gtest.h>

#include "api/json_writer.h"
#include "text/utf8_cases.h"

namespace tiercel::api {
namespace {

TEST(Json, KeepsKeyOrderAndTheLastOfDuplicates) {
  const auto json = ParseJson(R"({"b":1,"a":{"z":[1,2.5,"x",null,true]},"b":2})");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->Dump(), R"({"b":2,"a":{"z":[1,2.5,"x",null,true]}})");
}

TEST(Json, NumbersKeepTheirKind) {
  const auto json = ParseJson("[9223372036854775807,18446744073709551615,-1,1e3,5.0]");
  ASSERT_TRUE(json);
  const Json::Array& items = *json->array();
  EXPECT_EQ(*items[0].integer(), INT64_MAX);
  EXPECT_EQ(items[1].integer(), nullptr);
  EXPECT_DOUBLE_EQ(*items[1].real(), 18446744073709551615.0);
  EXPECT_EQ(*items[2].integer(), -1);
  EXPECT_EQ(items[3].Dump(), "1000.0");
  EXPECT_EQ(items[4].Dump(), "5.0");
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "NaN", "[Infinity]", "1e400", "[1,]", "{\"a\":1}x", "\"\xff\"",
                           "{'a':1}", "\"\\ud800\"", "[1 2]", "\x01"}) {
    EXPECT_FALSE(ParseJson(text)) << text;
  }
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

}  // namespace
}  // namespace tiercel::api
