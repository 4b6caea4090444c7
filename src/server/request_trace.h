// RequestTrace: collects what the spans of one body's requests say, one for each of its prompts.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"
#include "engine/engine.h"
#include "server/http_server.h"
#include "server/tracing.h"

namespace tiercel::server {

// Not thread-safe: the request's stages use it one after the other. Nothing here throws: where
// there is no memory for a span it is lost, its request goes on.
class RequestTrace {
 public:
  // The request has arrived. Nothing is collected without a sink (null), or where the client says
  // that its trace is not recorded.
  RequestTrace(SpanSink* sink, const HttpRequest& request, std::string_view request_id) noexcept;
  ~RequestTrace() { Failed("The client has gone."); }
  // The other one collects nothing more.
  RequestTrace(RequestTrace&& other) noexcept;

  // The next prompt, before the engine has it.
  void AddPrompt(const engine::Request& request) noexcept;
  // All samples of the prompt have ended.
  void Ended(size_t prompt, const api::Answer& answer) noexcept;
  // Nothing more comes of the prompts that have not ended; of the body, if there are none yet.
  void Failed(std::string_view why) noexcept;

 private:
  struct Prompt {
    std::string id;
    int64_t num_tokens = 0;
    std::optional<RequestSpan::Params> params;
    bool ended = false;
  };

  RequestSpan NewSpan(const Prompt& prompt, double seconds) const;

  SpanSink* sink_;
  TraceContext context_;
  Prompt body_;  // stands for the prompts until there are some
  std::vector<Prompt> prompts_;
  int64_t start_ns_ = 0;  // since 1970
  double start_ = 0;      // of the steady clock, which is the engine's
};

}  // namespace tiercel::server
