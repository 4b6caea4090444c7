// libFuzzer: the JSON bodies of every request. The first byte picks the route.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "api/json.h"
#include "api/request.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  api::ApiOptions options;
  options.trust_request_chat_template = true;
  switch (data[0] % 5) {
    case 0: {
      const auto request = api::ParseCompletionRequest(body, options);
      if (request) CHECK(!request->prompts.empty());
      break;
    }
    case 1:
      (void)api::ParseChatRequest(body, options);
      break;
    case 2:
      (void)api::ParseTokenizeRequest(body, options);
      break;
    case 3:
      (void)api::ParseDetokenizeRequest(body);
      break;
    default: {
      // What was parsed and written again must parse to the same text.
      const auto json = api::ParseJson(body);
      if (!json) break;
      const std::string text = json->Dump();
      const auto again = api::ParseJson(text);
      CHECK_MSG(again.has_value(), "{}", text);
      CHECK_EQ(again->Dump(), text);
    }
  }
  return 0;
}
