// Protocol: whose words a request and its answer have.
#pragma once

namespace tiercel::api {

enum class Protocol {
  kCompletions,  // OpenAI's /v1/completions
  kChat,         // OpenAI's /v1/chat/completions
  kMessages,     // Anthropic's /v1/messages
  kResponses,    // OpenAI's /v1/responses
  kPooling,      // /v1/embeddings, /pooling, /classify, /score and /rerank
};

}  // namespace tiercel::api
