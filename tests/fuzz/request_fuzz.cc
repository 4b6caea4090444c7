// Any bytes as the body of each endpoint: parsed and validated, never a crash.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "api/request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  tiercel::api::ApiOptions options;
  options.trust_request_chat_template = true;
  (void)tiercel::api::ParseChatRequest(body, options);
  (void)tiercel::api::ParseCompletionRequest(body, options);
  (void)tiercel::api::ParseTokenizeRequest(body, options);
  (void)tiercel::api::ParseDetokenizeRequest(body);
  return 0;
}
