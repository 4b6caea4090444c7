#include "api/tool_types.h"

#include <gtest/gtest.h>

#include "api/json_reader.h"

namespace tiercel::api {
namespace {

// Expected: json.loads of the text where that works, else Python's ast.literal_eval, as vLLM reads them.
TEST(ToolTypes, ObjectsAndListsMayBeWrittenAsInPython) {
  const auto tools = ParseJson(R"([{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{
      "o":{"type":"object"},"l":{"type":"array"},"s":{"type":"string"},"n":{"type":"integer"}}}}}])");
  ASSERT_TRUE(tools.has_value());
  const auto types = MakeToolTypes(*tools);
  EXPECT_EQ(types->ToJson("f", "o", "{'a': 1, 'b': None}"), R"({"a": 1, "b": null})");
  EXPECT_EQ(types->ToJson("f", "l", " ['x', True, (1,)] "), R"(["x", true, [1]])");
  EXPECT_EQ(types->ToJson("f", "o", R"({"a": 1})"), R"({"a": 1})");
  EXPECT_EQ(types->ToJson("f", "o", "{'a': x}"), R"("{'a': x}")");
  EXPECT_EQ(types->ToJson("f", "o", "'a'"), R"("'a'")");
  EXPECT_EQ(types->ToJson("f", "s", "{'a': 1}"), R"("{'a': 1}")");
  EXPECT_EQ(types->ToJson("f", "n", "7"), "7");
}

}  // namespace
}  // namespace tiercel::api
