// ChatTemplate: a model's Jinja template, rendered as Hugging Face renders it.
// Immutable; every member may be called from any thread. Templates are untrusted: they reach nothing
// but the given values, and are rendered in a process of their own, bounded in steps, memory and time
// (text/template_pool.h), while the caller waits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "text/template_pool.h"

namespace tiercel::text {

class ChatTemplate {
 public:
  // Syntax errors are reported with the template's line. Unavailable: see TemplatePool::Run.
  static Expected<std::shared_ptr<const ChatTemplate>> Compile(std::shared_ptr<TemplatePool> pool,
                                                               std::string source);
  // The template of a model folder, from the first of these that has one: chat_template.jinja,
  // tokenizer_config.json's chat_template (a string, or the "default" of a list),
  // chat_template.json. NotFound if there is none.
  static Expected<std::string> FindSource(const std::string& dir);

  // `values_json` is one JSON object with the template's variables: messages, tools (may be
  // absent), add_generation_prompt, bos_token, eos_token and the request's chat_template_kwargs.
  // Key order is kept. raise_exception in the template gives InvalidArgument with its text, and so do
  // its other faults. Unavailable: see TemplatePool::Run.
  Expected<std::string> Render(std::string_view values_json) const;

  const std::string& source() const { return source_; }

 private:
  ChatTemplate(std::shared_ptr<TemplatePool> pool, std::string source)
      : pool_(std::move(pool)), source_(std::move(source)) {}

  const std::shared_ptr<TemplatePool> pool_;  // shared by all templates of a server
  const std::string source_;
};

}  // namespace tiercel::text
