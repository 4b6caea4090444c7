#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "text/ffi.h"
#include "text/ffi_bytes.h"
#include "text/files.h"

namespace tiercel::text {

struct ChatTemplate::Impl {
  ~Impl() { tiercel_template_free(handle); }
  TiercelTemplate* handle = nullptr;
};

namespace {

constexpr size_t kMaxFileBytes = size_t{16} << 20;

// The chat_template entry of a JSON file: a string, or a list of {name, template}.
std::optional<std::string> TemplateField(const std::string& json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("chat_template")) return std::nullopt;
  const auto& field = parsed["chat_template"];
  if (field.is_string()) return field.get<std::string>();
  if (!field.is_array()) return std::nullopt;
  for (const auto& entry : field) {
    if (entry.is_object() && entry.value("name", nlohmann::json()) == "default" &&
        entry.contains("template") && entry["template"].is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  return std::nullopt;
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

Expected<std::shared_ptr<const ChatTemplate>> ChatTemplate::Compile(std::string_view source) {
  auto impl = std::make_unique<Impl>();
  FfiBytes error;
  impl->handle = tiercel_template_compile(FfiData(source), source.size(), error.out());
  if (impl->handle == nullptr) return Unexpected(InvalidArgument("{}", error.text()));
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

Expected<std::string> ChatTemplate::FindSource(const std::string& dir) {
  ASSIGN_OR_RETURN(auto jinja, ReadFileIfPresent(dir + "/chat_template.jinja", kMaxFileBytes));
  if (jinja) return std::move(*jinja);
  ASSIGN_OR_RETURN(const auto config,
                   ReadFileIfPresent(dir + "/tokenizer_config.json", kMaxFileBytes));
  if (config) {
    if (auto source = TemplateField(*config)) return std::move(*source);
  }
  ASSIGN_OR_RETURN(const auto json, ReadFileIfPresent(dir + "/chat_template.json", kMaxFileBytes));
  if (json) {
    if (auto source = TemplateField(*json)) return std::move(*source);
  }
  return Unexpected(NotFound(
      "{}: no chat template found in chat_template.jinja, tokenizer_config.json or "
      "chat_template.json; give one with --chat-template",
      dir));
}

Expected<std::string> ChatTemplate::Render(std::string_view values_json) const {
  FfiBytes text, error;
  if (!tiercel_template_render(impl_->handle, FfiData(values_json), values_json.size(), text.out(),
                               error.out())) {
    return Unexpected(InvalidArgument("{}", error.text()));
  }
  return text.text();
}

}  // namespace tiercel::text
