#include "api/prepare.h"

#include <algorithm>

#include "api/bounds.h"
#include "api/constraints.h"
#include "api/messages_request.h"
#include "api/names.h"
#include "api/own_names.h"
#include "api/prompt_text.h"
#include "api/render_chat.h"
#include "api/responses_request.h"
#include "api/sampling_fields.h"
#include "api/tool_types.h"
#include "text/reasoning_parser.h"

namespace tiercel::api {

namespace {

constexpr int64_t kOutputTokens = 1;  // for which a prompt must leave room

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
    if (name == status.param()) return BadParameter(status.message(), name, value);
  }
  return FromStatus(status);
}

// The parameters that every prompt and sample of the body share: settled, encoded and checked once,
// before any prompt is tokenized.
Result<std::shared_ptr<sampling::SamplingParams>> SettleParams(
    GenerationRequest* request, std::optional<int64_t> fallback_max_tokens, const ModelInfo& model,
    const ApiOptions& options) {
  if (request->params.use_beam_search) API_RETURN_IF_ERROR(CheckBeamSearch(*request));
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

// What restricts the samples beyond their parameters, if anything does.
std::optional<ApiError> SettleConstraint(const GenerationRequest& request, bool thinks,
                                         const ModelInfo& model, const ApiOptions& options,
                                         sampling::SamplingParams* params) {
  ConstraintOptions constraint;
  constraint.thinks = thinks && !(request.grammar && options.enable_in_reasoning);
  constraint.thinking_budget = request.thinking_token_budget;
  constraint.tokenizer = model.tokenizer;
  constraint.vocab_size = model.vocab_size;
  if (request.grammar) {
    auto grammar = model.grammars->Compile(*request.grammar);
    if (!grammar && grammar.error().code() == StatusCode::kInvalidArgument) {
      return BadRequest(fmt::format("The grammar of `{}` cannot be used: {}", request.grammar_param,
                                    grammar.error().message()),
                        request.grammar_param);
    }
    if (!grammar) return FromStatus(grammar.error());
    constraint.grammar = std::move(*grammar);
  }
  auto made = MakeConstraint(std::move(constraint));
  if (!made) return BadRequest(made.error().message(), "thinking_token_budget");
  params->constraint = std::move(*made);
  return std::nullopt;
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
  plan.tokenizer = model.tokenizer;
  plan.detokenizer.skip_special_tokens = params.skip_special_tokens;
  plan.detokenizer.stop = text::StopStrings(params.stop);
  plan.detokenizer.include_stop_str_in_output = params.include_stop_str_in_output;
  plan.detokenizer.min_tokens = params.min_tokens;
  plan.id = AnswerId(prefix, request_id, request.request_id);
  return plan;
}

// Adds one prompt to the engine's requests and to the plan.
std::optional<ApiError> AddPrompt(const GenerationRequest& request,
                                  const std::shared_ptr<const sampling::SamplingParams>& params,
                                  std::vector<int32_t> ids, std::string echo_text,
                                  const ModelInfo& model, PreparedRequest* out) {
  const auto num_tokens = static_cast<int64_t>(ids.size());
  if (const int64_t room = model.max_model_len - num_tokens; params->min_tokens > room) {
    return BadParameter(
        fmt::format("min_tokens must be less than or equal to max_tokens={}, got {}.", room,
                    params->min_tokens),
        "min_tokens", std::to_string(params->min_tokens));
  }
  engine::Request& engine_request = out->Add(request, std::move(ids));
  engine_request.params = params;
  PromptPlan& prompt = out->plan.prompts.back();
  prompt.echo_text = std::move(echo_text);
  if (request.return_token_ids || params->prompt_logprobs) prompt.token_ids = engine_request.prompt;
  return std::nullopt;
}

// What of a prompt the answer repeats in each of its n samples, in bytes of JSON.
int64_t RepeatedBytes(const PromptPlan& prompt, const ResponsePlan& plan) {
  constexpr int64_t kBytesPerId = 7;
  constexpr int64_t kBytesPerEntry = 32;  // of a token's log-probabilities
  auto bytes = static_cast<int64_t>(prompt.echo_text.size());
  if (plan.return_token_ids) bytes += prompt.num_tokens * kBytesPerId;
  if (plan.echo_logprobs) {
    bytes += prompt.num_tokens * (plan.logprobs.value_or(0) + 1) * kBytesPerEntry;
  }
  return bytes * plan.n;
}

// Whether the answer begins with thought; nullopt without a reasoning parser.
std::optional<bool> Thinks(const ChatInput& chat, std::string_view prompt,
                           ReasoningFormat format) {
  if (format == ReasoningFormat::kNone) return std::nullopt;
  // The begun message goes on: it is seen as far as it goes.
  if (chat.continue_final_message) return text::BeginsWithThought(FinalContent(chat), false);
  const auto kwarg = std::find_if(chat.template_kwargs.begin(), chat.template_kwargs.end(),
                                  [](const auto& member) { return member.key == "enable_thinking"; });
  const bool off = kwarg != chat.template_kwargs.end() && kwarg->value.boolean() != nullptr &&
                   !*kwarg->value.boolean();
  return text::BeginsWithThought(prompt, format == ReasoningFormat::kDeepSeekR1 || !off);
}

std::string_view IdPrefix(Protocol protocol) {
  switch (protocol) {
    case Protocol::kMessages: return "msg_";
    case Protocol::kResponses: return "resp_";
    case Protocol::kChat: return "chatcmpl-";
    case Protocol::kCompletions:
    case Protocol::kPooling: break;  // has those of its endpoints
  }
  return "cmpl-";
}

// What all conversations of a body share.
ResponsePlan ChatPlan(const ChatRequest& request, const sampling::SamplingParams& params, Protocol protocol,
                      std::string_view request_id, const ModelInfo& model, const ApiOptions& options) {
  ResponsePlan plan = BasePlan(request, params, IdPrefix(protocol), request_id, model, options);
  plan.protocol = protocol;
  plan.include_reasoning = request.include_reasoning;
  if (request.parse_tool_calls) {
    plan.max_tool_calls = request.parallel_tool_calls ? kMaxTools : 1;
    plan.names_tool = request.names_tool;
    plan.tool_format = request.tool_format;
    if (plan.tool_format == text::ToolFormat::kQwen3Coder) {
      plan.tool_types = MakeToolTypes(request.chat.tools);
    }
  }
  return plan;
}

// Adds the request's conversation. `params` get what restricts its answer.
std::optional<ApiError> AddChat(const ChatRequest& request,
                                const std::shared_ptr<sampling::SamplingParams>& params,
                                const ModelInfo& model, const ApiOptions& options,
                                PreparedRequest* out) {
  Result<std::string> text = RenderChat(request.chat, model);
  if (!text) return std::move(text).error();
  const std::optional<bool> thinks = Thinks(request.chat, *text, options.reasoning);
  if (auto error = SettleConstraint(request, thinks.value_or(false), model, options, params.get())) {
    return error;
  }
  Result<std::vector<int32_t>> ids = PromptIds(std::move(*text), request, kOutputTokens, model);
  if (!ids) return std::move(ids).error();
  const std::string& last_role = *request.chat.messages.back().Find("role")->string();
  // Without a generation prompt the answer goes on with the last message.
  std::string role = request.chat.add_generation_prompt ? options.response_role : last_role;
  std::string echo_text;
  if (request.echo && last_role == role) echo_text = FinalContent(request.chat);
  if (auto error = AddPrompt(request, params, std::move(*ids), std::move(echo_text), model, out)) {
    return error;
  }
  PromptPlan& prompt = out->plan.prompts.back();
  prompt.role = std::move(role);
  prompt.thinks = thinks;
  return std::nullopt;
}

// `protocol`: of the answer, any but kCompletions.
Result<PreparedRequest> PrepareChatBody(Json body, Protocol protocol, std::string_view request_id,
                                        const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(ChatRequest request, ReadChatRequest(std::move(body), options));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  API_ASSIGN_OR_RETURN(const auto params, SettleParams(&request, std::nullopt, model, options));
  PreparedRequest out;
  out.plan = ChatPlan(request, *params, protocol, request_id, model, options);
  API_RETURN_IF_ERROR(AddChat(request, params, model, options, &out));
  return out;
}

// What a batch has beside its conversations is read for each of them: bounded, all together.
std::optional<ApiError> CheckBatch(const Json& shared, const Json::Array* conversations,
                                   const ApiOptions& options) {
  if (conversations == nullptr || conversations->empty()) {
    return BadRequest("`messages` must be a list of conversations, at least one.", "messages");
  }
  const auto count = static_cast<int64_t>(conversations->size());
  if (count > options.max_completion_prompts) {
    return BadParameter(
        fmt::format("messages must have at most {} entries.", options.max_completion_prompts),
        "messages", std::to_string(count));
  }
  constexpr int64_t kOwnBytes = 1024;
  if ((static_cast<int64_t>(shared.StringBytes()) + kOwnBytes) * count >
      static_cast<int64_t>(kMaxChatInputBytes)) {
    return BadRequest(fmt::format("Fields of a batch that apply to each of its {} conversations are too "
                                  "large. Send fewer conversations.",
                                  count),
                      "messages");
  }
  const auto is_set = [&](const char* name) {
    const Json* value = shared.Find(name);
    return value != nullptr && !value->is_null() && !(value->boolean() != nullptr && !*value->boolean());
  };
  for (const char* name : {"stream", "tools"}) {
    if (is_set(name)) {
      return BadRequest(fmt::format("`{}` is not supported for batches of conversations.", name), name);
    }
  }
  const Json* n = shared.Find("n");
  if (n != nullptr && !n->is_null() && (n->integer() == nullptr || *n->integer() != 1)) {
    return BadRequest("`n` must be 1 for batches of conversations.", "n");
  }
  return std::nullopt;
}

Result<PreparedRequest> PrepareCompletionBody(Json body, std::string_view request_id,
                                              const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(CompletionRequest request, ReadCompletionRequest(std::move(body), options));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  constexpr int64_t kDefaultMaxTokens = 16;
  API_ASSIGN_OR_RETURN(const auto params,
                       SettleParams(&request, kDefaultMaxTokens, model, options));
  API_RETURN_IF_ERROR(SettleConstraint(request, /*thinks=*/false, model, options, params.get()));
  PreparedRequest out;
  out.plan = BasePlan(request, *params, IdPrefix(Protocol::kCompletions), request_id, model, options);
  out.plan.prompt_only = request.prompt_only;
  out.plan.echo_logprobs = request.echo && params->logprobs.has_value();
  int64_t repeated_bytes = 0;
  for (PromptInput& input : request.prompts) {
    std::string echo_text;
    const bool is_text = std::holds_alternative<std::string>(input);
    if (request.echo && is_text && !request.truncate_prompt_tokens) {
      echo_text = std::get<std::string>(input);
    }
    API_ASSIGN_OR_RETURN(std::vector<int32_t> ids, PromptIds(std::move(input), request, kOutputTokens, model));
    if (request.echo && echo_text.empty()) echo_text = model.tokenizer->Decode(ids, false);
    API_RETURN_IF_ERROR(
        AddPrompt(request, params, std::move(ids), std::move(echo_text), model, &out));
    repeated_bytes += RepeatedBytes(out.plan.prompts.back(), out.plan);
    if (repeated_bytes > kMaxRepeatedPromptBytes) {
      return Fail(BadParameter(
          fmt::format("The answer would repeat its prompts in about {} bytes, at most {} are given. "
                      "Ask for fewer samples or prompts, or without `echo`.",
                      repeated_bytes, kMaxRepeatedPromptBytes),
          "n", std::to_string(out.plan.n)));
    }
  }
  return out;
}

}  // namespace

