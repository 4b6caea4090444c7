// Prepare: from a request body to what the engine takes and what the answer will look like.
// Renders templates and tokenizes: CPU-heavy, kept off the I/O threads. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "api/options.h"
#include "api/request.h"
#include "api/response_plan.h"
#include "engine/engine.h"

namespace tiercel::api {

struct PreparedRequest {
  std::vector<engine::Request> requests;  // one for each of plan.prompts
  ResponsePlan plan;

  // One more prompt, in both. What is to be computed of it is the caller's to say.
  engine::Request& Add(const RequestBase& request, std::vector<int32_t> ids);
};

// `request_id` is the client's X-Request-Id (already checked, see server/), or empty.
Result<PreparedRequest> PrepareChat(std::string_view body, std::string_view request_id,
                                    const ModelInfo& model, const ApiOptions& options);
// /v1/chat/completions/batch: `messages` is a list of conversations, each with a choice of its own.
Result<PreparedRequest> PrepareChatBatch(std::string_view body, std::string_view request_id,
                                         const ModelInfo& model, const ApiOptions& options);
Result<PreparedRequest> PrepareCompletion(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options);

// /v1/messages, and the answer of /v1/messages/count_tokens: {"input_tokens":N}.
Result<PreparedRequest> PrepareMessages(std::string_view body, std::string_view request_id,
                                        const ModelInfo& model, const ApiOptions& options);
Result<std::string> CountTokensBody(std::string_view body, const ModelInfo& model,
                                    const ApiOptions& options);

// /v1/responses.
Result<PreparedRequest> PrepareResponses(std::string_view body, std::string_view request_id,
                                        const ModelInfo& model, const ApiOptions& options);

// /invocations: a chat if the body has messages, a completion if it has a prompt.
Result<PreparedRequest> PrepareInvocation(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options);

}  // namespace tiercel::api
