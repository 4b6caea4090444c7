// What of the command line and of the model shapes the API: defaults and switches of requests.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/grammar.h"
#include "text/tokenizer.h"
#include "text/tool_parser.h"

namespace tiercel::api {

class ResponseStore;

// Server-wide defaults of sampling (generation_config.json, --override-generation-config). A
// request's own field wins; what is not set here keeps vLLM's neutral default.
struct SamplingDefaults {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int> top_k;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> max_new_tokens;  // also a cap on every request's max_tokens
};

// --reasoning-parser. They differ in what an answer begins with where the prompt does not say:
// Qwen3 thinks unless enable_thinking is false, DeepSeek R1 always thinks.
enum class ReasoningFormat { kNone, kQwen3, kDeepSeekR1 };

// --chat-template-content-format: what a template finds as the content of messages. kAuto: what it takes.
enum class ContentFormat { kAuto, kString, kOpenAi };

// Names and defaults are those of the flags.
struct ApiOptions {
  int max_logprobs = 20;  // −1: the whole vocabulary
  std::string response_role = "assistant";
  bool return_tokens_as_token_ids = false;
  bool enable_prompt_tokens_details = false;
  bool enable_force_include_usage = false;
  int stream_interval = 1;  // tokens a chunk; the first token is never held back
  ContentFormat content_format = ContentFormat::kAuto;
  bool template_takes_parts = false;  // the model's, found when it was loaded
  bool trust_request_chat_template = false;
  bool exclude_tools_when_tool_choice_none = false;
  bool auto_tool_choice = false;  // --enable-auto-tool-choice, with --tool-call-parser
  text::ToolFormat tool_format = text::ToolFormat::kHermes;
  ReasoningFormat reasoning = ReasoningFormat::kNone;
  // --structured-outputs-config.
  bool disable_any_whitespace = false;
  bool disable_additional_properties = false;
  bool enable_in_reasoning = false;  // grammars hold for the thought as well
  std::string default_chat_template_kwargs;  // a JSON object, or empty
  bool priority_scheduling = false;          // --scheduling-policy priority
  SamplingDefaults sampling_defaults;
  ResponseStore* response_store = nullptr;  // outlives every request; null: responses are not kept
  // Bounds of one request (VLLM_MAX_N_SEQUENCES, VLLM_MAX_COMPLETION_PROMPTS, VLLM_MAX_STOP_STRINGS).
  int max_n = 1024;
  int max_completion_prompts = 4096;
  int max_stop_strings = 64;
};

// Of a model that gives vectors or labels.
struct PoolingInfo {
  bool classifies = false;
  bool use_activation = true;  // where a request does not say
  int64_t hidden_size = 0;
  int64_t dimensions = 0;  // of vectors, where a request does not say; 0: all
  bool is_matryoshka = false;
  std::vector<int64_t> matryoshka_dimensions;  // empty: any
  std::vector<std::string> labels;             // by number; "": without a name
  // The chat template is rendered from a message of the role `query` and one of `document`.
  bool has_score_template = false;
};

// The model as the API sees it. Immutable; shared by all requests that use it.
struct ModelInfo {
  std::vector<std::string> served_names;  // [0] is echoed in responses
  std::string root;                       // the model's path or id, as given
  int64_t max_model_len = 0;
  int64_t vocab_size = 0;  // of the model (logits), not of the tokenizer
  int64_t created = 0;     // Unix seconds
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null: chat requests get 400
  std::shared_ptr<text::TemplatePool> template_pool;        // for the templates of requests
  std::shared_ptr<text::GrammarCompiler> grammars;
  std::optional<PoolingInfo> pooling;  // nullopt: the model gives tokens
};

}  // namespace tiercel::api