engine::Request& PreparedRequest::Add(const RequestBase& request, std::vector<int32_t> ids) {
  PromptPlan& prompt = plan.prompts.emplace_back();
  prompt.num_tokens = std::ssize(ids);
  const std::string id = fmt::format("{}-{}", plan.id, requests.size());
  engine::Request& added = requests.emplace_back();
  added.id = id;
  added.prompt = std::move(ids);
  added.priority = request.priority;
  added.cache_salt = request.cache_salt;
  return added;
}

Result<PreparedRequest> PrepareChat(std::string_view body, std::string_view request_id,
                                    const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  return PrepareChatBody(std::move(json), Protocol::kChat, request_id, model, options);
}

Result<PreparedRequest> PrepareChatBatch(std::string_view body, std::string_view request_id,
                                         const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json shared, ParseBody(body));
  Json conversations = shared.Take("messages");
  shared.Erase("messages");
  API_RETURN_IF_ERROR(CheckBatch(shared, conversations.array(), options));
  PreparedRequest out;
  for (Json& conversation : *conversations.array()) {
    Json one = shared;
    one.Set("messages", std::move(conversation));
    API_ASSIGN_OR_RETURN(ChatRequest request, ReadChatRequest(std::move(one), options));
    API_RETURN_IF_ERROR(CheckModel(request.model, model));
    API_ASSIGN_OR_RETURN(const auto params, SettleParams(&request, std::nullopt, model, options));
    if (out.requests.empty()) {
      out.plan = ChatPlan(request, *params, Protocol::kChat, request_id, model, options);
    }
    API_RETURN_IF_ERROR(AddChat(request, params, model, options, &out));
  }
  return out;
}

