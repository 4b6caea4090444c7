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

constexpr std::string_view kScores = "Compares texts.", kRanks = "Puts documents in order.";

constexpr Endpoint kEndpoints[] = {
    {"/v1/chat/completions", Protocol::kChat, PrepareChat, ChatForms, "Answers a conversation."},
    {"/v1/chat/completions/batch", Protocol::kChat, PrepareChatBatch, ChatBatchForms,
     "Answers several conversations."},
    {"/v1/completions", Protocol::kCompletions, PrepareCompletion, CompletionForms, "Goes on with texts."},
    {"/invocations", Protocol::kChat, PrepareInvocation, InvocationForms,
     "Answers a conversation or goes on with texts, as the body is."},
    {"/v1/responses", Protocol::kResponses, PrepareResponses, ResponsesForms,
     "Answers a conversation, in the words of OpenAI's Responses."},
    {"/v1/messages", Protocol::kMessages, PrepareMessages, MessagesForms,
     "Answers a conversation, in the words of Anthropic's Messages."},
    {"/v1/embeddings", Protocol::kPooling, Pool<PoolingEndpoint::kEmbeddings>, EmbeddingForms,
     "Vectors of texts."},
    {"/pooling", Protocol::kPooling, Pool<PoolingEndpoint::kPooling>, PoolingForms,
     "Vectors or labels of texts, or of their tokens."},
    {"/classify", Protocol::kPooling, Pool<PoolingEndpoint::kClassify>, ClassifyForms, "Labels of texts."},
    {"/score", Protocol::kPooling, Pool<PoolingEndpoint::kScore>, ScoreForms, kScores},
    {"/v1/score", Protocol::kPooling, Pool<PoolingEndpoint::kScore>, ScoreForms, kScores},
    {"/rerank", Protocol::kPooling, Pool<PoolingEndpoint::kRerank>, RerankForms, kRanks},
    {"/v1/rerank", Protocol::kPooling, Pool<PoolingEndpoint::kRerank>, RerankForms, kRanks},
    {"/v2/rerank", Protocol::kPooling, Pool<PoolingEndpoint::kRerank>, RerankForms, kRanks},
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
