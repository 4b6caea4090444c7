// For tests of answers: plans of requests, and reading what was written.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "api/json_reader.h"
#include "api/response_plan.h"
#include "api/test_support.h"

namespace tiercel::api {

inline ResponsePlan Plan(bool chat, bool stream) {
  ResponsePlan plan;
  plan.protocol = chat ? Protocol::kChat : Protocol::kCompletions;
  plan.stream = stream;
  plan.id = "id";
  plan.model = "test";
  plan.tokenizer = ByteTokenizer();
  plan.prompts.push_back({3, "", {}, "assistant", std::nullopt});
  return plan;
}

// The data of the events, each parsed; [DONE] must be the last one.
inline std::vector<Json> Events(const std::string& text) {
  std::vector<Json> events;
  bool done = false;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find("\n\n", begin);
    EXPECT_NE(end, std::string::npos);
    const std::string data = text.substr(begin + 6, end - begin - 6);
    EXPECT_FALSE(done);
    if (data == "[DONE]") {
      done = true;
    } else {
      auto json = ParseJson(data);
      EXPECT_TRUE(json) << data;
      events.push_back(std::move(*json));
    }
    begin = end + 2;
  }
  EXPECT_TRUE(done);
  return events;
}

inline const Json& At(const Json& json, std::initializer_list<const char*> path) {
  const Json* at = &json;
  for (const char* key : path) {
    if (at->array() != nullptr) {
      at = &at->array()->at(static_cast<size_t>(std::stoi(key)));
    } else {
      at = at->Find(key);
    }
    EXPECT_NE(at, nullptr) << key;
  }
  return *at;
}

}  // namespace tiercel::api
