#include "api/chat_messages.h"

#include <algorithm>

#include "api/json_reader.h"

namespace tiercel::api {

namespace {

constexpr std::string_view kTextParts[] = {"text", "input_text", "output_text"};
constexpr std::string_view kMediaParts[] = {"image_url",   "image",       "image_embeds",
                                            "image_pil",   "input_image", "input_audio",
                                            "audio_url",   "audio",       "video_url",
                                            "video",       "file",        "input_file",
                                            "audio_embeds"};

template <typename Range>
bool Contains(const Range& range, std::string_view text) {
  return std::find(std::begin(range), std::end(range), text) != std::end(range);
}

// One part's text, appended to `texts`.
std::optional<ApiError> AppendPart(Json& part, std::vector<std::string>* texts) {
  std::string* text = part.string();  // vLLM takes bare strings in the list as well
  if (text == nullptr) {
    const Json* type_field = part.Find("type");
    const std::string* type = type_field != nullptr ? type_field->string() : nullptr;
    if (type == nullptr) return BadRequest("Missing 'type' field in message part.", "messages");
    if (Contains(kMediaParts, *type)) {
      return BadRequest(
          fmt::format("Content part of type '{}' is not supported: the model is text only.", *type),
          "messages");
    }
    std::string_view field;
    if (Contains(kTextParts, *type)) field = "text";
    if (*type == "refusal") field = "refusal";
    if (*type == "thinking") return std::nullopt;  // earlier turns' thoughts are not content
    if (field.empty()) {
      return BadRequest(fmt::format("Unknown part type: {}", type->substr(0, 64)), "messages");
    }
    Json* value = part.Find(field);
    text = value != nullptr ? value->string() : nullptr;
    if (text == nullptr) {
      return BadRequest(fmt::format("Expected '{}' field in message part of type '{}'.", field,
                                    *type),
                        "messages");
    }
  }
  texts->push_back(std::move(*text));
  return std::nullopt;
}

Result<std::vector<std::string>> ContentTexts(Json* content, const std::string& path,
                                              SchemaErrors* errors) {
  std::vector<std::string> texts;
  if (content == nullptr || content->is_null()) return texts;
  if (std::string* text = content->string()) {
    texts.push_back(std::move(*text));
    return texts;
  }
  if (Json::Array* parts = content->array()) {
    if (parts->size() > kMaxContentParts) {
      errors->Add("too_long", path + ".content",
                  fmt::format("List should have at most {} items after validation, not {}",
                              kMaxContentParts, parts->size()),
                  nullptr);
      return texts;
    }
    for (Json& part : *parts) API_RETURN_IF_ERROR(AppendPart(part, &texts));
    return texts;
  }
  errors->Add("string_type", path + ".content", "Input should be a valid string or list", content);
  return texts;
}

// Content as the template takes it.
Json Content(std::vector<std::string> texts, bool as_parts) {
  if (as_parts) {
    Json::Array parts;
    for (std::string& text : texts) parts.push_back(TextPart(std::move(text)));
    return Json(std::move(parts));
  }
  std::string joined;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) joined.push_back('\n');
    joined += texts[i];
  }
  return Json(std::move(joined));
}

// "{\"a\":1}" becomes {"a":1}; absent and empty become {}.
// `values_left`: what all arguments of the body may still have together.
Result<Json> ParsedArguments(Json* arguments, int64_t* values_left) {
  if (arguments == nullptr || arguments->is_null()) return Json(Json::Object{});
  const std::string* text = arguments->string();
  if (text == nullptr) return std::move(*arguments);
  if (text->empty()) return Json(Json::Object{});
  int64_t num_values = 0;
  Expected<Json> parsed = ParseJson(*text, {.max_values = *values_left}, &num_values);
  *values_left -= num_values;
  if (!parsed) {
    return Fail(BadRequest(
        fmt::format("Invalid JSON in tool_calls arguments: {}", parsed.error().message()),
        "messages"));
  }
  return std::move(*parsed);
}

std::optional<ApiError> ParseToolCalls(Json* calls, int64_t* values_left) {
  for (Json& call : *calls->array()) {
    Json* function = call.Find("function");
    if (function == nullptr || function->object() == nullptr) {
      return BadRequest("Each of tool_calls must have a 'function' object.", "messages");
    }
    Result<Json> arguments = ParsedArguments(function->Find("arguments"), values_left);
    if (!arguments) return std::move(arguments).error();
    function->Set("arguments", std::move(*arguments));
  }
  return std::nullopt;
}

