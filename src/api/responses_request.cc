#include "api/responses_request.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "api/bounds.h"
#include "api/fields.h"
#include "api/json_writer.h"
#include "api/responses_items.h"
#include "api/sampling_fields.h"
#include "base/log.h"

namespace tiercel::api {

namespace {

// Tools of the client; those that a server would run are left out, with a word in the log.
std::optional<ApiError> CheckFunction(const Json& tool, size_t index) {
  if (tool.FindString("name") == nullptr) return Fault(fmt::format("tools.{}.name", index), "expected a string.");
  const Json* parameters = tool.Find("parameters");
  if (!IsAbsent(parameters) && parameters->object() == nullptr) {
    return Fault(fmt::format("tools.{}.parameters", index), "expected an object.");
  }
  return std::nullopt;
}

std::optional<ApiError> SetTools(const Json& tools, Json* chat) {
  if (tools.array() == nullptr) return BadRequest("tools: expected a list.", "tools");
  Json::Array out;
  for (size_t i = 0; i < tools.array()->size(); ++i) {
    const Json& tool = (*tools.array())[i];
    const std::string* type = tool.FindString("type");
    if (type == nullptr || *type != "function") {
      LOG_WARNING("a tool of type '{}' is left out: only functions of the client are offered",
                  type != nullptr ? type->substr(0, 64) : "");
      continue;
    }
    if (auto error = CheckFunction(tool, i)) return error;
    Json::Object function;
    for (const char* key : {"name", "description", "parameters", "strict"}) {
      if (const Json* value = tool.Find(key); value != nullptr && !value->is_null()) {
        function.push_back({key, *value});
      }
    }
    out.push_back(Json::Of({{"type", Json("function")}, {"function", Json(std::move(function))}}));
  }
  if (!out.empty()) chat->Set("tools", Json(std::move(out)));
  return std::nullopt;
}

std::optional<ApiError> SetToolChoice(const Json& choice, Json* chat) {
  const std::string* word = choice.string();
  const std::string* name = choice.FindString("name");
  if (word != nullptr ? *word != "auto" && *word != "none" && *word != "required" : name == nullptr) {
    return BadParameter("tool_choice: expected 'auto', 'none', 'required', or a function with a 'name'.", "tool_choice",
                        choice.DumpStart(64));
  }
  if (chat->Find("tools") == nullptr) {
    // These come with no tools as well.
    if (word != nullptr && *word != "required") return std::nullopt;
    return BadRequest("When using `tool_choice`, `tools` must be set.", "tool_choice");
  }
  chat->Set("tool_choice", name == nullptr
                               ? choice
                               : Json::Of({{"type", Json("function")},
                                           {"function", Json::Of({{"name", Json(*name)}})}}));
  return std::nullopt;
}

// text.format: the members of a json_schema stand beside its type, where a chat's have an object.
std::optional<ApiError> SetFormat(Json& text, Json* chat) {
  Json* format = text.Find("format");
  if (format == nullptr || format->is_null()) return std::nullopt;
  const std::string* type = format->FindString("type");
  if (type == nullptr) return BadRequest("text.format: expected an object with a 'type'.", "text");
  if (*type != "json_schema") {
    chat->Set("response_format", std::move(*format));
    return std::nullopt;
  }
  Json schema{Json::Object{}};
  for (const char* key : {"name", "schema", "strict"}) {
    if (Json* value = format->Find(key)) schema.Set(key, std::move(*value));
  }
  chat->Set("response_format", Json::Of({{"type", Json("json_schema")}, {"json_schema", std::move(schema)}}));
  return std::nullopt;
}

// Refuses what no one has or runs here.
std::optional<ApiError> RefuseUnoffered(Fields& fields) {
  for (const char* name : {"conversation", "prompt"}) {
    if (fields.Any(name) != nullptr) {
      return NotOffered(fmt::format("`{}` is not supported. Send the conversation as `input`.", name), name);
    }
  }
  return std::nullopt;
}

std::optional<ApiError> CheckChoice(std::string_view name, const Json* value,
                                    std::initializer_list<std::string_view> choices) {
  if (value == nullptr || value->is_null()) return std::nullopt;
  const std::string* given = value->string();
  if (given != nullptr && std::find(choices.begin(), choices.end(), *given) != choices.end()) return std::nullopt;
  return BadParameter(fmt::format("`{}` must be one of {}.", name, fmt::join(choices, ", ")), std::string(name),
                      value->DumpStart(64));
}

// Of what is to be included, log-probabilities alone are there; the others belong to tools of a server.
std::optional<ApiError> SetInclude(Fields& fields, Json* chat) {
  bool logprobs = false;
  if (const Json* include = fields.Array("include", kMaxIncluded)) {
    for (const Json& value : *include->array()) {
      if (auto error = CheckChoice(
              "include", &value,
              {"message.output_text.logprobs", "reasoning.encrypted_content", "file_search_call.results",
               "web_search_call.results", "web_search_call.action.sources", "message.input_image.image_url",
               "computer_call_output.output.image_url", "code_interpreter_call.outputs"})) {
        return error;
      }
      const std::string* name = value.string();
      logprobs = logprobs || (name != nullptr && *name == "message.output_text.logprobs");
    }
  }
  const auto top = fields.Int("top_logprobs");
  if (!logprobs) return std::nullopt;  // top_logprobs alone has no effect, as in vLLM
  chat->Set("logprobs", Json(true));
  if (top) chat->Set("top_logprobs", Json(*top));
  return std::nullopt;
}

// What is checked and repeated, and changes nothing here; `truncation` does.
std::optional<ApiError> CheckRepeated(Fields& fields, Json* chat) {
  fields.Int("max_tool_calls");
  for (const char* name : {"metadata", "reasoning", "text"}) fields.Object(name);
  for (const char* name : {"user", "prompt_cache_key", "safety_identifier"}) {
    const Json* value = fields.Any(name);
    if (value != nullptr && value->string() == nullptr) {
      fields.Report("string_type", name, "Input should be a valid string", value);
    }
  }
  if (auto error = CheckChoice("service_tier", fields.Any("service_tier"),
                               {"auto", "default", "flex", "scale", "priority"})) {
    return error;
  }
  const Json* truncation = fields.Any("truncation");
  if (auto error = CheckChoice("truncation", truncation, {"auto", "disabled"})) return error;
  if (truncation != nullptr && *truncation->string() == "auto") {
    chat->Set("truncate_prompt_tokens", Json(int64_t{-1}));
  }
  if (const Json* text = fields.Any("text")) {
    return CheckChoice("text.verbosity", text->Find("verbosity"), {"low", "medium", "high"});
  }
  return std::nullopt;
}

// Whether and how the response is kept; its input is still to come.
Result<std::optional<KeepPlan>> ReadKeeping(Fields& fields, const ApiOptions& options) {
  const bool store = fields.Bool("store").value_or(true);
  const bool background = fields.Bool("background").value_or(false);
  if (background && !store) {
    return Fail(BadRequest("background can only be used when `store` is true", "background"));
  }
  if (background && options.response_store == nullptr) {
    return Fail(NotOffered("`background` needs responses that are kept: start the server with "
                           "VLLM_ENABLE_RESPONSES_API_STORE=1.",
                           "background"));
  }
  if (!store || options.response_store == nullptr) return std::nullopt;
  return KeepPlan{nullptr, background};
}

// The response that this one goes on from; null: none.
Result<ResponseStore::Kept> FindEarlier(Fields& fields, const ApiOptions& options) {
  const std::optional<std::string> id = fields.String("previous_response_id");
  if (!id) return nullptr;
  ResponseStore::Kept earlier = options.response_store != nullptr ? options.response_store->Find(*id) : nullptr;
  if (earlier == nullptr) return Fail(NoSuchResponse(*id));
  if (!earlier->ended()) {
    return Fail(BadRequest(fmt::format("The response '{}' has not ended yet. Ask for it until it has.", *id),
                           "previous_response_id"));
  }
  return earlier;
}

void AppendEcho(std::string_view key, const Json* value, std::string_view otherwise, std::string* out) {
  AppendJsonString(out, key);
  out->push_back(':');
  if (value != nullptr) {
    value->AppendTo(out);
  } else {
    out->append(otherwise);
  }
  out->push_back(',');
}

// What of the request is repeated.
void AppendEchoes(Fields& fields, bool kept, std::string* out) {
  AppendEcho("store", nullptr, kept ? "true" : "false", out);
  for (const auto& [key, otherwise] :
       {std::pair{"background", "false"}, {"instructions", "null"}, {"max_output_tokens", "null"},
        {"max_tool_calls", "null"}, {"metadata", "null"}, {"parallel_tool_calls", "true"},
        {"previous_response_id", "null"}, {"prompt_cache_key", "null"}, {"reasoning", "null"},
        {"safety_identifier", "null"}, {"service_tier", "\"auto\""}, {"text", "null"}, {"tool_choice", "\"auto\""},
        {"tools", "[]"}, {"top_logprobs", "0"}, {"truncation", "\"disabled\""}, {"user", "null"}}) {
    AppendEcho(key, fields.Any(key), otherwise, out);
  }
}

// The conversation: `input`, behind that of `earlier` if it is not null. Kept, if the response is.
Result<Json::Array> ReadMessages(Json input, const KeptResponse* earlier, ResponsesBody* out) {
  Json::Array items;
  if (input.string() != nullptr) {
    items.push_back(Json::Of({{"role", Json("user")}, {"content", std::move(input)}}));
  } else {
    items = std::move(*input.array());
  }
  const size_t num_given = items.size();
  if (earlier != nullptr) API_RETURN_IF_ERROR(PutConversationBefore(*earlier, &items));
  const size_t num_earlier = items.size() - num_given;
  Json conversation(std::move(items));
  if (out->keep) out->keep->input = std::make_shared<const std::string>(conversation.Dump());
  return MessagesOf(std::move(*conversation.array()), num_earlier);
}

}  // namespace

Result<ResponsesBody> ChatBodyOfResponses(Json body, const ApiOptions& options) {
  SchemaErrors errors;
  Fields fields(body, &errors);
  Json chat{Json::Object{}};
  ResponsesBody out;
  API_RETURN_IF_ERROR(RefuseUnoffered(fields));
  API_ASSIGN_OR_RETURN(out.keep, ReadKeeping(fields, options));
  AppendEchoes(fields, out.keep.has_value(), &out.echo);
  API_ASSIGN_OR_RETURN(const ResponseStore::Kept earlier, FindEarlier(fields, options));
  API_RETURN_IF_ERROR(SetInclude(fields, &chat));
  API_RETURN_IF_ERROR(CheckRepeated(fields, &chat));
  Json* const input = fields.Any("input");
  if (input == nullptr) fields.Report("missing", "input", "Field required");
  if (input != nullptr && input->string() == nullptr) fields.Array("input", kMaxMessages);
  if (!errors.empty()) return Fail(errors.ToError());

  API_ASSIGN_OR_RETURN(Json::Array messages, ReadMessages(std::move(*input), earlier.get(), &out));
  if (Json* instructions = fields.Any("instructions")) {
    if (instructions->string() == nullptr) {
      return Fail(BadParameter("instructions: expected a string.", "instructions", instructions->DumpStart(64)));
    }
    messages.insert(messages.begin(),
                    Json::Of({{"role", Json("system")}, {"content", std::move(*instructions)}}));
  }
  chat.Set("messages", Json(std::move(messages)));
  if (const Json* tools = fields.Any("tools")) API_RETURN_IF_ERROR(SetTools(*tools, &chat));
  if (const Json* choice = fields.Any("tool_choice")) API_RETURN_IF_ERROR(SetToolChoice(*choice, &chat));
  if (Json* text = fields.Any("text")) API_RETURN_IF_ERROR(SetFormat(*text, &chat));
  if (const Json* reasoning = fields.Any("reasoning")) {
    if (const Json* effort = reasoning->Find("effort"); effort != nullptr && !effort->is_null()) {
      chat.Set("reasoning_effort", *effort);
    }
  }
  if (Json* limit = fields.Any("max_output_tokens")) chat.Set("max_tokens", std::move(*limit));
  // These mean the same in both.
  for (const char* name :
       {"model", "temperature", "top_p", "top_k", "min_p", "stream", "parallel_tool_calls", "user", "stop",
        "stop_token_ids", "seed", "ignore_eos", "min_tokens", "skip_special_tokens", "presence_penalty",
        "frequency_penalty", "repetition_penalty", "logit_bias", "allowed_token_ids", "cache_salt", "priority",
        "structured_outputs", "thinking_token_budget", "chat_template_kwargs", "request_id"}) {
    if (Json* value = fields.Any(name)) chat.Set(name, std::move(*value));
  }
  if (!errors.empty()) return Fail(errors.ToError());
  NoteUnreadFields(fields);
  out.chat = std::move(chat);
  return out;
}

}  // namespace tiercel::api
