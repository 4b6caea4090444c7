#include "api/render_chat.h"

#include "api/bounds.h"
#include "api/chat_messages.h"
#include "api/json_writer.h"
#include "text/blanks.h"

namespace tiercel::api {

namespace {

void AppendValue(std::string* out, std::string_view key, const Json& value) {
  AppendJsonString(out, key);
  out->push_back(':');
  value.AppendTo(out);
  out->push_back(',');
}

// Marks the place in the rendering where the final message's content ends. If its
// own blank is gone from behind it, the template strips contents.
constexpr std::string_view kEndMark = "END_OF_THE_FINAL_MESSAGE ";

// The strings of `value`, with added tokens in them made text.
Json Marked(const Json& value, const text::Tokenizer& tokenizer) {
  if (const std::string* text = value.string()) return tokenizer.Marked(*text);
  if (const Json::Array* items = value.array()) {
    Json::Array marked;
    for (const Json& item : *items) marked.push_back(Marked(item, tokenizer));
    return marked;
  }
  if (const Json::Object* members = value.object()) {
    Json::Object marked;
    for (const auto& [key, member] : *members) {
      marked.push_back({tokenizer.Marked(key), Marked(member, tokenizer)});
    }
    return marked;
  }
  return value;
}

// A message of the application itself, or of the model: templates look for tags in the latter.
bool IsTrusted(const Json& message) {
  const std::string* role = message.FindString("role");
  return role != nullptr && (*role == "system" || *role == "developer" || *role == "assistant");
}

// What others have written into a chat is text, whatever it looks like.
ChatInput WithoutSpecialTokens(ChatInput chat, const text::Tokenizer& tokenizer) {
  for (Json& message : chat.messages) {
    if (!IsTrusted(message)) message = Marked(message, tokenizer);
  }
  chat.tools = Marked(chat.tools, tokenizer);
  chat.documents = Marked(chat.documents, tokenizer);
  return chat;
}

// Less than their JSON has.
size_t InputBytes(const ChatInput& chat) {
  size_t bytes = chat.tools.StringBytes() + chat.documents.StringBytes();
  for (const Json& message : chat.messages) bytes += message.StringBytes();
  for (const Json::Member& member : chat.template_kwargs) bytes += member.value.StringBytes();
  return bytes;
}

// The text of a message, or of its last part.
void SetFinalText(std::string text, Json* message) {
  Json* content = message->Find("content");
  if (content == nullptr || content->array() == nullptr) {
    message->Set("content", Json(std::move(text)));
  } else if (content->array()->empty()) {
    content->array()->push_back(TextPart(std::move(text)));
  } else {
    content->array()->back().Set("text", Json(std::move(text)));
  }
}

std::string TemplateValues(const ChatInput& chat, const ModelInfo& model) {
  std::string values = "{";
  for (const Json::Member& member : chat.template_kwargs) {
    AppendValue(&values, member.key, member.value);
  }
  // Defined, and none where the request has none: transformers passes them always.
  AppendValue(&values, "tools", chat.tools);
  AppendValue(&values, "documents", chat.documents);
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
    if (chat.continue_final_message && i + 1 == chat.messages.size()) {
      Json marked = chat.messages[i];
      SetFinalText(std::string(FinalContent(chat)).append(kEndMark), &marked);
      marked.AppendTo(&values);
    } else {
      chat.messages[i].AppendTo(&values);
    }
  }
  values += "]}";
  return values;
}

Result<std::string> CutAtEndMark(std::string rendered, std::string_view content) {
  const size_t at = rendered.rfind(text::RightStripped(kEndMark));
  if (at == std::string::npos || rendered.find(text::Stripped(content)) == std::string::npos) {
    return Fail(BadRequest(
        "continue_final_message is set but the final message does not appear in the chat after "
        "applying the chat template! This can happen if the chat template deletes portions of the "
        "final message.",
        "continue_final_message"));
  }
  const bool keeps_blanks = rendered.compare(at, kEndMark.size(), kEndMark) == 0;
  rendered.resize(at);
  if (!keeps_blanks) rendered.resize(text::RightStripped(rendered).size());
  return rendered;
}

// A template that fails, or does not fit into its bounds, is the request's fault.
ApiError TemplateError(const Status& status, std::string param) {
  ApiError error = FromStatus(status);
  error.param = std::move(param);
  return error;
}

Result<std::string> Render(const ChatInput& chat, const ModelInfo& model) {
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
  // What is far too large is not written first.
  size_t bytes = InputBytes(chat);
  std::string values;
  if (bytes <= kMaxChatInputBytes) {
    values = TemplateValues(chat, model);
    bytes = values.size();
  }
  if (bytes > kMaxChatInputBytes) {
    return Fail(BadParameter(
        fmt::format("The messages, tools and documents must have at most {} bytes as JSON.",
                    kMaxChatInputBytes),
        "messages", std::to_string(bytes)));
  }
  Expected<std::string> rendered = chat_template->Render(values);
  if (!rendered) return Fail(TemplateError(rendered.error(), "messages"));
  if (!chat.continue_final_message) return std::move(*rendered);
  return CutAtEndMark(std::move(*rendered), FinalContent(chat));
}

}  // namespace

bool TakesParts(const ModelInfo& model) {
  constexpr std::string_view kText = "SOME_TEXT";
  if (model.chat_template == nullptr) return false;
  ChatInput chat;
  chat.messages.push_back(Json::Of(
      {{"role", Json("user")}, {"content", Json(Json::Array{TextPart(std::string(kText))})}}));
  const Result<std::string> text = RenderChat(chat, model);
  // Who takes content for text prints the list.
  return text && text->find(kText) != std::string::npos &&
         text->find("'type'") == std::string::npos && text->find("\"type\"") == std::string::npos;
}

std::string_view FinalContent(const ChatInput& chat) {
  const Json* content = chat.messages.back().Find("content");
  if (content != nullptr && content->array() != nullptr && !content->array()->empty()) {
    content = content->array()->back().Find("text");
  }
  return content != nullptr && content->string() != nullptr ? std::string_view(*content->string())
                                                            : std::string_view();
}

Result<std::string> RenderChat(const ChatInput& chat, const ModelInfo& model) {
  return model.tokenizer->splits_special_tokens()
             ? Render(WithoutSpecialTokens(chat, *model.tokenizer), model)
             : Render(chat, model);
}

}  // namespace tiercel::api
