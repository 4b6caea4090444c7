// ResponsePlan: what the answer to one request must look like, fixed before the engine runs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/pooling_plan.h"
#include "api/protocol.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/tool_parser.h"

namespace tiercel::api {

// Of a response that is kept (response_store.h).
struct KeepPlan {
  std::shared_ptr<const std::string> input;  // as KeptResponse has it
  bool background = false;                   // it is computed whether or not its client stays
};

struct PromptPlan {
  int64_t num_tokens = 0;
  std::string echo_text;            // comes before the generated text; empty without echo
  std::vector<int32_t> token_ids;   // kept only where the answer shows them
  std::string role = {};            // of a chat's answer
  std::optional<bool> thinks = {};  // whether an answer begins with thought; nullopt: it is not told apart
};

struct ResponsePlan {
  Protocol protocol = Protocol::kCompletions;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool prompt_tokens_details = false;
  bool return_token_ids = false;
  bool tokens_as_token_ids = false;
  bool include_stop_token_text = false;  // include_stop_str_in_output
  bool prompt_only = false;              // completions: echo with max_tokens 0
  bool echo_logprobs = false;            // completions: logprobs begin with the prompt's tokens
  std::optional<int> logprobs;           // entries a token (chat: top_logprobs); −1: all
  bool prompt_logprobs = false;          // the answer has a prompt_logprobs field
  int n = 1;
  int stream_interval = 1;
  bool include_reasoning = true;  // thought is shown
  size_t max_tool_calls = 0;      // 0: they are content
  text::ToolFormat tool_format = text::ToolFormat::kHermes;
  std::shared_ptr<const text::ToolTypes> tool_types;  // of the forms that do not show them
  bool names_tool = false;        // tool_choice named one: its call ends with `stop`, as in vLLM
  std::string id, model, fingerprint;
  std::string echo;  // responses: what of the request is repeated (responses_request.h)
  std::optional<KeepPlan> keep;  // responses: nullopt if it is not kept
  int64_t created = 0;  // Unix seconds
  text::DetokenizerOptions detokenizer;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const PoolingPlan> pooling;  // of kPooling
  std::vector<PromptPlan> prompts;  // choice index = prompt · n + sample

  bool tells_thought() const { return !prompts.empty() && prompts[0].thinks.has_value(); }
};

}  // namespace tiercel::api
