#include "api/render_chat.h"

#include "api/bounds.h"
#include "api/json_writer.h"

namespace tiercel::api {

namespace {

void AppendValue(std::string* out, std::string_view key, const Json& value) {
  AppendJsonString(out, key);
  out->push_back(':');
  value.AppendTo(out);
  out->push_back(',');
}

std::string TemplateValues(const ChatInput& chat, const ModelInfo& model) {
  std::string values = "{";
  for (const Json::Member& member : chat.template_kwargs) {
    AppendValue(&values, member.key, member.value);
  }
  if (!chat.tools.is_null()) AppendValue(&values, "tools", chat.tools);
  if (!chat.documents.is_null()) AppendValue(&values, "documents", chat.documents);
  if (const auto bos = model.tokenizer->bos()) {
    AppendValue(&values, "bos_token", Json(model.tokenizer->TokenBytes(*bos)));
  }
  if (const auto eos = model.tokenizer->eos()) {
    AppendValue(&values, "eos_token", Json(model.tokenizer->TokenBytes(*eos)));
  }
  AppendValue(&values, "add_generation_prompt", Json(chat.add_generation_prompt));
  values += R"("messages":[)";
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    if (i > 0) values.push_back(',');
    chat.messages[i].AppendTo(&values);
  }
  values += "]}";
  return values;
}

// Cuts the rendering right after the final message's content, as transformers does: the template
// may have stripped the content's own blanks, which then decide where the cut lies.
Result<std::string> CutAfterFinalMessage(std::string rendered, std::string_view content) {
  constexpr std::string_view kBlanks = " \t\n\r\v\f";
  const size_t first = content.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) {
    return Fail(BadRequest("continue_final_message is set but the final message has no content.",
                           "continue_final_message"));
  }
  const std::string_view left_stripped = content.substr(first);
  const std::string_view stripped =
      left_stripped.substr(0, left_stripped.find_last_not_of(kBlanks) + 1);
  const size_t at = rendered.rfind(stripped);
  if (at == std::string::npos) {
    return Fail(BadRequest(
        "continue_final_message is set but the final message does not appear in the chat after "
        "applying the chat template! This can happen if the chat template deletes portions of the "
        "final message.",
        "continue_final_message"));
  }
  const bool whole = rendered.compare(at, left_stripped.size(), left_stripped) == 0;
  rendered.resize(at + (whole ? left_stripped.size() : stripped.size()));
  return rendered;
}

// A template that fails, or does not fit into its bounds, is the request's fault.
ApiError TemplateError(const Status& status, std::string param) {
  ApiError error = FromStatus(status);
  error.param = std::move(param);
  return error;
}

}  // namespace

std::string_view FinalContent(const ChatInput& chat) {
  const Json* content = chat.messages.back().Find("content");
  return content != nullptr && content->string() != nullptr ? std::string_view(*content->string())
                                                            : std::string_view();
}

Result<std::string> RenderChat(const ChatInput& chat, const ModelInfo& model) {
  std::shared_ptr<const text::ChatTemplate> chat_template = model.chat_template;
  if (!chat.chat_template.empty()) {
    Expected<std::shared_ptr<const text::ChatTemplate>> own =
        text::ChatTemplate::Compile(model.template_pool, chat.chat_template);
    if (!own) return Fail(TemplateError(own.error(), "chat_template"));
    chat_template = *own;
  }
  if (chat_template == nullptr) {
    return Fail(BadRequest(
        "The model has no chat template: none was found beside its tokenizer. Give one with "
        "--chat-template.",
        "chat_template"));
  }
  const std::string values = TemplateValues(chat, model);
  if (values.size() > kMaxChatInputBytes) {
    return Fail(BadParameter(
        fmt::format("The messages, tools and documents must have at most {} bytes as JSON.",
                    kMaxChatInputBytes),
        "messages", std::to_string(values.size())));
  }
  Expected<std::string> rendered = chat_template->Render(values);
  if (!rendered) return Fail(TemplateError(rendered.error(), "messages"));
  if (!chat.continue_final_message) return std::move(*rendered);
  return CutAfterFinalMessage(std::move(*rendered), FinalContent(chat));
}

}  // namespace tiercel::api
