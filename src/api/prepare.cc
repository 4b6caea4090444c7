#include "api/prepare.h"

#include <algorithm>
#include <chrono>

#include "api/names.h"
#include "api/render_chat.h"

namespace tiercel::api {

namespace {

// No token of a real vocabulary is longer, so a text of more than max_model_len times this many
// bytes cannot fit: it is refused without tokenizing megabytes.
constexpr int64_t kMaxBytesPerToken = 512;

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

ApiError ContextOverflow(int64_t num_tokens, bool at_least, const ModelInfo& model) {
  const char* excess = num_tokens > model.max_model_len
                           ? "which exceeds this limit even without any output tokens"
                           : "which leaves no room for any output tokens";
  return BadParameter(
      fmt::format("This model's maximum context length is {} tokens. However, your prompt contains "
                  "{}{} input tokens, {}. Please reduce the length of the input prompt.",
                  model.max_model_len, at_least ? "at least " : "", num_tokens, excess),
      "input_tokens", std::to_string(num_tokens));
}

Result<std::vector<int32_t>> Encode(const std::string& text, const GenerationRequest& request,
                                    const ModelInfo& model) {
  if (!request.truncate_prompt_tokens &&
      static_cast<int64_t>(text.size()) > model.max_model_len * kMaxBytesPerToken) {
    return Fail(ContextOverflow(static_cast<int64_t>(text.size()) / kMaxBytesPerToken, true, model));
  }
  Expected<std::vector<int32_t>> ids = model.tokenizer->Encode(text, request.add_special_tokens);
  if (!ids) return Fail(FromStatus(ids.error()));
  return std::move(*ids);
}

std::optional<ApiError> Truncate(const GenerationRequest& request, const ModelInfo& model,
                                 std::vector<int32_t>* ids) {
  if (!request.truncate_prompt_tokens) return std::nullopt;
  int64_t keep = *request.truncate_prompt_tokens;
  if (keep > model.max_model_len) {
    return BadParameter(
        fmt::format("truncate_prompt_tokens value is greater than max_model_len ({}). Please "
                    "request a smaller truncation size.",
                    model.max_model_len),
        "truncate_prompt_tokens", std::to_string(keep));
  }
  if (keep == -1) keep = model.max_model_len - 1;
  const auto size = static_cast<int64_t>(ids->size());
  if (size <= keep) return std::nullopt;
  if (request.truncate_right) {
    ids->resize(static_cast<size_t>(keep));
  } else {
    ids->erase(ids->begin(), ids->begin() + (size - keep));
  }
  return std::nullopt;
}

std::optional<ApiError> CheckPrompt(const std::vector<int32_t>& ids, const ModelInfo& model) {
  if (ids.empty()) return BadRequest("The decoder prompt cannot be empty", "prompt");
  // The tokenizer's ids may reach beyond the rows of the logits; both bound what can be embedded.
  for (const int32_t id : ids) {
    if (id < 0 || id >= model.vocab_size) {
      return BadParameter(fmt::format("Token id {} is out of vocabulary", id), "prompt",
                          std::to_string(id));
    }
  }
  const auto size = static_cast<int64_t>(ids.size());
  if (size >= model.max_model_len) return ContextOverflow(size, false, model);
  return std::nullopt;
}

// What is asked, whatever room a prompt leaves: the engine ends each sample at the room's end.
Result<int64_t> ResolveMaxTokens(const GenerationRequest& request, std::optional<int64_t> fallback,
                                 const ModelInfo& model, const ApiOptions& options) {
  if (request.max_tokens && *request.max_tokens > model.max_model_len) {
    return Fail(BadParameter(
        fmt::format("max_tokens={} cannot be greater than max_model_len={}. Please request fewer "
                    "output tokens.",
                    *request.max_tokens, model.max_model_len),
        "max_tokens", std::to_string(*request.max_tokens)));
  }
  int64_t limit = model.max_model_len;
  if (options.sampling_defaults.max_new_tokens) {
    limit = std::min(limit, *options.sampling_defaults.max_new_tokens);
  }
  if (const auto asked = request.max_tokens ? request.max_tokens : fallback) {
    limit = std::min(limit, *asked);
  }
  return limit;
}

// As vLLM: each word as it stands and with a space before it, where that is another token.
Status FillBadWords(const ModelInfo& model, sampling::SamplingParams* params) {
  for (const std::string& word : params->bad_words) {
    const size_t begin = word.find_first_not_of(' ');
    const std::string bare = begin == std::string::npos ? word : word.substr(begin);
    ASSIGN_OR_RETURN(std::vector<int32_t> plain, model.tokenizer->Encode(bare, false));
    ASSIGN_OR_RETURN(std::vector<int32_t> spaced, model.tokenizer->Encode(" " + bare, false));
    const bool differs = !spaced.empty() && !plain.empty() && spaced[0] != plain[0] &&
                         spaced.size() == plain.size();
    if (!plain.empty()) params->bad_words_token_ids.push_back(std::move(plain));
    if (differs) params->bad_words_token_ids.push_back(std::move(spaced));
  }
  return OkStatus();
}

// With the value as it was given, where the field was.
ApiError ParameterError(const GenerationRequest& request, const Status& status) {
  for (const auto& [name, value] : request.given) {
    if (name == status.param()) return BadParameter(status.message(), name, value.substr(0, 64));
  }
  return FromStatus(status);
}

// The parameters that every prompt and sample of the body share: settled, encoded and checked once,
// before any prompt is tokenized.
Result<std::shared_ptr<const sampling::SamplingParams>> SettleParams(
    GenerationRequest* request, std::optional<int64_t> fallback_max_tokens, const ModelInfo& model,
    const ApiOptions& options) {
  auto params = std::make_shared<sampling::SamplingParams>(std::move(request->params));
  API_ASSIGN_OR_RETURN(params->max_tokens,
                       ResolveMaxTokens(*request, fallback_max_tokens, model, options));
  if (const Status status = FillBadWords(model, params.get()); !status.ok()) {
    return Fail(FromStatus(status));
  }
  if (Status status = params->Validate(model.vocab_size, options.max_logprobs); !status.ok()) {
    return Fail(ParameterError(*request, status));
  }
  return params;
}

ResponsePlan BasePlan(const GenerationRequest& request, const sampling::SamplingParams& params,
                      std::string_view prefix, std::string_view request_id, const ModelInfo& model,
                      const ApiOptions& options) {
  ResponsePlan plan;
  plan.stream = request.stream;
  plan.include_usage = request.include_usage;
  plan.continuous_usage = request.continuous_usage;
  plan.prompt_tokens_details = options.enable_prompt_tokens_details;
  plan.return_token_ids = request.return_token_ids;
  plan.tokens_as_token_ids = request.return_tokens_as_token_ids;
  plan.include_stop_token_text = params.include_stop_str_in_output;
  plan.logprobs = params.logprobs;
  plan.prompt_logprobs = params.prompt_logprobs.has_value();
  plan.n = params.n;
  plan.stream_interval = request.stream_interval;
  plan.created = UnixSeconds();
  plan.model = model.served_names.at(0);  // whatever name the request uses
  plan.role = options.response_role;
  plan.tokenizer = model.tokenizer;
  plan.detokenizer.skip_special_tokens = params.skip_special_tokens;
  plan.detokenizer.stop = params.stop;
  plan.detokenizer.include_stop_str_in_output = params.include_stop_str_in_output;
  plan.detokenizer.min_tokens = params.min_tokens;
  std::string suffix(request_id);
  if (suffix.empty() && IsPlainId(request.request_id)) suffix = request.request_id;
  plan.id = std::string(prefix) + (suffix.empty() ? RandomId() : suffix);
  return plan;
}

// Adds one prompt to the engine's requests and to the plan.
std::optional<ApiError> AddPrompt(const GenerationRequest& request,
                                  const std::shared_ptr<const sampling::SamplingParams>& params,
                                  std::vector<int32_t> ids, std::string echo_text,
                                  const ModelInfo& model, PreparedRequest* out) {
  if (auto error = Truncate(request, model, &ids)) return error;
  if (auto error = CheckPrompt(ids, model)) return error;
  const auto num_tokens = static_cast<int64_t>(ids.size());
  if (const int64_t room = model.max_model_len - num_tokens; params->min_tokens > room) {
    return BadParameter(
        fmt::format("min_tokens must be less than or equal to max_tokens={}, got {}.", room,
                    params->min_tokens),
        "min_tokens", std::to_string(params->min_tokens));
  }
  engine::Request engine_request;
  engine_request.id = fmt::format("{}-{}", out->plan.id, out->requests.size());
  engine_request.params = params;
  engine_request.priority = request.priority;
  engine_request.cache_salt = request.cache_salt;
  PromptPlan prompt;
  prompt.num_tokens = num_tokens;
  prompt.echo_text = std::move(echo_text);
  if (request.return_token_ids || params->prompt_logprobs) prompt.token_ids = ids;
  engine_request.prompt = std::move(ids);
  out->plan.prompts.push_back(std::move(prompt));
  out->requests.push_back(std::move(engine_request));
  return std::nullopt;
}

}  // namespace

Result<PreparedRequest> PrepareChat(std::string_view body, std::string_view request_id,
                                    const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(ChatRequest request, ParseChatRequest(body, options));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  API_ASSIGN_OR_RETURN(const auto params, SettleParams(&request, std::nullopt, model, options));
  PreparedRequest out;
  out.plan = BasePlan(request, *params, "chatcmpl-", request_id, model, options);
  out.plan.is_chat = true;
  API_ASSIGN_OR_RETURN(const std::string text, RenderChat(request.chat, model));
  API_ASSIGN_OR_RETURN(std::vector<int32_t> ids, Encode(text, request, model));
  std::string echo_text;
  const Json* last_role = request.chat.messages.back().Find("role");
  if (request.echo && *last_role->string() == options.response_role) {
    echo_text = FinalContent(request.chat);
  }
  API_RETURN_IF_ERROR(
      AddPrompt(request, params, std::move(ids), std::move(echo_text), model, &out));
  return out;
}

Result<PreparedRequest> PrepareCompletion(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(CompletionRequest request, ParseCompletionRequest(body, options));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  constexpr int64_t kDefaultMaxTokens = 16;
  API_ASSIGN_OR_RETURN(const auto params,
                       SettleParams(&request, kDefaultMaxTokens, model, options));
  PreparedRequest out;
  out.plan = BasePlan(request, *params, "cmpl-", request_id, model, options);
  out.plan.prompt_only = request.prompt_only;
  out.plan.echo_logprobs = request.echo && params->logprobs.has_value();
  for (PromptInput& input : request.prompts) {
    std::vector<int32_t> ids;
    std::string echo_text;
    if (auto* given = std::get_if<std::vector<int32_t>>(&input)) {
      ids = std::move(*given);
      if (request.echo) echo_text = model.tokenizer->Decode(ids, false);
    } else {
      auto& text = std::get<std::string>(input);
      API_ASSIGN_OR_RETURN(ids, Encode(text, request, model));
      if (request.echo) echo_text = std::move(text);
    }
    API_RETURN_IF_ERROR(
        AddPrompt(request, params, std::move(ids), std::move(echo_text), model, &out));
  }
  return out;
}

Result<PreparedRequest> PrepareInvocation(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options) {
  const Expected<Json> parsed = ParseJson(body);
  // What is no JSON object gets the usual errors.
  if (parsed && parsed->Find("messages") != nullptr) {
    return PrepareChat(body, request_id, model, options);
  }
  if (!parsed || parsed->object() == nullptr || parsed->Find("prompt") != nullptr) {
    return PrepareCompletion(body, request_id, model, options);
  }
  return Fail(BadRequest(
      "Cannot find suitable handler for request. Expected one of: ['ChatCompletionRequest', "
      "'CompletionRequest']"));
}

}  // namespace tiercel::api
