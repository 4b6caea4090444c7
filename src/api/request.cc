#include "api/request.h"

#include <algorithm>

#include "api/chat_messages.h"
#include "api/fields.h"
#include "api/json_reader.h"
#include "api/sampling_fields.h"
#include "api/structured_output.h"
#include "base/log.h"

namespace tiercel::api {

namespace {

constexpr std::string_view kNoPrompt =
    "Either prompt or prompt_embeds must be provided and non-empty.";

std::optional<std::vector<int32_t>> TokenList(const Json::Array& items, std::string_view path,
                                              Fields& fields) {
  std::vector<int32_t> ids;
  ids.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const int64_t* id = items[i].integer();
    if (id == nullptr) {
      fields.Report("int_type", fmt::format("{}.{}", path, i), "Input should be a valid integer",
                    &items[i]);
      return std::nullopt;
    }
    // Ids beyond int32 are out of every vocabulary; −1 says so to the later check.
    ids.push_back(*id < 0 || *id > INT32_MAX ? -1 : static_cast<int32_t>(*id));
  }
  return ids;
}

std::optional<ApiError> ReadCompletionLogprobs(Fields& fields, CompletionRequest* request) {
  const auto logprobs = fields.Int("logprobs");
  if (!logprobs) return std::nullopt;
  if (*logprobs < -1) {
    return BadParameter("`logprobs` must be a positive value or -1.", "logprobs",
                        std::to_string(*logprobs));
  }
  request->params.logprobs = static_cast<int>(std::min<int64_t>(*logprobs, INT32_MAX));
  return std::nullopt;
}

std::optional<ApiError> ReadChatLogprobs(Fields& fields, ChatRequest* request) {
  request->logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Int("top_logprobs");
  if (top) {
    if (*top < -1) {
      return BadParameter("`top_logprobs` must be a positive value or -1.", "top_logprobs",
                          std::to_string(*top));
    }
    if ((*top == -1 || *top > 0) && !request->logprobs) {
      return BadRequest("when using `top_logprobs`, `logprobs` must be set to true.",
                        "top_logprobs");
    }
    request->top_logprobs = static_cast<int>(std::min<int64_t>(*top, INT32_MAX));
  }
  if (request->logprobs) request->params.logprobs = request->top_logprobs;
  return std::nullopt;
}

// Which tools may, or must, be called; what must be, the answer's grammar says.
std::optional<ApiError> ReadTools(Fields& fields, const ApiOptions& options, ChatRequest* request) {
  Result<ToolChoice> choice = ReadToolChoice(fields, options, &request->chat);
  if (!choice) return std::move(choice).error();
  request->parse_tool_calls = choice->kind != ToolChoice::kNone;
  request->names_tool = choice->kind == ToolChoice::kNamed;
  if (choice->kind == ToolChoice::kNone) return std::nullopt;
  const bool must_call = choice->kind != ToolChoice::kAuto;
  // Calls that are forced have the form of the grammar that forces them.
  if (!must_call) request->tool_format = options.tool_format;
  if (must_call && request->grammar) {
    return BadRequest(
        "You can only either use constraints for structured outputs or tools, not both.",
        request->grammar_param);
  }
  if (must_call) {
    const bool several = !request->names_tool && request->parallel_tool_calls;
    request->grammar = ToolCallGrammar(request->chat.tools, choice->name, several, options);
    request->grammar_param = "tools";
  } else if (!request->grammar) {
    MaybeGrammar grammar = StrictToolGrammar(request->chat.tools, options);
    if (grammar && request->tool_format != text::ToolFormat::kHermes) {
      LOG_WARNING("`strict` of a function has no effect with this --tool-call-parser");
    } else {
      request->grammar = std::move(grammar);
      request->grammar_param = "tools";
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<ApiError> ReadPromptInputs(Fields& fields, std::string_view name,
                                         std::string_view missing, const ApiOptions& options,
                                         std::vector<PromptInput>* prompts) {
  const auto none = [&] { return BadRequest(std::string(missing), std::string(name)); };
  Json* prompt = fields.Any(name);
  if (prompt == nullptr) return none();
  if (std::string* text = prompt->string()) {
    prompts->push_back(std::move(*text));
  } else if (Json::Array* items = prompt->array()) {
    if (items->empty()) return none();
    if (items->front().integer() != nullptr) {
      if (auto ids = TokenList(*items, name, fields)) prompts->push_back(std::move(*ids));
      return std::nullopt;
    }
    if (static_cast<int>(items->size()) > options.max_completion_prompts) {
      return BadParameter(fmt::format("{} must have at most {} entries.", name,
                                      options.max_completion_prompts),
                          std::string(name), std::to_string(items->size()));
    }
    prompts->reserve(items->size());
    for (size_t i = 0; i < items->size(); ++i) {
      Json& item = (*items)[i];
      if (std::string* text = item.string()) {
        prompts->push_back(std::move(*text));
      } else if (const Json::Array* ids = item.array()) {
        auto list = TokenList(*ids, fmt::format("{}.{}", name, i), fields);
        if (!list) return std::nullopt;
        prompts->push_back(std::move(*list));
      } else {
        fields.Report("string_type", fmt::format("{}.{}", name, i),
                      "Input should be a valid string or list of token ids", &item);
        return std::nullopt;
      }
    }
  } else {
    fields.Report("string_type", name, "Input should be a valid string or list", prompt);
    return std::nullopt;
  }
  for (const PromptInput& input : *prompts) {
    if (std::visit([](const auto& v) { return v.empty(); }, input)) {
      return none();
    }
  }
  return std::nullopt;
}

Result<Json> ParseBody(std::string_view body) {
  Expected<Json> parsed = ParseJson(body);
  if (!parsed) return Fail({400, "Bad Request", parsed.error().message(), std::nullopt});
  if (parsed->object() == nullptr) {
    SchemaErrors errors;
    errors.Add("model_attributes_type", "", "Input should be a valid dictionary", &*parsed);
    return Fail(errors.ToError());
  }
  return std::move(*parsed);
}

Result<CompletionRequest> ReadCompletionRequest(Json json, const ApiOptions& options) {
  SchemaErrors errors;
  Fields fields(json, &errors);
  CompletionRequest request;
  if (fields.Any("prompt_embeds") != nullptr) {
    return Fail(BadRequest("`prompt_embeds` are not supported: send text or token ids.",
                           "prompt_embeds"));
  }
  API_RETURN_IF_ERROR(ReadGenerationFields(fields, options, &request));
  API_RETURN_IF_ERROR(ReadPromptInputs(fields, "prompt", kNoPrompt, options, &request.prompts));
  API_RETURN_IF_ERROR(ReadCompletionLogprobs(fields, &request));
  API_RETURN_IF_ERROR(RefuseUnofferedFields(fields));
  if (fields.Any("suffix") != nullptr) {
    return Fail(BadRequest("suffix is not currently supported", "suffix"));
  }
  request.echo = fields.Bool("echo").value_or(false);
  request.add_special_tokens = fields.Bool("add_special_tokens").value_or(true);
  request.max_tokens = fields.Int("max_tokens");
  if (request.echo && request.max_tokens && *request.max_tokens == 0) {
    request.prompt_only = true;
    request.max_tokens = 1;  // the engine computes the prompt for one token, which is dropped
  }
  // Echoed tokens have log probabilities as well.
  if (request.echo && request.params.logprobs && !request.params.prompt_logprobs) {
    request.params.prompt_logprobs = request.params.logprobs;
  }
  if (!errors.empty()) return Fail(errors.ToError());
  if (static_cast<int64_t>(request.prompts.size()) * request.params.n >
      options.max_completion_prompts) {
    return Fail(BadParameter(fmt::format("The prompts times n must be at most {}.",
                                         options.max_completion_prompts),
                             "n", std::to_string(request.params.n)));
  }
  NoteUnreadFields(fields);
  return request;
}

Result<ChatRequest> ReadChatRequest(Json json, const ApiOptions& options) {
  SchemaErrors errors;
  Fields fields(json, &errors);
  ChatRequest request;
  API_RETURN_IF_ERROR(ReadGenerationFields(fields, options, &request));
  API_RETURN_IF_ERROR(ReadChatInput(fields, options, &request.chat));
  API_RETURN_IF_ERROR(ReadChatLogprobs(fields, &request));
  API_RETURN_IF_ERROR(RefuseUnofferedFields(fields));
  if (!errors.empty()) return Fail(errors.ToError());
  request.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  API_RETURN_IF_ERROR(ReadTools(fields, options, &request));
  request.echo = fields.Bool("echo").value_or(false);
  request.add_special_tokens = fields.Bool("add_special_tokens").value_or(false);
  request.include_reasoning = fields.Bool("include_reasoning").value_or(true);
  // The newer name wins over the deprecated one.
  request.max_tokens = fields.Int("max_tokens");
  if (const auto limit = fields.Int("max_completion_tokens")) request.max_tokens = limit;
  for (const char* name : {"function_call", "functions"}) fields.Any(name);
  if (!errors.empty()) return Fail(errors.ToError());
  NoteUnreadFields(fields);
  return request;
}

Result<TokenizeRequest> ParseTokenizeRequest(std::string_view body, const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  SchemaErrors errors;
  Fields fields(json, &errors);
  TokenizeRequest request;
  request.model = fields.String("model").value_or("");
  if (fields.Any("messages") != nullptr) {
    request.chat.emplace();
    API_RETURN_IF_ERROR(ReadChatInput(fields, options, &*request.chat));
  } else {
    request.prompt = fields.String("prompt");
    if (!request.prompt && errors.empty()) fields.Report("missing", "prompt", "Field required");
  }
  request.add_special_tokens =
      fields.Bool("add_special_tokens").value_or(!request.chat.has_value());
  request.return_token_strs = fields.Bool("return_token_strs").value_or(false);
  if (!errors.empty()) return Fail(errors.ToError());
  NoteUnreadFields(fields);
  return request;
}

Result<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  SchemaErrors errors;
  Fields fields(json, &errors);
  DetokenizeRequest request;
  request.model = fields.String("model").value_or("");
  if (auto tokens = fields.Int32List("tokens")) {
    request.tokens = std::move(*tokens);
  } else if (errors.empty()) {
    fields.Report("missing", "tokens", "Field required");
  }
  if (!errors.empty()) return Fail(errors.ToError());
  NoteUnreadFields(fields);
  return request;
}

}  // namespace tiercel::api