Result<PreparedRequest> PrepareMessages(std::string_view body, std::string_view request_id,
                                        const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  API_ASSIGN_OR_RETURN(Json chat, ChatBodyOfMessages(std::move(json), /*needs_max_tokens=*/true, options));
  // Clients send it to whichever model: one whose thought is not told apart has none to bound.
  if (options.reasoning == ReasoningFormat::kNone) chat.Erase("thinking_token_budget");
  return PrepareChatBody(std::move(chat), Protocol::kMessages, request_id, model, options);
}

// Where a response's fields have other names than a chat's.
constexpr OwnName kNamesOfResponses[] = {{"max_tokens", "max_output_tokens"}, {"messages", "input"},
                                         {"response_format", "text.format"}, {"reasoning_effort", "reasoning.effort"},
                                         {"logprobs", "top_logprobs"}};

Result<PreparedRequest> PrepareResponses(std::string_view body, std::string_view request_id,
                                         const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  API_ASSIGN_OR_RETURN(ResponsesBody responses, ChatBodyOfResponses(std::move(json), options));
  Result<PreparedRequest> chat =
      PrepareChatBody(std::move(responses.chat), Protocol::kResponses, request_id, model, options);
  if (!chat) return Fail(InOwnNames(std::move(chat).error(), kNamesOfResponses));
  PreparedRequest prepared = std::move(*chat);
  // What is not given shows what is sampled with, as in vLLM.
  const sampling::SamplingParams& params = *prepared.requests[0].params;
  prepared.plan.echo =
      fmt::format(R"({}"temperature":{},"top_p":{},)", responses.echo, params.temperature, params.top_p);
  prepared.plan.keep = std::move(responses.keep);
  return prepared;
}

