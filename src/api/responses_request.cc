#include "api/responses_request.h"

#include <optional>
#include <string_view>
#include <utility>

#include "api/bounds.h"
#include "api/fields.h"
#include "api/json_writer.h"
#include "api/sampling_fields.h"
#include "base/log.h"

namespace tiercel::api {

namespace {

ApiError InputFault(size_t index, std::string_view what) {
  return BadRequest(fmt::format("input.{}: {}", index, what), "input");
}

// The items of an input become messages: thought and calls belong to the assistant's message that they
// stand beside.
class InputReader {
 public:
  std::optional<ApiError> Read(Json& item, size_t index) {
    const std::string* given_type = item.FindString("type");
    const std::string type = given_type != nullptr ? *given_type : "message";
    if (type == "message") return ReadMessage(item, index);
    if (type == "reasoning") return ReadReasoning(item);
    if (type == "function_call") return ReadCall(item, index);
    if (type == "function_call_output") return ReadOutput(item, index);
    return InputFault(index, fmt::format("an item of type '{}' is not supported; offered: message, "
                                         "reasoning, function_call, function_call_output.",
                                         type.substr(0, 64)));
  }

  Json::Array Take() {
    CloseAssistant();
    return std::move(messages_);
  }

 private:
  std::optional<ApiError> ReadMessage(Json& item, size_t index) {
    const std::string* role = item.FindString("role");
    if (role == nullptr) return InputFault(index, "a message must have a `role`.");
    if (*role != "assistant") {
      CloseAssistant();
      messages_.push_back(Json::Of({{"role", Json(*role)}, {"content", item.Take("content")}}));
      return std::nullopt;
    }
    if (!content_.is_null() || !calls_.empty()) CloseAssistant();
    content_ = item.Take("content");
    return std::nullopt;
  }

  // Its text, or what stands for it where the text is not told.
  std::optional<ApiError> ReadReasoning(const Json& item) {
    if (!content_.is_null() || !calls_.empty()) CloseAssistant();
    for (const char* key : {"content", "summary"}) {
      const Json* parts = item.Find(key);
      if (parts == nullptr || parts->array() == nullptr) continue;
      for (const Json& part : *parts->array()) {
        if (const std::string* text = part.FindString("text")) reasoning_ += *text;
      }
      if (!reasoning_.empty()) break;
    }
    return std::nullopt;
  }

  std::optional<ApiError> ReadCall(Json& item, size_t index) {
    if (item.FindString("name") == nullptr || item.FindString("arguments") == nullptr) {
      return InputFault(index, "a function_call must have a `name` and `arguments`.");
    }
    if (calls_.size() >= kMaxTools) return InputFault(index, "too many calls in one message.");
    calls_.push_back(
        Json::Of({{"id", item.Take("call_id")},
                  {"type", Json("function")},
                  {"function",
                   Json::Of({{"name", item.Take("name")}, {"arguments", item.Take("arguments")}})}}));
    return std::nullopt;
  }

  std::optional<ApiError> ReadOutput(Json& item, size_t index) {
    if (item.FindString("call_id") == nullptr) {
      return InputFault(index, "a function_call_output must have a `call_id`.");
    }
    CloseAssistant();
    messages_.push_back(Json::Of({{"role", Json("tool")},
                                   {"content", item.Take("output")},
                                   {"tool_call_id", item.Take("call_id")}}));
    return std::nullopt;
  }

  void CloseAssistant() {
    if (content_.is_null() && calls_.empty() && reasoning_.empty()) return;
    Json message = Json::Of({{"role", Json("assistant")}});
    message.Set("content", std::exchange(content_, Json()));
    if (!reasoning_.empty()) message.Set("reasoning", Json(std::exchange(reasoning_, {})));
    if (!calls_.empty()) message.Set("tool_calls", Json(std::exchange(calls_, {})));
    messages_.push_back(std::move(message));
  }

