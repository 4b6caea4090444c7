#include "api/messages_request.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "api/bounds.h"
#include "api/fields.h"
#include "api/sampling_fields.h"

namespace tiercel::api {

namespace {

// Faults are found here, as far as the chat's reader would name them by its own fields and places: "messages.3" of a
// chat may be "messages.1" of this body, and "messages.0" its `system`.

Json Message(std::string_view role, Json content) {
  return Json::Of({{"role", Json(role)}, {"content", std::move(content)}});
}

// A text block; what else there is to see or to hear is not offered.
std::optional<ApiError> CheckTextBlock(const Json& block, std::string_view path) {
  const std::string* type = block.FindString("type");
  if (type == nullptr) return Fault(path, "a content block must have a 'type'.");
  if (*type != "text") {
    return Fault(path, fmt::format("blocks of type '{}' are not supported: the model is text only.",
                                   type->substr(0, 64)));
  }
  if (block.FindString("text") == nullptr) return Fault(fmt::format("{}.text", path), "expected a string.");
  return std::nullopt;
}

std::optional<ApiError> CheckBlockCount(const Json::Array& blocks, std::string_view path) {
  if (blocks.size() <= kMaxContentParts) return std::nullopt;
  return Fault(path, fmt::format("has {} blocks, at most {} are taken.", blocks.size(), kMaxContentParts));
}

// A text, or a list of text blocks.
std::optional<ApiError> CheckText(const Json& content, std::string_view path) {
  if (content.string() != nullptr) return std::nullopt;
  const Json::Array* blocks = content.array();
  if (blocks == nullptr) return Fault(path, "expected a string or a list of text blocks.");
  if (auto error = CheckBlockCount(*blocks, path)) return error;
  for (size_t i = 0; i < blocks->size(); ++i) {
    if (auto error = CheckTextBlock((*blocks)[i], fmt::format("{}.{}", path, i))) return error;
  }
  return std::nullopt;
}

// {"type":"tool_use","id":…,"name":…,"input":{…}} as one of tool_calls.
Result<Json> ToolCall(Json& block, std::string_view path) {
  if (block.FindString("name") == nullptr) return Fail(Fault(path, "a tool_use block must have a 'name'."));
  const Json* input = block.Find("input");
  if (!IsAbsent(input) && input->object() == nullptr) {
    return Fail(Fault(fmt::format("{}.input", path), "expected an object."));
  }
  return Json::Of({{"id", block.Take("id")},
                   {"type", Json("function")},
                   {"function",
                    Json::Of({{"name", block.Take("name")}, {"arguments", block.Take("input")}})}});
}

Result<Json> ToolResult(Json& block, std::string_view path) {
  const std::string* id = block.FindString("tool_use_id");
  if (id == nullptr) return Fail(Fault(path, "a tool_result block must have a 'tool_use_id'."));
  if (id->size() > kMaxRoleBytes) {
    return Fail(Fault(fmt::format("{}.tool_use_id", path),
                      fmt::format("has {} bytes, at most {} are taken.", id->size(), kMaxRoleBytes)));
  }
  if (const Json* content = block.Find("content"); !IsAbsent(content)) {
    API_RETURN_IF_ERROR(CheckText(*content, fmt::format("{}.content", path)));
  }
  Json message = Message("tool", block.Take("content"));
  message.Set("tool_call_id", block.Take("tool_use_id"));
  return message;
}

// One message of the body, as one or several of a chat.
std::optional<ApiError> AddMessage(Json& message, size_t index, Json::Array* out) {
  const std::string path = fmt::format("messages.{}", index);
  const std::string* role = message.FindString("role");
  if (role == nullptr || (*role != "user" && *role != "assistant" && *role != "system")) {
    return Fault(path + ".role", "expected 'user' or 'assistant'.");
  }
  const std::string content_path = path + ".content";
  Json* content = message.Find("content");
  if (content == nullptr || (content->string() == nullptr && content->array() == nullptr)) {
    return Fault(content_path, "expected a string or a list of blocks.");
  }
  if (content->string() != nullptr) {
    out->push_back(Message(*role, std::move(*content)));
    return std::nullopt;
  }
  if (auto error = CheckBlockCount(*content->array(), content_path)) return error;
  Json::Array parts, calls;
  std::string reasoning;
  bool has_results = false;
  for (size_t i = 0; i < content->array()->size(); ++i) {
    Json& block = (*content->array())[i];
    const std::string block_path = fmt::format("{}.{}", content_path, i);
    const std::string* type = block.FindString("type");
    if (type != nullptr && *type == "tool_use") {
      Result<Json> call = ToolCall(block, block_path);
      if (!call) return std::move(call).error();
      calls.push_back(std::move(*call));
    } else if (type != nullptr && *type == "tool_result") {
      Result<Json> result = ToolResult(block, block_path);
      if (!result) return std::move(result).error();
      out->push_back(std::move(*result));
      has_results = true;
    } else if (type != nullptr && *type == "thinking") {
      if (const std::string* thought = block.FindString("thinking")) reasoning += *thought;
    } else if (type == nullptr || *type != "redacted_thinking") {
      if (auto error = CheckTextBlock(block, block_path)) return error;
      parts.push_back(std::move(block));
    }
  }
  if (calls.size() > kMaxTools) {
    return Fault(content_path, fmt::format("has {} calls, at most {} are taken.", calls.size(), kMaxTools));
  }
  if (parts.empty() && calls.empty() && reasoning.empty() && has_results) return std::nullopt;
  Json chat = Message(*role, Json(std::move(parts)));
  if (!calls.empty()) chat.Set("tool_calls", Json(std::move(calls)));
  if (!reasoning.empty()) chat.Set("reasoning", Json(std::move(reasoning)));
  out->push_back(std::move(chat));
  return std::nullopt;
}

Result<Json> ChatTool(Json& tool, std::string_view path) {
  const std::string* type = tool.FindString("type");
  if (type != nullptr && *type != "custom") {
    return Fail(NotOffered(
        fmt::format("The tool '{}' is run by no one here: only tools of the client are offered.",
                    type->substr(0, 64)),
        "tools"));
  }
  if (tool.FindString("name") == nullptr) return Fail(Fault(fmt::format("{}.name", path), "expected a string."));
  const Json *description = tool.Find("description"), *schema = tool.Find("input_schema");
  if (!IsAbsent(description) && description->string() == nullptr) {
    return Fail(Fault(fmt::format("{}.description", path), "expected a string."));
  }
  if (!IsAbsent(schema) && schema->object() == nullptr) {
    return Fail(Fault(fmt::format("{}.input_schema", path), "expected an object."));
  }
  Json::Object function;
  for (const auto& [from, to] : {std::pair{"name", "name"}, {"description", "description"},
                                 {"input_schema", "parameters"}}) {
    if (Json* value = tool.Find(from)) function.push_back({to, std::move(*value)});
  }
  return Json::Of({{"type", Json("function")}, {"function", Json(std::move(function))}});
}

std::optional<ApiError> SetToolChoice(Json& choice, Json* chat) {
  const std::string* type = choice.FindString("type");
  if (type == nullptr) return Fault("tool_choice", "expected an object with a 'type'.");
  if (*type == "auto" || *type == "none") {
    chat->Set("tool_choice", Json(*type));
  } else if (*type == "any") {
    chat->Set("tool_choice", Json("required"));
  } else if (*type == "tool") {
    if (choice.FindString("name") == nullptr) return Fault("tool_choice.name", "expected a string.");
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

std::optional<ApiError> SetTools(Fields& fields, Json* chat) {
  Json* tools = fields.Array("tools", kMaxTools);
  Json* choice = fields.Any("tool_choice");
  if (tools == nullptr || tools->array()->empty()) return std::nullopt;
  Json::Array out;
  for (size_t i = 0; i < tools->array()->size(); ++i) {
    Result<Json> tool = ChatTool((*tools->array())[i], fmt::format("tools.{}", i));
    if (!tool) return std::move(tool).error();
    out.push_back(std::move(*tool));
  }
  chat->Set("tools", Json(std::move(out)));
  return choice != nullptr ? SetToolChoice(*choice, chat) : std::nullopt;
}

// `thinking` is the template's variable enable_thinking, unless the request sets that itself.
std::optional<ApiError> SetThinking(Fields& fields, Json* chat) {
  Json* given = fields.Object("chat_template_kwargs", kMaxTemplateKwargs);
  Json kwargs = given != nullptr ? std::move(*given) : Json(Json::Object{});
  if (const Json* thinking = fields.Any("thinking")) {
    const std::string* type = thinking->FindString("type");
    if (type == nullptr) return Fault("thinking", "expected an object with a 'type'.");
    if (kwargs.Find("enable_thinking") == nullptr) kwargs.Set("enable_thinking", Json(*type != "disabled"));
    const Json* budget = thinking->Find("budget_tokens");
    if (!IsAbsent(budget)) {
      const std::optional<int64_t> tokens = LaxInt(*budget);
      if (!tokens || *tokens < 0) return Fault("thinking.budget_tokens", "expected an integer of at least 0.");
      chat->Set("thinking_token_budget", Json(*tokens));
    }
  }
  if (!kwargs.object()->empty()) chat->Set("chat_template_kwargs", std::move(kwargs));
  return std::nullopt;
}

std::optional<ApiError> SetStops(Fields& fields, const ApiOptions& options, Json* chat) {
  auto stops = fields.StringList("stop_sequences", static_cast<size_t>(options.max_stop_strings), kMaxStopBytes);
  if (!stops) return std::nullopt;
  Json::Array out;
  for (size_t i = 0; i < stops->size(); ++i) {
    if ((*stops)[i].empty()) return Fault(fmt::format("stop_sequences.{}", i), "must not be an empty string.");
    out.push_back(Json(std::move((*stops)[i])));
  }
  chat->Set("stop", Json(std::move(out)));
  return std::nullopt;
}

}  // namespace

Result<Json> ChatBodyOfMessages(Json body, bool needs_max_tokens, const ApiOptions& options) {
  SchemaErrors errors;
  Fields fields(body, &errors);
  if (fields.Any("max_tokens") == nullptr && needs_max_tokens) {
    fields.Report("missing", "max_tokens", "Field required");
  }
  Json* messages = fields.Array("messages", kMaxMessages);
  if (fields.Any("messages") == nullptr) fields.Report("missing", "messages", "Field required");
  if (!errors.empty()) return Fail(errors.ToError());
  if (messages->array()->empty()) return Fail(Fault("messages", "must not be an empty list."));

  Json chat{Json::Object{}};
  Json::Array chat_messages;
  if (Json* system = fields.Any("system")) {
    API_RETURN_IF_ERROR(CheckText(*system, "system"));
    chat_messages.push_back(Message("system", std::move(*system)));
  }
  for (size_t i = 0; i < messages->array()->size(); ++i) {
    API_RETURN_IF_ERROR(AddMessage((*messages->array())[i], i, &chat_messages));
  }
  chat.Set("messages", Json(std::move(chat_messages)));
  API_RETURN_IF_ERROR(SetTools(fields, &chat));
  API_RETURN_IF_ERROR(SetThinking(fields, &chat));
  API_RETURN_IF_ERROR(SetStops(fields, options, &chat));
  // These mean the same in both.
  for (const char* name : {"model", "max_tokens", "temperature", "top_p", "top_k", "stream"}) {
    if (Json* value = fields.Any(name)) chat.Set(name, std::move(*value));
  }
  if (!errors.empty()) return Fail(errors.ToError());
  NoteUnreadFields(fields);
  return chat;
}

}  // namespace tiercel::api
