#include "api/endpoints.h"

#include <algorithm>

#include "api/prepare_pooling.h"

namespace tiercel::api {
namespace {

template <PoolingEndpoint endpoint>
Result<PreparedRequest> Pool(std::string_view body, std::string_view request_id,
                             const ModelInfo& model, const ApiOptions& options) {
  return PreparePooling(endpoint, body, request_id, model, options);
}

constexpr Endpoint kEndpoints[] = {
    {"/v1/chat/completions", Protocol::kChat, PrepareChat},
    {"/v1/chat/completions/batch", Protocol::kChat, PrepareChatBatch},
    {"/v1/completions", Protocol::kCompletions, PrepareCompletion},
    {"/invocations", Protocol::kChat, PrepareInvocation},
    {"/v1/responses", Protocol::kResponses, PrepareResponses},
    {"/v1/messages", Protocol::kMessages, PrepareMessages},
    {"/v1/embeddings", Protocol::kPooling, Pool<PoolingEndpoint::kEmbeddings>},
    {"/pooling", Protocol::kPooling, Pool<PoolingEndpoint::kPooling>},
    {"/classify", Protocol::kPooling, Pool<PoolingEndpoint::kClassify>},
    {"/score", Protocol::kPooling, Pool<PoolingEndpoint::kScore>},
    {"/v1/score", Protocol::kPooling, Pool<PoolingEndpoint::kScore>},
    {"/rerank", Protocol::kPooling, Pool<PoolingEndpoint::kRerank>},
    {"/v1/rerank", Protocol::kPooling, Pool<PoolingEndpoint::kRerank>},
    {"/v2/rerank", Protocol::kPooling, Pool<PoolingEndpoint::kRerank>},
};

}  // namespace

std::span<const Endpoint> Endpoints() { return kEndpoints; }

const Endpoint* FindEndpoint(std::string_view path) {
  const auto* const found = std::find_if(std::begin(kEndpoints), std::end(kEndpoints),
                                         [&](const Endpoint& e) { return e.path == path; });
  return found == std::end(kEndpoints) ? nullptr : found;
}

std::optional<ApiError> CheckOffered(const Endpoint& endpoint, const ModelInfo& model) {
  const bool pools = model.pooling.has_value();
  if (pools == (endpoint.protocol == Protocol::kPooling)) return std::nullopt;
  return ApiError{404, "NotFoundError",
                  fmt::format("Not Found: the model gives {}.",
                              !pools                       ? "tokens (see --runner pooling)"
                              : model.pooling->classifies ? "labels and scores, not tokens"
                                                           : "vectors, not tokens"),
                  std::nullopt};
}

}  // namespace tiercel::api