  Json::Array messages_;
  // Of the assistant's message that is being read.
  std::string reasoning_;
  Json content_;
  Json::Array calls_;
};

std::optional<ApiError> ReadInput(Fields& fields, Json::Array* messages) {
  Json* input = fields.Any("input");
  if (input == nullptr) {
    fields.Report("missing", "input", "Field required");
    return std::nullopt;
  }
  if (input->string() != nullptr) {
    messages->push_back(Json::Of({{"role", Json("user")}, {"content", std::move(*input)}}));
    return std::nullopt;
  }
  Json* items = fields.Array("input", kMaxMessages);
  if (items == nullptr) return std::nullopt;
  InputReader reader;
  for (size_t i = 0; i < items->array()->size(); ++i) {
    if (auto error = reader.Read((*items->array())[i], i)) return error;
  }
  for (Json& message : reader.Take()) messages->push_back(std::move(message));
  return std::nullopt;
}

// Tools of the client; those that a server would run are left out, with a word in the log.
std::optional<ApiError> SetTools(const Json& tools, Json* chat) {
  if (tools.array() == nullptr) return BadRequest("tools: expected a list.", "tools");
  Json::Array out;
  for (const Json& tool : *tools.array()) {
    const std::string* type = tool.FindString("type");
    if (type == nullptr || *type != "function") {
      LOG_WARNING("a tool of type '{}' is left out: only functions of the client are offered",
                  type != nullptr ? type->substr(0, 64) : "");
      continue;
    }
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

void SetToolChoice(const Json& choice, Json* chat) {
  if (chat->Find("tools") == nullptr) return;  // "auto" comes with no tools as well
  const std::string* name = choice.FindString("name");
  chat->Set("tool_choice", name == nullptr
                               ? choice
                               : Json::Of({{"type", Json("function")},
                                           {"function", Json::Of({{"name", Json(*name)}})}}));
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

// Refuses what needs responses that are kept, or what no one runs here.
std::optional<ApiError> RefuseUnoffered(Fields& fields) {
  for (const char* name : {"previous_response_id", "conversation", "prompt"}) {
    if (fields.Any(name) != nullptr) {
      return NotOffered(fmt::format("`{}` is not supported: responses are not kept. Send the whole "
                                    "conversation as `input`.",
                                    name),
                        name);
    }
  }
  if (fields.Bool("background").value_or(false)) {
    return NotOffered("`background` is not supported: responses are not kept.", "background");
  }
  const auto logprobs = fields.Int("top_logprobs");
  if (logprobs && *logprobs != 0) {
    return NotOffered("`top_logprobs` is not supported for responses; chat completions have them.",
                      "top_logprobs");
  }
  return std::nullopt;
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

}  // namespace

Result<ResponsesBody> ChatBodyOfResponses(Json body) {
  SchemaErrors errors;
  Fields fields(body, &errors);
  API_RETURN_IF_ERROR(RefuseUnoffered(fields));
  for (const char* name : {"text", "reasoning"}) fields.Object(name);
  ResponsesBody out;
  for (const auto& [key, otherwise] :
       {std::pair{"instructions", "null"}, {"max_output_tokens", "null"}, {"metadata", "null"},
        {"parallel_tool_calls", "true"}, {"reasoning", "null"}, {"store", "false"}, {"temperature", "null"},
        {"text", "null"}, {"tool_choice", "\"auto\""}, {"tools", "[]"}, {"top_p", "null"},
        {"truncation", "\"disabled\""}, {"user", "null"}}) {
    AppendEcho(key, fields.Any(key), otherwise, &out.echo);
  }
  out.echo += R"("background":false,"previous_response_id":null,"error":null,)";

  Json chat{Json::Object{}};
  Json::Array messages;
  if (Json* instructions = fields.Any("instructions")) {
    messages.push_back(Json::Of({{"role", Json("system")}, {"content", std::move(*instructions)}}));
  }
  API_RETURN_IF_ERROR(ReadInput(fields, &messages));
  if (!errors.empty()) return Fail(errors.ToError());
  chat.Set("messages", Json(std::move(messages)));
  if (const Json* tools = fields.Any("tools")) API_RETURN_IF_ERROR(SetTools(*tools, &chat));
  if (const Json* choice = fields.Any("tool_choice")) SetToolChoice(*choice, &chat);
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