Result<Json> TemplateMessage(Json& message, size_t index, bool as_parts, int64_t* values_left,
                             SchemaErrors* errors) {
  const std::string path = fmt::format("messages.{}", index);
  if (message.object() == nullptr) {
    errors->Add("dict_type", path, "Input should be a valid dictionary", &message);
    return Json(Json::Object{});
  }
  Fields fields(message, errors, path);
  std::optional<std::string> role = fields.String("role", kMaxRoleBytes);
  if (!role) {
    const Json* given = message.Find("role");
    if (given == nullptr) fields.Report("missing", "role", "Field required");
    if (given != nullptr && given->is_null()) {
      fields.Report("string_type", "role", "Input should be a valid string", given);
    }
    return Json(Json::Object{});
  }
  if (*role == "developer") role = "system";
  API_ASSIGN_OR_RETURN(std::vector<std::string> texts,
                       ContentTexts(message.Find("content"), path, errors));
  Json::Object out;
  out.push_back({"role", Json(*role)});
  out.push_back({"content", Content(std::move(texts), as_parts)});
  if (auto name = fields.String("name", kMaxRoleBytes)) {
    out.push_back({"name", Json(std::move(*name))});
  }
  if (*role == "assistant") {
    Json* calls = fields.Array("tool_calls", kMaxTools);
    if (calls != nullptr && !calls->array()->empty()) {
      API_RETURN_IF_ERROR(ParseToolCalls(calls, values_left));
      out.push_back({"tool_calls", std::move(*calls)});
    }
    std::optional<std::string> reasoning = fields.String("reasoning");
    if (!reasoning) reasoning = fields.String("reasoning_content");
    if (reasoning) {
      out.push_back({"reasoning", Json(*reasoning)});
      out.push_back({"reasoning_content", Json(std::move(*reasoning))});
    }
  } else if (*role == "tool") {
    if (auto id = fields.String("tool_call_id", kMaxRoleBytes)) {
      out.push_back({"tool_call_id", Json(std::move(*id))});
    }
  }
  return Json(std::move(out));
}

std::optional<ApiError> ReadMessages(Fields& fields, bool as_parts, Json::Array* out) {
  Json* messages = fields.Array("messages", kMaxMessages);
  if (messages == nullptr) {
    if (fields.Any("messages") == nullptr) fields.Report("missing", "messages", "Field required");
    return std::nullopt;
  }
  if (messages->array()->empty()) {
    return BadParameter("`messages` must not be an empty array.", "messages", "[]");
  }
  SchemaErrors errors;
  int64_t values_left = kMaxJsonValues;
  out->reserve(messages->array()->size());
  for (size_t i = 0; i < messages->array()->size() && !errors.full(); ++i) {
    Result<Json> message = TemplateMessage((*messages->array())[i], i, as_parts, &values_left, &errors);
    if (!message) return std::move(message).error();
    out->push_back(std::move(*message));
  }
  if (!errors.empty()) return errors.ToError();
  return std::nullopt;
}

// The server's default, under the request's own, and reasoning_effort below both.
std::optional<ApiError> ReadTemplateKwargs(Fields& fields, const ApiOptions& options,
                                           Json::Object* kwargs) {
  Json merged{Json::Object{}};
  if (!options.default_chat_template_kwargs.empty()) {
    if (Expected<Json> parsed = ParseJson(options.default_chat_template_kwargs);
        parsed && parsed->object() != nullptr) {
      merged = std::move(*parsed);
    }
  }
  Json* given = fields.Object("chat_template_kwargs", kMaxTemplateKwargs);
  if (const auto effort = fields.String("reasoning_effort")) {
    constexpr std::string_view kEfforts[] = {"none", "minimal", "low",
                                             "medium", "high", "xhigh", "max"};
    if (!Contains(kEfforts, *effort)) {
      return BadParameter("reasoning_effort must be one of none, minimal, low, medium, high, "
                          "xhigh, max.",
                          "reasoning_effort", effort->substr(0, 64));
    }
    merged.Set("reasoning_effort", Json(*effort));
    if (merged.Find("enable_thinking") == nullptr) {
      merged.Set("enable_thinking", Json(*effort != "none"));
    }
  }
  if (given != nullptr) {
    for (Json::Member& member : *given->object()) merged.Set(member.key, std::move(member.value));
  }
  // These have fields of their own; a second spelling would contradict them.
  for (const char* name : {"messages", "tools", "documents", "chat_template", "tokenize",
                           "add_generation_prompt", "continue_final_message", "bos_token",
                           "eos_token"}) {
    merged.Erase(name);
  }
  *kwargs = std::move(*merged.object());
  return std::nullopt;
}

// The parts of a tool that have a type; what else it has is for the template.
void CheckTool(const Json& tool, const std::string& path, Fields& fields) {
  if (const Json* type = tool.Find("type");
      type != nullptr && (type->string() == nullptr || *type->string() != "function")) {
    fields.Report("literal_error", path + ".type", "Input should be 'function'", type);
  }
  const Json* function = tool.Find("function");
  const Json* name = function != nullptr ? function->Find("name") : nullptr;
  if (name == nullptr) {
    fields.Report("missing", path + ".function.name", "Field required");
  } else if (name->string() == nullptr) {
    fields.Report("string_type", path + ".function.name", "Input should be a valid string", name);
  }
  if (function == nullptr) return;
  if (const Json* text = function->Find("description");
      text != nullptr && !text->is_null() && text->string() == nullptr) {
    fields.Report("string_type", path + ".function.description", "Input should be a valid string",
                  text);
  }
  if (const Json* parameters = function->Find("parameters");
      parameters != nullptr && !parameters->is_null() && parameters->object() == nullptr) {
    fields.Report("dict_type", path + ".function.parameters",
                  "Input should be a valid dictionary", parameters);
  }
}

}  // namespace

