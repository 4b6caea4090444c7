// The bodies of the endpoints that pool, typed and checked as far as the body and the model's kind tell.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/errors.h"
#include "api/json.h"
#include "api/options.h"
#include "api/pooling_plan.h"
#include "api/request.h"
#include "engine/pooling.h"

namespace tiercel::api {

struct PoolingRequest : RequestBase {
  PoolingEndpoint endpoint = PoolingEndpoint::kEmbeddings;
  engine::PoolingParams params;
  PoolingEncoding encoding;
  // What is pooled: one of the three.
  std::vector<PromptInput> prompts;
  std::optional<ChatInput> chat;
  // Texts to compare: as many of both, or one first text with all the second ones.
  std::vector<std::string> first_texts, second_texts;
  size_t top_n = 0;  // of kRerank; 0: all
};

Result<PoolingRequest> ReadPoolingRequest(Json body, PoolingEndpoint endpoint,
                                          const ModelInfo& model, const ApiOptions& options);

}  // namespace tiercel::api
