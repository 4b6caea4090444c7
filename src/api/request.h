// The request bodies as structs: what was asked, typed and checked as far as the body alone tells.
// What needs the tokenizer or the template is done by prepare.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "api/json.h"
#include "api/options.h"
#include "api/prompt_text.h"
#include "sampling/sampling_params.h"
#include "text/grammar.h"

namespace tiercel::api {

class Fields;

// Fields that all bodies with prompts share.
struct RequestBase : PromptOptions {
  std::string model;  // empty: the first served name
  int priority = 0;
  std::string cache_salt;
  std::string request_id;  // of the body; a header wins over it
};

// Fields that completions and chat completions share.
struct GenerationRequest : RequestBase {
  // Server and neutral defaults filled in; max_tokens and bad_words_token_ids come in prepare.
  sampling::SamplingParams params;
  std::optional<int64_t> max_tokens;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool return_token_ids = false;
  bool return_tokens_as_token_ids = false;
  int stream_interval = 1;
  std::optional<text::GrammarSource> grammar;  // that the answer must obey
  std::string grammar_param;                   // the field that asks for it
  std::optional<int64_t> thinking_token_budget;
  // The given values of fields that a later check may refuse, for "(parameter=p, value=v)".
  std::vector<std::pair<std::string, std::string>> given;
};

struct CompletionRequest : GenerationRequest {
  std::vector<PromptInput> prompts;  // at least one, none empty
  bool echo = false;
  bool prompt_only = false;  // echo with max_tokens 0
};

// What a chat template is rendered from.
struct ChatInput {
  Json::Array messages;  // as the template wants them, see chat_messages.h
  Json tools;            // an array, or null
  Json documents;        // an array, or null
  Json::Object template_kwargs;
  std::string chat_template;  // the request's own; empty: the model's
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

struct ChatRequest : GenerationRequest {
  ChatInput chat;
  bool logprobs = false;
  int top_logprobs = 0;  // −1: all
  bool echo = false;
  bool include_reasoning = true;
  bool parse_tool_calls = false;
  text::ToolFormat tool_format = text::ToolFormat::kHermes;  // of the calls
  bool names_tool = false;        // tool_choice names one function
  bool parallel_tool_calls = true;  // false: the first call alone is given
};

struct TokenizeRequest {
  std::string model;
  std::optional<std::string> prompt;  // or:
  std::optional<ChatInput> chat;
  bool add_special_tokens = true;
  bool return_token_strs = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};

// The prompts of a body's member `name`: a text, a list of texts, token ids, or a list of lists of them;
// at least one, none empty. `missing` is told where there is none.
std::optional<ApiError> ReadPromptInputs(Fields& fields, std::string_view name,
                                         std::string_view missing, const ApiOptions& options,
                                         std::vector<PromptInput>* prompts);
// The body as an object, or a 400 that says why it is none.
Result<Json> ParseBody(std::string_view body);
// Large contents are moved out of `body`, not copied.
Result<CompletionRequest> ReadCompletionRequest(Json body, const ApiOptions& options);
Result<ChatRequest> ReadChatRequest(Json body, const ApiOptions& options);
Result<TokenizeRequest> ParseTokenizeRequest(std::string_view body, const ApiOptions& options);
Result<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body);

}  // namespace tiercel::api