Result<std::string> CountTokensBody(std::string_view body, const ModelInfo& model,
                                    const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  API_ASSIGN_OR_RETURN(Json chat, ChatBodyOfMessages(std::move(json), /*needs_max_tokens=*/false, options));
  chat.Erase("thinking_token_budget");
  API_ASSIGN_OR_RETURN(const PreparedRequest prepared,
                       PrepareChatBody(std::move(chat), Protocol::kMessages, "", model, options));
  return fmt::format(R"({{"input_tokens":{}}})", prepared.plan.prompts[0].num_tokens);
}

Result<PreparedRequest> PrepareCompletion(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  return PrepareCompletionBody(std::move(json), request_id, model, options);
}

Result<PreparedRequest> PrepareInvocation(std::string_view body, std::string_view request_id,
                                          const ModelInfo& model, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  const auto is_given = [&json](const char* name) {
    const Json* value = json.Find(name);
    return value != nullptr && !value->is_null();
  };
  if (is_given("messages")) {
    return PrepareChatBody(std::move(json), Protocol::kChat, request_id, model, options);
  }
  if (is_given("prompt")) {
    return PrepareCompletionBody(std::move(json), request_id, model, options);
  }
  return Fail(BadRequest(
      "Cannot find suitable handler for request. Expected one of: ['ChatCompletionRequest', "
      "'CompletionRequest']"));
}

}  // namespace tiercel::api
