#include "api/messages_request.h"

#include <optional>
#include <string>
#include <utility>

#include "api/bounds.h"
#include "api/fields.h"

namespace tiercel::api {

namespace {

Json Message(std::string_view role, Json content) {
  return Json::Of({{"role", Json(role)}, {"content", std::move(content)}});
}

// {"type":"tool_use","id":…,"name":…,"input":{…}} as one of tool_calls.
Result<Json> ToolCall(Json& block) {
  if (block.FindString("name") == nullptr) {
    return Fail(BadRequest("A tool_use block must have a 'name'.", "messages"));
  }
  return Json::Of({{"id", block.Take("id")},
                   {"type", Json("function")},
                   {"function",
                    Json::Of({{"name", block.Take("name")}, {"arguments", block.Take("input")}})}});
}

Result<Json> ToolResult(Json& block) {
  if (block.FindString("tool_use_id") == nullptr) {
    return Fail(BadRequest("A tool_result block must have a 'tool_use_id'.", "messages"));
  }
  Json message = Message("tool", block.Take("content"));
  message.Set("tool_call_id", block.Take("tool_use_id"));
  return message;
}

// One message of the body, as one or several of a chat.
std::optional<ApiError> AddMessage(Json& message, size_t index, Json::Array* out) {
  const std::string* role = message.FindString("role");
  if (role == nullptr || (*role != "user" && *role != "assistant" && *role != "system")) {
    return BadRequest(fmt::format("messages.{}.role: expected 'user' or 'assistant'.", index),
                      "messages");
  }
  Json* content = message.Find("content");
  if (content == nullptr || (content->string() == nullptr && content->array() == nullptr)) {
    return BadRequest(fmt::format("messages.{}.content: expected a string or a list of blocks.", index),
                      "messages");
  }
  if (content->string() != nullptr) {
    out->push_back(Message(*role, std::move(*content)));
    return std::nullopt;
  }
  if (content->array()->size() > kMaxContentParts) {
    return BadRequest(fmt::format("messages.{}.content: has {} blocks, at most {} are taken.", index,
                                  content->array()->size(), kMaxContentParts),
                      "messages");
  }
  Json::Array parts, calls;
  std::string reasoning;
  bool has_results = false;
  for (Json& block : *content->array()) {
    const std::string* type = block.FindString("type");
    if (type == nullptr) return BadRequest("A content block must have a 'type'.", "messages");
    if (*type == "tool_use") {
      Result<Json> call = ToolCall(block);
      if (!call) return std::move(call).error();
      calls.push_back(std::move(*call));
    } else if (*type == "tool_result") {
      Result<Json> result = ToolResult(block);
      if (!result) return std::move(result).error();
      out->push_back(std::move(*result));
      has_results = true;
    } else if (*type == "thinking") {
      if (const std::string* thought = block.FindString("thinking")) reasoning += *thought;
    } else if (*type != "redacted_thinking") {
      parts.push_back(std::move(block));
    }
  }
  if (parts.empty() && calls.empty() && reasoning.empty() && has_results) return std::nullopt;
  Json chat = Message(*role, Json(std::move(parts)));
  if (!calls.empty()) chat.Set("tool_calls", Json(std::move(calls)));
  if (!reasoning.empty()) chat.Set("reasoning", Json(std::move(reasoning)));
  out->push_back(std::move(chat));
  return std::nullopt;
}

Result<Json> ChatTools(Json& tools) {
  if (tools.array() == nullptr) return Fail(BadRequest("tools: expected a list.", "tools"));
  Json::Array out;
  for (Json& tool : *tools.array()) {
    const std::string* type = tool.FindString("type");
    if (type != nullptr && *type != "custom") {
      return Fail(NotOffered(
          fmt::format("The tool '{}' is run by no one here: only tools of the client are offered.",
                      type->substr(0, 64)),
          "tools"));
    }
    Json::Object function;
    for (const auto& [from, to] : {std::pair{"name", "name"}, {"description", "description"},
                                   {"input_schema", "parameters"}}) {
      if (Json* value = tool.Find(from)) function.push_back({to, std::move(*value)});
    }
    out.push_back(Json::Of({{"type", Json("function")}, {"function", Json(std::move(function))}}));
  }
  return Json(std::move(out));
}

std::optional<ApiError> SetToolChoice(Json& choice, Json* chat) {
  const std::string* type = choice.FindString("type");
  if (type == nullptr) return BadRequest("tool_choice: expected an object with a 'type'.", "tool_choice");
  if (*type == "auto" || *type == "none") {
    chat->Set("tool_choice", Json(*type));
  } else if (*type == "any") {
    chat->Set("tool_choice", Json("required"));
  } else if (*type == "tool") {
    chat->Set("tool_choice", Json::Of({{"type", Json("function")},
                                       {"function", Json::Of({{"name", choice.Take("name")}})}}));
  } else {
    return BadParameter("tool_choice: expected a type of auto, any, tool or none.", "tool_choice",
                        type->substr(0, 64));
  }
  const Json* disable = choice.Find("disable_parallel_tool_use");
  if (disable != nullptr && disable->boolean() != nullptr) {
    chat->Set("parallel_tool_calls", Json(!*disable->boolean()));
  }
  return std::nullopt;
}

}  // namespace

Result<Json> ChatBodyOfMessages(Json body, bool needs_max_tokens) {
  SchemaErrors errors;
  Fields fields(body, &errors);
  if (needs_max_tokens && fields.Any("max_tokens") == nullptr) {
    fields.Report("missing", "max_tokens", "Field required");
  }
  Json* messages = fields.Array("messages", kMaxMessages);
  if (fields.Any("messages") == nullptr) fields.Report("missing", "messages", "Field required");
  if (!errors.empty()) return Fail(errors.ToError());

  Json chat{Json::Object{}};
  Json::Array chat_messages;
  if (Json* system = fields.Any("system")) chat_messages.push_back(Message("system", std::move(*system)));
  for (size_t i = 0; i < messages->array()->size(); ++i) {
    API_RETURN_IF_ERROR(AddMessage((*messages->array())[i], i, &chat_messages));
  }
  chat.Set("messages", Json(std::move(chat_messages)));
  Json* tools = fields.Any("tools");
  if (tools != nullptr && (tools->array() == nullptr || !tools->array()->empty())) {
    API_ASSIGN_OR_RETURN(Json chat_tools, ChatTools(*tools));
    chat.Set("tools", std::move(chat_tools));
    if (Json* choice = fields.Any("tool_choice")) API_RETURN_IF_ERROR(SetToolChoice(*choice, &chat));
  }
  if (const Json* thinking = fields.Any("thinking")) {
    const std::string* type = thinking->FindString("type");
    if (type == nullptr) return Fail(BadRequest("thinking: expected an object with a 'type'.", "thinking"));
    Json kwargs{Json::Object{}};
    kwargs.Set("enable_thinking", Json(*type != "disabled"));
    chat.Set("chat_template_kwargs", std::move(kwargs));
    if (const Json* budget = thinking->Find("budget_tokens")) {
      chat.Set("thinking_token_budget", *budget);
    }
  }
  if (Json* stops = fields.Any("stop_sequences")) chat.Set("stop", std::move(*stops));
  // These mean the same in both.
  for (const char* name : {"model", "max_tokens", "temperature", "top_p", "top_k", "stream",
                           "chat_template_kwargs"}) {
    if (Json* value = fields.Any(name)) chat.Set(name, std::move(*value));
  }
  return chat;
}

}  // namespace tiercel::api
