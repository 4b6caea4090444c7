// ChatTemplate: a model's Jinja template, rendered as Hugging Face renders it.
// Immutable; every member may be called from any thread. Templates are untrusted: no access to
// anything but the given values, bounded steps, recursion and memory. A rendering runs on a thread
// of its own while the caller waits (rust/text_ffi/src/sandbox.rs says why).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tiercel::text {

class ChatTemplate {
 public:
  // Syntax errors are reported with the template's line.
  static Expected<std::shared_ptr<const ChatTemplate>> Compile(std::string_view source);
  // The template of a model folder, from the first of these that has one: chat_template.jinja,
  // tokenizer_config.json's chat_template (a string, or the "default" of a list),
  // chat_template.json. NotFound if there is none.
  static Expected<std::string> FindSource(const std::string& dir);
  ~ChatTemplate();

  // `values_json` is one JSON object with the template's variables: messages, tools (may be
  // absent), add_generation_prompt, bos_token, eos_token and the request's chat_template_kwargs.
  // Key order is kept. raise_exception in the template gives InvalidArgument with its text.
  Expected<std::string> Render(std::string_view values_json) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel::text