Json TextPart(std::string text) {
  return Json::Of({{"type", Json("text")}, {"text", Json(std::move(text))}});
}

std::optional<ApiError> ReadChatInput(Fields& fields, const ApiOptions& options, ChatInput* chat) {
  // What a request's own template takes is not known.
  const bool as_parts = options.content_format == ContentFormat::kOpenAi ||
                        (options.content_format == ContentFormat::kAuto &&
                         options.template_takes_parts && fields.Any("chat_template") == nullptr);
  if (auto error = ReadMessages(fields, as_parts, &chat->messages)) return error;
  if (Json* tools = fields.Array("tools", kMaxTools)) {
    if (tools->array()->empty()) {
      return BadParameter(
          "`tools` must not be an empty array. Either provide at least one tool or omit the field "
          "entirely.",
          "tools", "[]");
    }
    for (size_t i = 0; i < tools->array()->size() && !fields.full(); ++i) {
      CheckTool((*tools->array())[i], fmt::format("tools.{}", i), fields);
    }
    chat->tools = std::move(*tools);
  }
  if (Json* documents = fields.Array("documents", kMaxTools)) {
    chat->documents = std::move(*documents);
  }
  if (auto error = ReadTemplateKwargs(fields, options, &chat->template_kwargs)) return error;
  chat->add_generation_prompt = fields.Bool("add_generation_prompt").value_or(true);
  chat->continue_final_message = fields.Bool("continue_final_message").value_or(false);
  if (chat->continue_final_message) {
    const Json* add = fields.Any("add_generation_prompt");
    if (add != nullptr && chat->add_generation_prompt) {
      return BadRequest(
          "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
          "continue_final_message");
    }
    chat->add_generation_prompt = false;
  }
  if (auto source = fields.String("chat_template", kMaxTemplateBytes)) {
    if (!options.trust_request_chat_template) {
      return BadRequest(
          "Chat template is passed with request, but --trust-request-chat-template is not set. "
          "Refused request with untrusted chat template.",
          "chat_template");
    }
    chat->chat_template = std::move(*source);
  }
  for (const char* name : {"mm_processor_kwargs", "media_io_kwargs"}) {
    if (fields.Any(name) != nullptr) {
      return BadRequest(fmt::format("`{}` is not supported: the model is text only.", name), name);
    }
  }
  return std::nullopt;
}

const std::string* FunctionName(const Json& tool) {
  const Json* function = tool.Find("function");
  return function != nullptr ? function->FindString("name") : nullptr;
}

Result<ToolChoice> ReadToolChoice(Fields& fields, const ApiOptions& options, ChatInput* chat) {
  const Json* choice = fields.Any("tool_choice");
  const std::string* word = choice != nullptr ? choice->string() : nullptr;
  if (chat->tools.is_null()) {
    if (choice != nullptr && (word == nullptr || *word != "none")) {
      return Fail(BadRequest("When using `tool_choice`, `tools` must be set.", "tool_choice"));
    }
    return ToolChoice{ToolChoice::kNone, {}};
  }
  if (word != nullptr && *word == "none") {
    if (options.exclude_tools_when_tool_choice_none) chat->tools = Json();
    return ToolChoice{ToolChoice::kNone, {}};
  }
  if (choice == nullptr || (word != nullptr && *word == "auto")) {
    if (options.auto_tool_choice) return ToolChoice{ToolChoice::kAuto, {}};
    return Fail(BadRequest(
        "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",
        "tool_choice"));
  }
  if (word != nullptr && *word == "required") return ToolChoice{ToolChoice::kRequired, {}};
  const std::string* name = FunctionName(*choice);
  if (name == nullptr) {
    return Fail(BadParameter("Invalid value for `tool_choice`.", "tool_choice",
                             choice->DumpStart(64)));
  }
  const Json::Array& tools = *chat->tools.array();
  const bool found = std::any_of(tools.begin(), tools.end(), [&](const Json& tool) {
    const std::string* candidate = FunctionName(tool);
    return candidate != nullptr && *candidate == *name;
  });
  if (!found) {
    return Fail(BadRequest(
        "The tool specified in `tool_choice` does not match any of the specified `tools`",
        "tool_choice"));
  }
  return ToolChoice{ToolChoice::kNamed, *name};
}

}  // namespace tiercel::api
