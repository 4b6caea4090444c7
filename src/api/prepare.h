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
};

// `request_id` is the client's X-Request-Id (already checked, see server/), or empty.
Result<PreparedRequest> PrepareChat(std::string_view body, std::string_view request_id,
                                    const ModelInfo& model, const ApiOptions& options);
Result<PreparedRequest> PrepareCompletion(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options);

// Whole bodies of /tokenize and /detokenize.
Result<std::string> TokenizeBody(std::string_view body, const ModelInfo& model,
                                 const ApiOptions& options);
Result<std::string> DetokenizeBody(std::string_view body, const ModelInfo& model);

// The body of /v1/models.
std::string ModelsBody(const ModelInfo& model);

// The prompt text of a chat, continue_final_message included.
Result<std::string> RenderChat(const ChatInput& chat, const ModelInfo& model);

// 32 random hex digits.
std::string RandomId();
// Letters, digits and "-_.:" only, at most 128 of them: safe in headers, logs and chunks.
bool IsPlainId(std::string_view id);

}  // namespace tiercel::api
