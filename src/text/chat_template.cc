#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "text/files.h"

namespace tiercel::text {

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

Expected<std::shared_ptr<const ChatTemplate>> ChatTemplate::Compile(
    std::shared_ptr<TemplatePool> pool, std::string source) {
  ASSIGN_OR_RETURN(const std::string nothing,
                   pool->Run({.kind = TemplateJob::Kind::kCompile, .source = source, .values = {}}));
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::move(pool), std::move(source)));
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
  return pool_->Run(
      {.kind = TemplateJob::Kind::kRender, .source = source_, .values = values_json});
}

}  // namespace tiercel::text
